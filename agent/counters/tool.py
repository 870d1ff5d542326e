"""Nsight Compute's command line on this host: where it is, what version, and whether it may count."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from agent.kernel_files import text
from phasewatt.counter_metrics import base_of, is_pipe, is_stall

REMEDY = (
    "run as root (or with CAP_SYS_ADMIN), or let users count: options nvidia NVreg_RestrictProfilingToAdminUsers=0 "
    "in /etc/modprobe.d, then load the driver anew"
)
INSTALL = "install Nsight Compute (it comes with the CUDA toolkit), or put ncu on PATH"
_PLACES = ("usr/local/cuda*/bin/ncu", "opt/nvidia/nsight-compute/*/ncu")
_PARAMETERS = "proc/driver/nvidia/params"
_RESTRICTED = re.compile(r"^RmProfilingAdminOnly:\s*1\s*$", re.MULTILINE)
_CAPABILITIES = re.compile(r"^CapEff:\s*([0-9a-fA-F]+)\s*$", re.MULTILINE)
_SYS_ADMIN = 1 << 21  # Source: linux/capability.h
_VERSION = re.compile(r"Version\s+([0-9.]+)")
_COUNTER = re.compile(r"^\s*([a-z][a-z0-9]*__[a-z0-9_]+)\b", re.MULTILINE)
_ANSWER_S = 60.0

Ask = Callable[[list[str]], str]


class Tool(NamedTuple):
    """ncu as it was found."""

    path: Path
    version: str | None


def find(root: Path = Path("/"), search_path: str | None = None) -> Path | None:
    """The program: on PATH, else the newest where installers put it; None: it is not there."""
    named = shutil.which("ncu", path=search_path)
    if named is not None:
        return Path(named)
    found = [path for pattern in _PLACES for path in root.glob(pattern) if path.is_file()]
    return max(found, key=_by_numbers, default=None)


def refusal(root: Path = Path("/")) -> str | None:
    """Why this process may not count, or None where nothing forbids it that the kernel's files tell."""
    parameters, status = text(root / _PARAMETERS), text(root / "proc/self/status")
    if parameters is None or not _RESTRICTED.search(parameters):
        return None
    held = _CAPABILITIES.search(status or "")
    if held is not None and int(held[1], 16) & _SYS_ADMIN:
        return None
    return "not permitted: the driver keeps counters for administrators (RmProfilingAdminOnly is 1)"


def asked(path: Path, ask: Ask | None = None) -> Tool:
    """The tool at `path` with its version."""
    said = (ask or _answer)([str(path), "--version"])
    match = _VERSION.search(said)
    return Tool(path, match[1] if match else None)


def unknown_to(tool: Tool, names: Sequence[str], ask: Ask | None = None) -> frozenset[str]:
    """Which of `names` this GPU has not, as far as the tool's own list of counters tells; empty where there is none.

    Only stalls and pipes differ from GPU to GPU. A list that has none of a kind is not believed for that kind: what a
    launch is made of and what the tool derives is not in it either.
    """
    known = set(_COUNTER.findall((ask or _answer)([str(tool.path), "--query-metrics"])))
    kinds = ([name for name in names if is_one(name)] for is_one in (is_stall, is_pipe))
    return frozenset(
        name
        for kind in kinds
        if any(base_of(each) in known for each in kind)
        for name in kind
        if base_of(name) not in known
    )


def _by_numbers(path: Path) -> tuple[tuple[int, ...], str]:
    return tuple(int(part) for part in re.findall(r"[0-9]+", str(path))), str(path)


def _answer(command: list[str]) -> str:
    """What a command prints; "" where it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_ANSWER_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
