"""Which builds of onnxruntime are installed: for CPUs and for GPUs they are two distributions in one folder."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Mapping

BUILDS = ("onnxruntime", "onnxruntime-gpu")
REMEDY = f"pip uninstall -y {' '.join(BUILDS)}, then install the one that is wanted"


def installed() -> dict[str, str]:
    """Version by name of each build that is here."""
    found = {}
    for name in BUILDS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def words(found: Mapping[str, str]) -> str:
    """The builds in one line."""
    return " and ".join(f"{name} {version}" for name, version in found.items())


def conflict(found: Mapping[str, str]) -> str | None:
    """What is wrong with these builds; None: nothing."""
    if len(found) < len(BUILDS):
        return None
    return f"{words(found)} are both installed, in one folder: the last one to come wrote over files of the other"
