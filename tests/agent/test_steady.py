"""The stop rule on constructed series."""

from __future__ import annotations

import random

import pytest

from agent.steady import Rule, judge

RULE = Rule(repetitions=6, drift=0.05, spread=0.15)


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
