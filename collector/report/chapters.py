"""What a report tells beside the comparison: where the time goes, counters, predictions and findings. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from collector.comparison import Comparison
from collector.counted import Counted, counted
from collector.findings import Answer, answers, remarks
from collector.held_out import HeldOut, held_out
from collector.prediction import FamilyFits, fits_by_family
from collector.rooflines import Rooflines, rooflines
from collector.stored import StoredTrial


class Chapters(NamedTuple):
    """Operators of the trials that are compared; counters, predictions and findings of all trials of their devices."""

    rooflines: Rooflines
    counted: Counted
    held_out: tuple[HeldOut, ...]
    fits: tuple[FamilyFits, ...]
    answers: tuple[Answer, ...]
    remarks: tuple[str, ...]  # on the findings as a whole


def gather(comparison: Comparison, known: Sequence[StoredTrial]) -> Chapters:
    """The chapters of a comparison; `known` are its trials and whatever else is known of its devices."""
    compared = {each for work in comparison.works for ids in work.trials.values() for each in ids}
    devices = {group.device for group in comparison.groups}
    chosen = [stored for stored in known if stored.record_id in compared]
    theirs = [stored for stored in known if stored.trial.device in devices]
    counters = [stored for stored in theirs if stored.trial.counters or stored.record_id in compared]
    return Chapters(
        rooflines=rooflines(chosen, known),
        counted=counted(counters),
        held_out=held_out(theirs),
        fits=fits_by_family(theirs),
        answers=answers(theirs),
        remarks=remarks(theirs),
    )
