"""A rail of a Jetson as a channel: the same by whichever way it is read."""

from __future__ import annotations

from phasewatt.fields import Reading
from phasewatt.rails import Rail
from phasewatt.traces import Channel, SensorCard

_GAIN_UNCERTAINTY = 0.05  # the shunts' tolerance and what the monitor adds; no self-calibration sees it


def channel(rail: Rail, source: str, step_w: float | None) -> Channel:
    """The power of `rail` in watts as `source` tells it, in steps of `step_w`; None: not known."""
    return Channel(
        name=rail.name,
        source=source,
        reading=Reading.INSTANT,
        unit="W",
        scope=rail.scope,
        gain_uncertainty=_GAIN_UNCERTAINTY,
        parts_of_total=rail.counts,
        card=_card(step_w),
    )


def _card(step_w: float | None) -> SensorCard:
    step = "the shunt is not known" if step_w is None else "the step is the shunt's"
    return SensorCard(
        origin="documented",
        update_period_s=None,
        update_jitter_s=None,
        averaging_s=None,
        lag_s=None,
        resolution=step_w,
        noise=None,
        read_cost_s=None,
        reason=f"{step}; calibrating finds the pace",
    )
