"""The doctor's questions, one file a group. Each is a function of a `Subject` that gives findings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from agent.connection import BrokerSettings
from agent.host import Host
from agent.orders import Described
from agent.surveying import Surveyed


class Finding(Struct, frozen=True):
    """An answer. `ok` None: it does not hinder measuring, but a figure will be missing or doubtful."""

    question: str
    ok: bool | None
    verdict: str
    remedy: str | None = None


class Subject(NamedTuple):
    """The host that is examined, and by what means."""

    host: Host
    root: Path  # where the kernel's files are; another than "/" is a simulated board
    found: Sequence[Surveyed]  # every meter, tried
    named: bool  # the meters are those that the settings name, and must answer
    state: Path
    broker: BrokerSettings | None
    device: str | None  # the name that the agent connects by; None: it has none yet
    describe: Callable[[], Described]  # asks the engine; raises EngineFailed


Check = Callable[[Subject], Iterator[Finding]]
