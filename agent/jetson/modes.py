"""The power mode that a Jetson is in, by name and id: from `nvpmodel -q`, else from the files that it keeps."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from agent.kernel_files import text

_LIMIT_S = 2.0
_MOST_BYTES = 16384
_PROGRAMS = ("usr/sbin/nvpmodel", "usr/bin/nvpmodel")
_SAID = re.compile(r"NV Power Mode: *(\S+)\s*^([0-9]+)$", re.MULTILINE)
_KEPT = re.compile(r"pmode:([0-9]+)")
_NAMED = re.compile(r"<\s*POWER_MODEL\s+ID=([0-9]+)\s+NAME=(\S+?)\s*>")


class PowerMode(NamedTuple):
    """A mode; names and ids are of the module's own table. Without one, `reason` says why."""

    name: str | None
    id: int | None
    reason: str | None = None


def power_mode(root: Path, limit_s: float = _LIMIT_S) -> PowerMode:
    """The mode now; it takes a process, and up to `limit_s`."""
    program = _program(root)
    said = None if program is None else _SAID.search(_answer(program, limit_s))
    if said is not None:
        return PowerMode(said[1], int(said[2]))
    kept = _KEPT.search(text(root / "var/lib/nvpmodel/status") or "")
    if kept is not None:
        number = int(kept[1])
        return PowerMode(names(root).get(number), number)
    told = "nvpmodel is not installed" if program is None else f"{program} -q names no mode"
    return PowerMode(None, None, f"{told}, and {root / 'var/lib/nvpmodel/status'} has none")


def _program(root: Path) -> str | None:
    found = next((str(root / name) for name in _PROGRAMS if os.access(root / name, os.X_OK)), None)
    return found or (shutil.which("nvpmodel") if root == Path("/") else None)


def _answer(program: str, limit_s: float) -> str:
    """What it prints; nothing where it does not start, or not end in time."""
    try:
        child = subprocess.Popen(
            [program, "-q"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that what it started ends with it, and lets go of the pipe
        )
    except OSError:
        return ""
    assert child.stdout is not None
    said = _first_bytes(child.stdout.fileno(), time.monotonic() + limit_s)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)  # it has not been waited for, so its number is still its own
    child.stdout.close()
    with suppress(subprocess.TimeoutExpired):
        child.wait(limit_s)
    return said


def _first_bytes(pipe: int, deadline_s: float) -> str:
    """What comes before the pipe ends; nothing where it does not end in time, or says more than a mode."""
    said = b""
    while (left_s := deadline_s - time.monotonic()) > 0:
        ready, _, _ = select.select([pipe], [], [], left_s)
        piece = os.read(pipe, _MOST_BYTES) if ready else b""
        said += piece
        if ready and not piece:
            return said.decode(errors="replace")
        if len(said) > _MOST_BYTES:
            break
    return ""


def names(root: Path) -> dict[int, str]:
    """Names of the modes by id, as this module's table has them."""
    return {int(number): name for number, name in _NAMED.findall(text(root / "etc/nvpmodel.conf") or "")}
