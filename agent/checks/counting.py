"""Whether counters of single operators can be read here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from agent.checks import Finding, Subject
from agent.checks.software import has_gpu
from agent.counters import tool

_WHOLE = "clocks and NVML's averages over whole phases are recorded all the same"


def counters(subject: Subject) -> Iterator[Finding]:
    """Nsight Compute: there or not, permitted or not; not a question where there is no NVIDIA GPU."""
    if has_gpu(subject.root):
        yield counters_finding(subject.root, tool.find(subject.root))


def counters_finding(root: Path, program: Path | None) -> Finding:
    """The same of any host and program."""
    if program is None:
        return Finding("counters", None, f"ncu is not here; {_WHOLE}", tool.INSTALL)
    refused = tool.refusal(root)
    if refused is not None:
        return Finding("counters", None, f"{program}: {refused}; {_WHOLE}", tool.REMEDY)
    version = tool.asked(program).version
    return Finding("counters", True, f"ncu {version or 'of a version that it does not tell'} at {program}")
