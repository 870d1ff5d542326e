"""The program in the centre: stores what boards send, compares it, and shows it."""
