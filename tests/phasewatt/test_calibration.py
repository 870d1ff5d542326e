"""Sensor cards: of an H200's recording, and of simulated sensors whose truth is known."""

from __future__ import annotations

import random
import time

import msgspec
import pytest

from agent.calibrating import FAST_S, SLOW_S
from phasewatt import calibration
from phasewatt.fields import Reading
from phasewatt.traces import SensorCard
from tests.fixtures.square_waves import Column, SimulatedSensor, h200, loads_ns, read_at

FAST = loads_ns(FAST_S)
SLOW = loads_ns(SLOW_S)
SEEDS = range(8)

H200 = SimulatedSensor(0.1, 0.025, 0.01, jitter_s=0.002, resolution=0.001, noise=4.0, off_w=124, on_w=700)
ONE_SECOND_MEAN = SimulatedSensor(0.1, 1.0, 0.08, resolution=0.001, noise=1.0, off_w=124, on_w=700)
TEGRASTATS = SimulatedSensor(0.1, 0.02, 0.03, jitter_s=0.004, resolution=0.4, noise=0.3, off_w=4, on_w=18)
COUNTER = SimulatedSensor(0.1, 0.1, 0.012, jitter_s=0.003, resolution=0.001, noise=0.2, counter=True)
WALL = SimulatedSensor(1.0, 1.0, 1.5, jitter_s=0.02, resolution=0.1, noise=0.3, off_w=80, on_w=200)
WALL_INSTANT = SimulatedSensor(1.0, 0.0, 1.0, jitter_s=0.02, resolution=0.1, noise=0.3, off_w=80, on_w=200)


def _card(sensor: SimulatedSensor, loads: list[tuple[int, int]], seed: int, reading: Reading) -> SensorCard:
    return calibration.card(sensor.column(loads, read_at(loads, 0.01, seed), seed), loads, reading)


def test_recorded_instant_power_of_an_h200_is_recent_and_hardly_averaged() -> None:
    recorded = h200()
    card = calibration.card(recorded.instant, recorded.loads, Reading.INSTANT)
    assert card.update_period_s == pytest.approx(0.1, abs=0.002)
    assert card.averaging_s is not None and 0.010 <= card.averaging_s <= 0.050
    assert card.lag_s is not None and card.lag_s <= 0.020
    assert card.update_jitter_s is not None and card.update_jitter_s < 0.005
    assert card.reason is None


def test_recorded_average_power_of_an_h200_is_a_mean_of_one_second() -> None:
    recorded = h200()
    card = calibration.card(recorded.average, recorded.loads, Reading.AVERAGE)
    assert card.update_period_s == pytest.approx(0.1, abs=0.002)
    assert card.averaging_s is not None and 0.9 <= card.averaging_s <= 1.1
    assert card.lag_s is not None and card.lag_s <= 0.1
    assert card.resolution == 0.001


def test_recorded_counter_of_an_h200_sums_up_the_whole_of_its_period() -> None:
    recorded = h200()
    card = calibration.card(recorded.counter, recorded.loads, Reading.COUNTER)
    assert card.update_period_s == pytest.approx(0.1, abs=0.002)
    assert card.averaging_s is not None and 0.080 <= card.averaging_s <= 0.120
    assert card.lag_s is not None and card.lag_s <= 0.030
    assert card.resolution == 0.001


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("sensor", "reading", "loads", "averaging_within_s", "age_within_s"),
    [
        pytest.param(H200, Reading.INSTANT, FAST, 0.02, 0.005, id="h200"),
        pytest.param(ONE_SECOND_MEAN, Reading.AVERAGE, FAST, 0.02, 0.01, id="one-second mean"),
        pytest.param(TEGRASTATS, Reading.INSTANT, FAST, 0.03, 0.01, id="tegrastats"),
        pytest.param(COUNTER, Reading.COUNTER, FAST, 0.02, 0.01, id="counter"),
        pytest.param(WALL, Reading.INSTANT, SLOW, 0.3, 0.1, id="wall"),
        pytest.param(WALL_INSTANT, Reading.INSTANT, SLOW, 0.3, 0.2, id="wall, instant"),
    ],
)
def test_a_simulated_sensor_is_found_as_it_is(
    sensor: SimulatedSensor,
    reading: Reading,
    loads: list[tuple[int, int]],
    averaging_within_s: float,
    age_within_s: float,
    seed: int,
) -> None:
    """Read every 10 ms. Period to 1 %; the middle of the averaged stretch is known better than its length."""
    card = _card(sensor, loads, seed, reading)
    assert card.reason is None
    assert card.update_period_s == pytest.approx(sensor.period_s, rel=0.01)
    assert card.averaging_s is not None and card.lag_s is not None
    assert card.averaging_s == pytest.approx(sensor.averaging_s, abs=averaging_within_s)
    age_s = sensor.lag_s + sensor.averaging_s / 2
    assert card.lag_s + card.averaging_s / 2 == pytest.approx(age_s, abs=age_within_s)


@pytest.mark.parametrize("sensor", [H200, ONE_SECOND_MEAN, TEGRASTATS], ids=["h200", "one-second mean", "tegrastats"])
def test_noise_and_resolution_are_found(sensor: SimulatedSensor) -> None:
    """Noise to a quarter, rounding's own share (a step over the root of 12) included."""
    card = _card(sensor, FAST, 1, Reading.INSTANT)
    noise = (sensor.noise**2 + sensor.resolution**2 / 12) ** 0.5
    assert card.noise == pytest.approx(noise, rel=0.25)
    assert card.resolution is not None
    assert card.resolution >= sensor.resolution * 0.999
    assert card.resolution == pytest.approx(0.4) or sensor is not TEGRASTATS


def test_jitter_is_told_from_an_even_grid() -> None:
    """The reader's own 10 ms, evenly spread, are 2.9 ms of it."""
    even = _card(H200._replace(jitter_s=0.0), FAST, 3, Reading.INSTANT)
    uneven = _card(H200._replace(jitter_s=0.008), FAST, 3, Reading.INSTANT)
    assert even.update_jitter_s is not None and even.update_jitter_s < 0.004
    assert uneven.update_jitter_s == pytest.approx(0.008, rel=0.25)


def test_drift_is_no_noise() -> None:
    """A GPU that warms up draws more and more: 40 W over the wave change the noise of 1 W by less than a tenth."""
    times_ns = read_at(FAST, 0.01, 5)
    plain = H200._replace(noise=1.0).column(FAST, times_ns, 5)
    drifting: Column = [
        (at, None if value is None else value + 40 * index / len(plain)) for index, (at, value) in enumerate(plain)
    ]
    stepped = _stepped(drifting)
    noise = calibration.card(plain, FAST, Reading.INSTANT).noise
    assert noise is not None
    assert calibration.card(stepped, FAST, Reading.INSTANT).noise == pytest.approx(noise, rel=0.1)


def _stepped(column: Column) -> Column:
    """The drift held still between updates, as a sensor would."""
    held: Column = []
    for index, (at, value) in enumerate(column):
        held.append((at, held[-1][1] if index % 10 else value))
    return held


def test_readings_out_of_order_and_missing_change_nothing_much() -> None:
    """A tenth of the values missing, all of them shuffled."""
    times_ns = read_at(FAST, 0.01, 2)
    column = H200.column(FAST, times_ns, 2)
    source = random.Random(2)
    worse: Column = [(at, None if source.random() < 0.1 else value) for at, value in column]
    source.shuffle(worse)
    card = calibration.card(worse, FAST, Reading.INSTANT)
    assert card.update_period_s == pytest.approx(0.1, rel=0.01)
    assert card.averaging_s == pytest.approx(0.025, abs=0.02)


def test_a_sensor_that_never_changes_has_no_figures_but_a_reason() -> None:
    card = calibration.card([(at, 20.0) for at in read_at(FAST, 0.01, 0)], FAST, Reading.INSTANT)
    assert (card.update_period_s, card.averaging_s, card.lag_s, card.noise, card.resolution) == (None,) * 5
    assert card.reason is not None and "its value never changed" in card.reason


def test_nothing_read_at_all_is_a_card_with_a_reason() -> None:
    card = calibration.card([], FAST, Reading.INSTANT)
    assert card.update_period_s is None
    assert card.reason is not None and "never changed" in card.reason


def test_a_load_that_a_sensor_does_not_see_gives_no_lag() -> None:
    """Another GPU's sensor: it updates, and its period is found, but nothing follows the load."""
    card = _card(H200._replace(on_w=124), FAST, 4, Reading.INSTANT)
    assert card.update_period_s == pytest.approx(0.1, rel=0.01)
    assert (card.averaging_s, card.lag_s) == (None, None)
    assert card.reason is not None and "does not follow the load" in card.reason


@pytest.mark.parametrize("seed", SEEDS)
def test_a_load_that_hardly_stands_out_of_the_noise_gives_no_lag(seed: int) -> None:
    card = _card(H200._replace(on_w=124 + 3 * 4), FAST, seed, Reading.INSTANT)
    assert (card.averaging_s, card.lag_s) == (None, None)
    assert card.reason is not None and "averaging and lag" in card.reason


def test_a_wave_too_fast_for_a_slow_sensor_gives_no_lag() -> None:
    """Two seconds between updates: only the long halves can be seen."""
    card = _card(WALL._replace(period_s=2.0), loads_ns(FAST_S * 2), 1, Reading.INSTANT)
    assert card.update_period_s == pytest.approx(2.0, rel=0.02)
    assert (card.averaging_s, card.lag_s) == (None, None)
    assert card.reason is not None and "stood long enough" in card.reason


def test_two_loads_are_too_few_edges() -> None:
    loads = loads_ns((2.0, 2.0, 2.0, 2.0))
    card = _card(H200, loads, 1, Reading.INSTANT)
    assert card.lag_s is None
    assert card.reason is not None and "4 edges" in card.reason


def test_a_sensor_that_updates_faster_than_it_is_read_has_no_period() -> None:
    """A 1 ms counter read every 10 ms shows the reader's pace, not its own."""
    card = _card(COUNTER._replace(period_s=0.001, noise=0.0, jitter_s=0.0), FAST, 1, Reading.COUNTER)
    assert (card.update_period_s, card.lag_s) == (None, None)
    assert card.reason is not None and "changed at nearly every reading" in card.reason


def test_a_sensor_that_is_later_than_can_be_told_is_not_guessed() -> None:
    card = _card(H200._replace(averaging_s=4.0, noise=0.5), SLOW, 1, Reading.AVERAGE)
    assert card.averaging_s is None
    assert card.reason is not None


def test_a_card_of_the_longest_recording_takes_less_than_two_seconds() -> None:
    times_ns = read_at(SLOW, 0.005, 1)
    column = H200.column(SLOW, times_ns, 1)
    taken_s = []
    for _ in range(3):  # the best of them: a processor that is shared counts its waits for memory as work
        started = time.process_time()
        calibration.card(column, SLOW, Reading.INSTANT)
        taken_s.append(time.process_time() - started)
    assert len(column) > 11_000
    assert min(taken_s) < 2.0


def test_a_card_is_current_for_its_driver_and_mode_alone() -> None:
    card = calibration.card([], [], Reading.INSTANT, driver="580.1", mode="700 W")
    assert calibration.is_current(card, "580.1", "700 W")
    assert not calibration.is_current(card, "590.0", "700 W")
    assert not calibration.is_current(card, "580.1", "500 W")
    assert calibration.is_current(msgspec.structs.replace(card, origin="documented"), "590.0", None)
