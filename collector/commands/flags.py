"""Values that flags of several commands take."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    """A whole number above 0, as argparse takes a type.

    Raises:
        argparse.ArgumentTypeError: it is 0 or less.
        ValueError: it is no whole number, which argparse tells in words of its own.
    """
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return number
