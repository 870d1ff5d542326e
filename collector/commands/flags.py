"""Values that flags of several commands take."""

from __future__ import annotations

import argparse
import contextlib


def positive(text: str) -> int:
    """A whole number above 0, as argparse takes a type.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    with contextlib.suppress(ValueError):
        if (number := int(text)) > 0:
            return number
    raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
