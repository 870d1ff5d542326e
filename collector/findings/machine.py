"""What a machine can do at most, for the findings: measured ceilings, else its data sheet. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from collector.findings import bounds
from collector.findings.bounds import Bounds
from collector.machine_ceilings import choose, with_ceilings
from collector.stored import StoredTrial
from phasewatt import ceilings
from phasewatt.ceilings import MATMUL, READ
from phasewatt.metrics import Readings
from phasewatt.profiles import Ceiling
from phasewatt.records import Trial

# Measured over sheet. Source: H200, 793 of 989 TFLOP/s in a matrix product, 3.9 to 4.1 of 4.8 TB/s in a read.
_OF_SHEET = (0.75, 1.0)


class Machine(NamedTuple):
    """The two ceilings of the roofline."""

    flop_per_s: Bounds
    byte_per_s: Bounds
    source: str

    @property
    def balance(self) -> Bounds:
        """FLOP per byte: work of more is bound by computing, work of less by memory."""
        return self.flop_per_s.over(self.byte_per_s)


def machine_of(trial: Trial, trials: Sequence[StoredTrial]) -> Machine | None:
    """The machine of `trial` in its dtype, by the nearest of `trials` that measured it; None: nobody did.

    Those of another power mode or limit, and simulated ones, decide nothing.
    """
    alike = [stored for stored in with_ceilings(trials) if _has_its_power(trial, stored.trial)]
    known = {stored.record_id: made for stored in alike if (made := _machine(trial, stored.trial.ceilings)) is not None}
    nearest = choose(trial, [stored for stored in alike if stored.record_id in known]).stored
    return None if nearest is None else known[nearest.record_id]


def _has_its_power(trial: Trial, other: Trial) -> bool:
    mine, its = trial.conditions, other.conditions
    same = (mine.power_mode, mine.power_mode_id, mine.power_limit_w)
    return not its.simulated and same == (its.power_mode, its.power_mode_id, its.power_limit_w)


def _machine(trial: Trial, measured: Sequence[Ceiling]) -> Machine | None:
    if trial.work is None:
        return None
    products, reads = (
        ceilings.fitting(measured, work, trial.work.dtype, trial.conditions)[0] for work in (MATMUL, READ)
    )
    flop_per_s, byte_per_s = _measured(MATMUL, products), _measured(READ, reads)
    if flop_per_s is not None and byte_per_s is not None:
        return Machine(flop_per_s, byte_per_s, "measured ceilings")
    flop_per_s, byte_per_s = _sheet(products), _sheet(reads)
    if flop_per_s is not None and byte_per_s is not None:
        return Machine(flop_per_s, byte_per_s, "the data sheet")
    return None


def _measured(work: str, known: Sequence[Ceiling]) -> Bounds | None:
    found = ceilings.highest(work, known)
    return None if found is None else bounds.measured([Readings(found.values)], f"{work} {found.shape}")


def _sheet(known: Sequence[Ceiling]) -> Bounds | None:
    most = max((each.sheet for each in known if each.sheet), default=None)
    return None if most is None else Bounds(most, most * _OF_SHEET[0], most * _OF_SHEET[1])
