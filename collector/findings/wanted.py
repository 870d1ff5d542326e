"""What would decide a claim, and the suite and cells that provide it. Pure."""

from __future__ import annotations


def from_suite(what: str, suite: str, cells: str) -> str:
    """Trials that a suite of phasewatt provides."""
    return f"{what}: `phasewatt-agent run {suite}` ({cells})"


def from_command(what: str, command: str) -> str:
    """Trials that a command of phasewatt's agent provides."""
    return f"{what}: `phasewatt-agent {command}`"


def from_none(what: str) -> str:
    """Trials that no suite of this version provides."""
    return f"{what}: no suite of this version provides them"


PREFILLS = from_suite(
    "prefill of one sequence over lengths up to 32K, with device-busy time",
    "paper",
    "prompt_tokens 128 to 32700, phases prefill",
)
DECODES = from_suite(
    "decode of one sequence over depths up to 32K, with device-busy time",
    "paper",
    "prompt_tokens 512 to 32700, phases decode",
)
CEILINGS = from_suite("the ceilings of this machine", "ceilings", "matmul and read; paper has those of its dtype")
