"""Records drawn from a seed, no two alike, of the kinds and sizes that boards send."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

from phasewatt import series
from phasewatt.codec import SentRecord
from phasewatt.records import Event, Trial
from phasewatt.traces import Series, Telemetry, Trace
from tests.fixtures import records
from tests.fixtures.records import SECOND_NS, changed

_SAMPLES = 120
_COLUMNS = 12


def appends(seed: str, device: str, clock: Any) -> Iterator[list[SentRecord]]:
    """What a board commits at a time, without end: mostly one record, sometimes a trial with its traces."""
    draw = random.Random(seed)
    number = 0
    while True:
        number += 1
        label = f"{seed}/{number}"
        kind = draw.choice(("event", "event", "event", "telemetry", "telemetry", "trial"))
        if kind == "event":
            yield [event(device, label, clock())]
        elif kind == "telemetry":
            yield [telemetry(device, label, clock(), draw)]
        else:
            traces = [trace(device, label, part, draw) for part in range(draw.randint(0, 2))]
            yield [*traces, trial(device, label, clock())]


def event(device: str, label: str, now_unix_s: float) -> Event:
    """A small record."""
    return Event(device=device, boot_id="boot-1", time_unix_s=now_unix_s, name="seeded", message=label)


def telemetry(device: str, label: str, now_unix_s: float, draw: random.Random) -> Telemetry:
    """Two minutes at 1 Hz of a dozen columns."""
    columns = tuple(
        series.pack(f"column{index}", "1", 1e-3, [draw.random() for _ in range(_SAMPLES)]) for index in range(_COLUMNS)
    )
    times = series.pack_times([index * SECOND_NS for index in range(_SAMPLES)])
    return Telemetry(device=device, boot_id=label, started_unix_s=now_unix_s, time=times, values=columns)


def board_columns(seed: str) -> tuple[Series, ...]:
    """Two minutes as a board samples them: a third of the columns stands still, the others wander."""
    draw = random.Random(seed)
    still, lively = range(_COLUMNS // 3), range(_COLUMNS // 3, _COLUMNS)
    steady = [series.pack(f"column{index}", "1", 1e-3, [0.5] * _SAMPLES) for index in still]
    wandering = [series.pack(f"column{index}", "1", 1e-3, _walk(draw, 0.005 * index)) for index in lively]
    return (*steady, *wandering)


def _walk(draw: random.Random, step: float) -> list[float]:
    return list(itertools.accumulate((draw.gauss(0, step) for _ in range(_SAMPLES)), initial=0.5))[:_SAMPLES]


def trial(device: str, label: str, now_unix_s: float) -> Trial:
    """A result."""
    return records.trial(device=device, campaign=label, started_unix_s=now_unix_s)


def trace(device: str, label: str, part: int, draw: random.Random) -> Trace:
    """Samples of one rail, some kB or some hundred."""
    levels = [draw.random() for _ in range(64)]
    times_s = [index * 0.05 for index in range(draw.choice((50, 500, 5000)))]
    whole = records.trace(times_s, (records.channel(), lambda moment: 10.0 + levels[int(moment * 20) % 64]))
    return changed(whole, device=device, meter=f"{label}.{part}")
