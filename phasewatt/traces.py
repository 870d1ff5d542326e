"""What sensors showed over time, in columns of integer steps: power samples beside a trial, and telemetry.

Units and missing values as in `records`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta

from phasewatt.fields import Count, Identifier, Label, NotNegative, Positive, Reading, Record, Scope, Text

SensorTime = Annotated[float, Meta(ge=0, le=3600)]
Step = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


class Series(Record, frozen=True):
    """A column of numbers as integer steps: value[i] = scale * (sum of the steps up to i).

    A `None` step is a missing value; the next step counts from the last value that was there.
    """

    name: Label
    unit: Label
    scale: Annotated[float, Meta(gt=0, le=1e6)]
    steps: tuple[Step | None, ...]


def _check_columns(time: Series, values: Iterable[Series]) -> None:
    if time.scale != 1e-9 or None in time.steps:
        raise ValueError("the time column must be whole ns without holes")
    if any(len(column.steps) != len(time.steps) for column in values):
        raise ValueError("all columns must be as long as the time column")


class SensorCard(Record, frozen=True):
    """How a sensor behaves in time. What could not be found is None, and `reason` says why."""

    origin: Label  # "square-wave": found here by driving one; "documented": its maker's word
    update_period_s: SensorTime | None
    update_jitter_s: SensorTime | None  # standard deviation of an update's time about an even grid, as polled
    averaging_s: SensorTime | None  # the stretch before, which a value is the mean of (a counter's: the sum over)
    lag_s: SensorTime | None  # from the end of that stretch to when its value first shows
    resolution: NotNegative | None  # smallest step, in the channel's unit
    noise: NotNegative | None  # standard deviation of an update at steady load, in the channel's unit
    read_cost_s: SensorTime | None
    reason: Text | None = None
    driver: Label | None = None  # the card is taken again when one of these changes
    mode: Label | None = None
    measured_unix_s: float | None = None


class Channel(Record, frozen=True):
    """What one column of a trace is a reading of."""

    name: Label  # "gpu0", "package-0", "VDD_IN"
    source: Label
    reading: Reading
    unit: Label  # "W", "J"; beside power: "Hz", "1" (a share), "bits"
    scope: Scope | None  # None: not a power figure
    gain_uncertainty: float | None = None  # relative, of the sensor; 0.05 is 5 %
    parts_of_total: bool = True  # False: shown, but inside another channel or not known
    card: SensorCard | None = None


class Trace(Record, frozen=True):
    """Power samples taken while a trial ran; long ones come in several parts."""

    device: Identifier
    boot_id: Label
    meter: Label
    part: Count
    parts: Positive
    simulated: bool
    time: Series  # unit "s", monotonic
    channels: tuple[Channel, ...]
    values: tuple[Series, ...]  # one a channel, in its unit

    def __post_init__(self) -> None:
        _check_columns(self.time, self.values)
        if len(self.channels) != len(self.values):
            raise ValueError("a trace must have one column a channel")


class Telemetry(Record, frozen=True):
    """A board's state over a stretch of time, about once a second, in columns of equal length."""

    device: Identifier
    boot_id: Label
    started_unix_s: float
    time: Series  # unit "s", monotonic
    values: tuple[Series, ...]
    simulated: bool = False  # some of it is of a simulated board, or of a recording

    def __post_init__(self) -> None:
        _check_columns(self.time, self.values)
