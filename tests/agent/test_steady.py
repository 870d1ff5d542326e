"""The stop rule on constructed series, and on a recorded one."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest

from agent.steady import Rule, judge

RULE = Rule(repetitions=6, drift=0.05, spread=0.15)
FIRST_STEPS = Path(__file__).parent.parent / "fixtures/recordings/h200_first_steps.csv"


def whole(series: list[int]) -> bool:
    """Whether a whole window is steady, as `agent.windows` asks."""
    return judge(series, Rule(repetitions=len(series))).steady


def noisy(levels: list[float], sigma: float = 0.02) -> list[int]:
    """Durations around `levels` in ms, off by `sigma` of it at random but always the same."""
    drawn = random.Random(7)
    return [round(level * 1e6 * (1 + sigma * drawn.gauss(0, 1))) for level in levels]


def recorded() -> list[int]:
    """600 decode steps of an 8B model, eager, on an H200 whose host launches kernels slowly, in ns."""
    with FIRST_STEPS.open(encoding="utf-8") as file:
        return [round(float(row["duration_s"]) * 1e9) for row in csv.DictReader(file) if row["phase"] == "decode"]


def test_a_level_series_is_steady() -> None:
    """Noise of a percent around a level passes, and the figures are in the reason."""
    random_source = random.Random(1)
    verdict = judge([round(random_source.gauss(1e9, 1e7)) for _ in range(6)], RULE)
    assert verdict.steady
    assert verdict.reason.startswith("steady: drift ")


@pytest.mark.parametrize(
    "series",
    [
        pytest.param([100, 90, 80, 70, 60, 50], id="drifts"),
        pytest.param([100, 100, 100, 60, 60, 60], id="steps"),
        pytest.param([100, 60, 100, 60, 100, 60], id="oscillates"),
        pytest.param([100, 100, 100], id="too short"),
        pytest.param([100], id="a single one"),
        pytest.param([], id="none"),
    ],
)
def test_a_series_that_has_not_settled_is_not_steady(series: list[int]) -> None:
    """Each way of not having settled is found."""
    assert not judge(series, RULE).steady


def test_only_the_newest_repetitions_count() -> None:
    """A slow beginning is forgotten once enough level repetitions follow."""
    assert judge([900, 500, 300, *[100, 101, 99, 100, 101, 99]], RULE).steady
    assert not judge([900, 500, 300, 100, 101, 99], RULE).steady


@pytest.mark.parametrize(
    "levels",
    [
        pytest.param([50 + 0.1 * n for n in range(100)], id="drifts by a fifth"),
        pytest.param([50.0] * 80 + [65.0] * 20, id="steps in the last fifth, as when a board begins to throttle"),
        pytest.param([50.0] * 20 + [65.0] * 80, id="steps in the first fifth"),
        pytest.param([50.0] * 25 + [55.0] * 50 + [50.0] * 25, id="swings once, its halves alike"),
        pytest.param([50.0, 62.0] * 50, id="oscillates from one to the next"),
    ],
)
def test_a_long_window_that_moved_is_not_steady(levels: list[float]) -> None:
    """Whatever shape the movement has, with noise on it."""
    assert not whole(noisy(levels))


@pytest.mark.parametrize("sigma", [0.0, 0.01, 0.05, 0.08])
def test_a_long_window_of_noise_alone_is_steady(sigma: float) -> None:
    """Chance does not look like drift, up to noise that the spread allows."""
    assert whole(noisy([50.0] * 100, sigma))


def test_an_oscillation_within_the_spread_is_let_pass() -> None:
    """The limit is stated: what swings by less than 15 % between its quartiles counts as spread."""
    assert whole(noisy([50.0, 53.0] * 50))


def test_recorded_steps_settle_at_their_level_and_not_below() -> None:
    """The first step took 609 ms; a dozen later the series stands at 53 ms, and stays there for all of its 600 steps.

    That is what the rule can find. That the same GPU does a step in 8 ms when the host does not hold it up, no rule
    over this series can: it never falls below its level.
    """
    steps = recorded()
    assert len(steps) == 600
    first = next(end for end in range(RULE.repetitions, len(steps)) if judge(steps[:end], RULE).steady)
    assert 6 <= first <= 30
    window = steps[first:]
    assert whole(window)
    assert 50e6 < sorted(window)[len(window) // 2] < 56e6
    assert min(window) > 0.85 * sorted(window)[len(window) // 2]


def test_recorded_steps_with_their_beginning_are_not_steady_yet() -> None:
    """The cold steps spread too far."""
    assert not judge(recorded()[:12], Rule(repetitions=12)).steady
