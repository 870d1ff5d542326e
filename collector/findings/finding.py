"""What is said of a claim: checks with their intervals, the verdict that follows, and what is missing. Pure."""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from collector.findings.checks import Check, Verdict, together
from collector.findings.families import Family
from collector.findings.pictures import Picture
from collector.stored import StoredTrial
from phasewatt.fields import Record

_BEGINNING = re.compile(r";| \(")


class Each(enum.Enum):
    """What a claim is decided for."""

    MODEL = "model"  # one model, run in one way on one device
    WAY = "way"  # all models that one device ran in one way
    DEVICE = "device"  # whatever one device ran, on several of its GPUs too; all others are of one processor
    FLEET = "fleet"  # all devices together


class Judged(NamedTuple):
    """What a claim makes of the trials that it was given."""

    checks: tuple[Check, ...] = ()
    figure: str | None = None  # in words; None: nothing was measured
    missing: tuple[str, ...] = ()  # the trials that would decide, and the suite that provides them
    basis: str | None = None  # which time or energy it rests on
    trials: tuple[StoredTrial, ...] = ()  # that it rests on
    remarks: tuple[str, ...] = ()
    picture: Picture | None = None

    @property
    def verdict(self) -> Verdict:
        """That of all checks together."""
        return together(check.verdict for check in self.checks)


class Claim(Protocol):
    """One sentence of the study, and how it is decided; each is a module of this package.

    `judge` gets the families of one `EACH`, at least one, none of them simulated, and never mixes two of them other
    than its sentence demands.
    """

    NUMBER: int
    SENTENCE: str
    RULE: str
    EACH: Each

    def judge(self, families: Sequence[Family]) -> Judged:
        """Checks, figure, picture, and what is missing."""


class Other(Record, frozen=True):
    """What other trials of the same device say of the same claim."""

    group: str
    verdict: Verdict
    figure: str | None


class Finding(Record, frozen=True):
    """One claim on one device, or on the fleet. See docs/json.md."""

    id: int
    claim: str
    verdict: Verdict
    figure: str | None
    rule: str
    device: str | None  # "fleet" for claims about all devices; None: there is no trial at all
    missing: tuple[str, ...]
    group: str | None = None  # whose trials decided: device, model, and how it was run
    basis: str | None = None
    checks: tuple[Check, ...] = ()
    trials: tuple[str, ...] = ()  # record ids
    others: tuple[Other, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def brief(self) -> str:
        """The beginning of the claim, for lists."""
        return _BEGINNING.split(self.claim, maxsplit=1)[0].rstrip(".")


class Answer(NamedTuple):
    """A finding and its picture."""

    finding: Finding
    picture: Picture | None = None
