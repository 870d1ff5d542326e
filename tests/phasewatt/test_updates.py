"""What a sensor showed, from what a sampler read."""

from __future__ import annotations

import itertools

import pytest

from phasewatt.updates import Sample, is_calibrated, samples_of, summed, timing, updates_of
from tests.fixtures.records import SECOND_NS, channel, trace
from tests.fixtures.waveforms import every, held, ramp, sampled, sensor_card

CALIBRATED = channel(card=sensor_card())
MS = SECOND_NS // 1000


def at_ms(*points: tuple[int, float]) -> list[Sample]:
    """Readings by their millisecond."""
    return [Sample(at * MS, value) for at, value in points]


def flat(seconds: float, every_s: float, resolution: float | None = None) -> list[int]:
    """Moments in ms at which a sensor's value, always 42 W, counts as an update."""
    rail = channel(card=sensor_card(resolution=resolution))
    samples = sampled(lambda at_s: 42.0, every(every_s, seconds))
    return [update.time_ns // MS for update in updates_of(samples, timing(samples, rail))]


def test_parts_of_a_trace_are_put_in_order():
    parts = [trace([3.0, 4.0], (channel(), ramp)), trace([1.0, 2.0], (channel(), ramp))]
    assert samples_of(parts, 0) == at_ms((1000, 13), (2000, 16), (3000, 19), (4000, 22))


def test_samples_out_of_order_within_a_part_are_put_in_order():
    assert samples_of([trace([2.0, 1.0, 3.0], (channel(), ramp))], 0) == at_ms((1000, 13), (2000, 16), (3000, 19))


def test_missing_values_are_left_out():
    power = trace([1.0, 2.0, 3.0], (channel(), lambda at_s: None if at_s == 2.0 else 5.0))
    assert samples_of([power], 0) == at_ms((1000, 5), (3000, 5))


def test_of_two_values_at_one_moment_the_later_is_kept():
    """A clock that stands still must not make a step that took no time."""
    values = iter([1.0, 2.0, 3.0])
    assert samples_of([trace([1.0, 1.0, 2.0], (channel(), lambda _: next(values)))], 0) == at_ms((1000, 2), (2000, 3))


def test_rails_are_added_where_all_were_read():
    one, other = at_ms((0, 1), (100, 2), (200, 3)), at_ms((0, 10), (200, 30))
    assert summed([one, other]) == at_ms((0, 11), (200, 33))
    assert summed([one]) == one
    assert summed([one, []]) == []


def test_a_card_gives_the_timing():
    card = sensor_card(update_period_s=0.1, averaging_s=0.025, lag_s=0.07, update_jitter_s=0.005)
    found = timing([], channel(card=card))
    assert (found.period_ns, found.averaging_ns, found.lag_ns, found.jitter_ns) == (100 * MS, 25 * MS, 70 * MS, 5 * MS)
    assert found.calibrated
    assert found.guard_ns == 0


def test_without_a_card_the_samples_give_the_period_and_the_lag_is_guarded_against():
    found = timing(sampled(held(ramp), every(0.01, 5)), channel())
    assert found.period_ns == pytest.approx(100 * MS, rel=0.01)
    assert (found.lag_ns, found.calibrated) == (0, False)
    assert found.guard_ns == found.period_ns


def test_the_period_is_that_of_the_closest_reading():
    """Read every 10 ms for a second and every 400 ms for the rest, it still updates every 100 ms."""
    times_s = [*every(0.01, 1.0), *every(0.4, 9.0, 1.4)]
    assert timing(sampled(held(ramp), times_s), channel()).period_ns == pytest.approx(100 * MS, rel=0.01)


@pytest.mark.parametrize("changes", [0, 1, 5])
def test_too_few_changes_tell_no_period(changes):
    samples = sampled(lambda at_s: float(min(int(at_s), changes)), every(0.1, 20))
    assert timing(samples, channel()).period_ns is None


@pytest.mark.parametrize(
    "fields",
    [
        {"update_period_s": None},
        {"lag_s": None},
        {"update_period_s": 0.0},
        {"update_period_s": -0.1},
        {"update_period_s": 1e300},
        {"lag_s": -0.1},
        {"lag_s": 1e300},
        {"averaging_s": -1.0},
        {"update_jitter_s": 1e300},
    ],
    ids=str,
)
def test_a_card_that_tells_no_times_counts_as_none(fields):
    """It came over the wire, or its calibration failed: the figures go on without it, and say so."""
    rail, samples = channel(card=sensor_card(**fields)), sampled(held(ramp), every(0.01, 5))
    assert not is_calibrated(rail)
    assert timing(samples, rail) == timing(samples, channel())
    assert is_calibrated(CALIBRATED)


def test_an_update_lies_in_the_middle_of_what_the_readings_leave_open():
    found = updates_of(at_ms((0, 1), (20, 1), (60, 2), (80, 2)), timing([], CALIBRATED))
    assert [(update.time_ns, update.value, update.open_ns) for update in found] == [(40 * MS, 2, 40 * MS)]


def test_a_reading_after_a_pause_shows_the_last_update_alone():
    """Which came within the last period, however long nobody looked."""
    (update,) = updates_of(at_ms((0, 1), (4000, 2)), timing([], CALIBRATED))
    assert (update.time_ns, update.open_ns) == (3950 * MS, 100 * MS)


def test_polling_faster_than_the_sensor_adds_no_updates():
    samples = sampled(held(ramp), every(0.01, 10))
    found = updates_of(samples, timing(samples, CALIBRATED))
    assert len(found) == 100
    spacings = [after.time_ns - before.time_ns for before, after in itertools.pairwise(found)]
    assert min(spacings) == pytest.approx(max(spacings), rel=0.02) == pytest.approx(100 * MS, rel=0.02)


def test_the_same_value_after_a_period_is_an_update():
    """7, 7, 8 at an even pace are three updates: the second is known by the time that it took."""
    shown = [5, 7, 7, 8, 8, 8, 9]
    samples = sampled(lambda at_s: shown[int(at_s * 10 + 1e-6)], every(0.01, 0.69))
    found = updates_of(samples, timing(samples, CALIBRATED))
    assert [update.value for update in found] == shown[1:]
    assert [update.time_ns // MS for update in found] == [95, 195, 295, 395, 495, 595]


def test_a_sensor_that_stands_still_gives_no_updates_for_long():
    """Twenty periods; then it is taken for frozen."""
    assert len(flat(60.0, 0.05)) == 20
    assert flat(60.0, 0.05)[-1] <= 2000


def test_a_sensor_of_coarse_steps_may_stand_still():
    assert len(flat(60.0, 0.05, resolution=0.4)) == pytest.approx(600, abs=2)


def test_equal_values_before_and_after_a_pause_say_nothing_of_the_pause():
    """Nobody looked: the sensor may have shown anything meanwhile."""
    samples = [*sampled(lambda at_s: 42.0, every(0.05, 1)), *sampled(lambda at_s: 42.0, every(0.05, 6, 5))]
    coarse = channel(card=sensor_card(resolution=0.4))
    times_ms = [update.time_ns // MS for update in updates_of(samples, timing(samples, coarse))]
    assert not [at for at in times_ms if 1000 < at < 4900]
    assert any(4900 <= at <= 5000 for at in times_ms)


def test_without_a_period_only_changes_are_updates():
    samples = at_ms((0, 1), (500, 1), (1000, 2), (9000, 2))
    assert [update.time_ns // MS for update in updates_of(samples, timing(samples, channel()))] == [750]
    assert updates_of([], timing([], channel())) == []
