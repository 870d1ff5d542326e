"""The program in the centre: stores what boards send, compares it, and shows it.

For notebooks and scripts: `collector.open(url)` gives what a database holds, as docs/python.md describes.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collector.results import Results
    from collector.results import open_results as open  # noqa: A004 - `collector.open(...)` is how it reads

__all__ = ["Results", "open"]

_FOUND = {"Results": "Results", "open": "open_results"}


def __getattr__(name: str) -> Any:
    """Loaded when it is asked for, so that a module of this package that does no I/O brings none by its parent."""
    if name not in _FOUND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("collector.results"), _FOUND[name])
