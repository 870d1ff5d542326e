"""Whether counters can be read on this host at all."""

from __future__ import annotations

from pathlib import Path

from agent.counters import tool
from agent.counters.tool import Tool
from phasewatt.errors import EngineAbsent

ABSENT = "ncu is not here"


def ready(path: Path | None = None, root: Path = Path("/")) -> Tool:
    """The tool, found and permitted; `path` is where it is, None: it is looked for.

    Raises:
        EngineAbsent: it is not here, or may not count; with the remedy.
    """
    found = path or tool.find(root)
    if found is None or not found.is_file():
        raise EngineAbsent(f"counters: {ABSENT if path is None else f'no file {path}'}; {tool.INSTALL}")
    refused = tool.refusal(root)
    if refused is not None:
        raise EngineAbsent(f"counters: {refused}; {tool.REMEDY}")
    return tool.asked(found)
