"""The power that a channel tells of, at the moments that it tells of. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from phasewatt import joule_counter, updates
from phasewatt.fields import Reading
from phasewatt.traces import Channel, Trace
from phasewatt.updates import Sample


def power_points(traces: Sequence[Trace], index: int) -> Iterator[Sample]:
    """Watts of channel `index` at the middle of what they describe: moved back by the lag and half the averaging."""
    channel = traces[0].channels[index]
    yield from _points(channel, updates.samples_of(traces, index))


def _points(channel: Channel, samples: Sequence[Sample]) -> Iterator[Sample]:
    timing = updates.timing(samples, channel)
    late_ns = timing.lag_ns + timing.averaging_ns // 2
    if channel.reading is not Reading.COUNTER:
        for update in updates.updates_of(samples, timing):
            yield Sample(update.time_ns - late_ns, update.value)
        return
    for mean in joule_counter.powers(samples, timing):
        yield Sample(mean.start_ns, mean.power_w)
        yield Sample(mean.end_ns, mean.power_w)
