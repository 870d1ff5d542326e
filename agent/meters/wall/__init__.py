"""Where power at the wall plug comes from. One file a source, one visible table, imported when named.

Adding one: a file, a line in `SOURCES`, its malformed answers in tests/agent/test_external_*.py, a part of
docs/wall-meters.md.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from agent.meters.wall.latest import Latest
from agent.meters.wall.spec import Quantity, Spec, check_keys
from phasewatt.errors import ConfigInvalid

SOURCES: Mapping[str, str] = {
    "csv": "agent.meters.wall.csv_file:CsvFile",
    "mqtt": "agent.meters.wall.mqtt_plug:MqttPlug",
    "ipmi": "agent.meters.wall.ipmi:Ipmi",
    "redfish": "agent.meters.wall.redfish:Redfish",
}


class Source(Protocol):
    """One wall meter as `Spec` names it. Making it raises ConfigInvalid for wrong options and touches no meter."""

    keys: frozenset[str]  # the options that it takes beside those of all sources
    quantities: tuple[Quantity, ...]
    silence: str  # what to look at where it is reached and nothing comes

    def follow(self, latest: Latest, wait: Callable[[float], bool]) -> None:
        """Hand on every reading as it comes, until `wait(seconds)` says that it is time to end; may block.

        Raises:
            MeterUnavailable: it cannot be reached, or is lost; the caller may try again.
        """


def source_of(spec: Spec) -> Source:
    """The source that `spec` names, not yet followed.

    Raises:
        ConfigInvalid: no such source, or options that it does not take.
    """
    if spec.kind not in SOURCES:
        raise ConfigInvalid(f"external: expected one of {', '.join(SOURCES)}, got {spec.kind!r}")
    module, _, name = SOURCES[spec.kind].partition(":")
    factory: Any = getattr(importlib.import_module(module), name)
    check_keys(spec, factory.keys)
    source: Source = factory(spec)
    return source
