"""A simulated Jetson: a folder with the files and programs of a board, driven by power whose joules are known.

What it shows is labelled simulated wherever it goes: a meter under another root than "/" says so.
"""
