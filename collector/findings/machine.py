"""What a machine can do at most, for the findings: measured ceilings, else its data sheet. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from collector.findings import bounds
from collector.findings.bounds import Bounds
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


def machine_of(trial: Trial, trials: Iterable[Trial]) -> Machine | None:
    """The machine of `trial` in its dtype, by the newest ceilings among `trials`; None: nobody measured it."""
    dtype = None if trial.work is None else trial.work.dtype
    arithmetic = "tf32" if trial.conditions.tf32 and dtype == "float32" else dtype
    measured = [other for other in trials if other.ceilings and _same_machine(trial, other)]
    for other in sorted(measured, key=lambda each: each.started_unix_s, reverse=True):
        alike = [each for each in other.ceilings if _same_processor(each, trial)]
        products = [each for each in alike if each.work == "matmul" and each.dtype == arithmetic]
        reads = [each for each in alike if each.work == "read"]
        for found, source in ((_measured, "measured ceilings"), (_sheet, "the data sheet")):
            flops, byte = found(products), found([each for each in reads if each.dtype == dtype] or reads)
            if flops is not None and byte is not None:
                return Machine(flops, byte, source)
    return None


def _same_machine(trial: Trial, other: Trial) -> bool:
    mine, its = trial.conditions, other.conditions
    return (
        trial.device == other.device
        and not its.simulated
        and (mine.accelerator, mine.processor, mine.power_mode, mine.power_mode_id, mine.power_limit_w)
        == (its.accelerator, its.processor, its.power_mode, its.power_mode_id, its.power_limit_w)
    )


def _same_processor(ceiling: Ceiling, trial: Trial) -> bool:
    """Of a CPU, with as many threads where both tell."""
    how = trial.conditions
    alike = None in (ceiling.threads, how.threads) or ceiling.threads == how.threads
    return ceiling.processor == how.accelerator and (alike or how.accelerator != "cpu")


def _measured(ceilings: Sequence[Ceiling]) -> Bounds | None:
    """The best of several shapes."""
    found = [bounds.measured([Readings(each.values)], f"{each.work} {each.shape}") for each in ceilings if each.values]
    return max((each for each in found if each is not None), default=None)


def _sheet(ceilings: Sequence[Ceiling]) -> Bounds | None:
    most = max((each.sheet for each in ceilings if each.sheet), default=None)
    return None if most is None else Bounds(most, most * _OF_SHEET[0], most * _OF_SHEET[1])
