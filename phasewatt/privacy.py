"""Which files the programs refuse because others could read a secret in them, or change what is done."""

from __future__ import annotations

import stat

_OTHERS_READ = stat.S_IROTH
_OTHERS_WRITE = stat.S_IWOTH


def complaint_of_secret(name: str, path: str, mode: int) -> str | None:
    """What is wrong with the mode of a file that holds a key or password, with the remedy; None: nothing.

    Its group may read it: that is how a service is given a file which it does not own.
    """
    if mode & (_OTHERS_READ | _OTHERS_WRITE):
        return f"{name}: others can read {path} (mode {stat.S_IMODE(mode):o}); chmod 600 {path}"
    if mode & stat.S_IWGRP:
        return f"{name}: others can write {path} (mode {stat.S_IMODE(mode):o}); chmod 600 {path}"
    return None


def complaint_of_settings(path: str, mode: int) -> str | None:
    """The same of a settings file, which names files of secrets and holds none: others may read, not write it."""
    if mode & _OTHERS_WRITE:
        return f"settings: others can write {path} (mode {stat.S_IMODE(mode):o}); chmod 644 {path}"
    return None
