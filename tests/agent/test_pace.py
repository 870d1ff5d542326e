"""Estimates: rough ones from figures measured once, better ones from this host, and what slices make of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import cells, durations, estimate
from agent.cells import Cell
from agent.durations import Durations, Took
from agent.estimate import RATES, SERVER, SLOW_HOST
from agent.models import preset
from agent.pace import Expectation, Pace, in_words, rates_of, sources
from agent.sequence import sequence
from phasewatt.fields import Phase

MEASURE = cells.Measure()
CELL = Cell(prompt_tokens=512, output_tokens=64)
LLAMA = Cell(prompt_tokens=2048, output_tokens=64, model="llama-3-8b", dtype="bfloat16")


def pace(state: Path) -> Pace:
    return Pace(MEASURE, Durations(state), lambda cell: RATES["cpu"], metered=False)


@pytest.mark.parametrize(("rates", "measured_s"), [(SERVER, 0.018), (SLOW_HOST, 0.082)])
def test_an_h200s_decode_steps_are_where_they_were_measured(rates: estimate.Rates, measured_s: float) -> None:
    """Eager llama-3-8b: 17.7 to 82 ms a step, by the host. Within a third of it."""
    cell = Cell(prompt_tokens=600, output_tokens=65, model="llama-3-8b", dtype="bfloat16")
    step_s = estimate.phase_s(preset("llama-3-8b"), cell, Phase.DECODE, 64, rates) / 64
    assert step_s == pytest.approx(measured_s, rel=0.34)


@pytest.mark.parametrize(("tokens", "measured_s"), [(128, 0.0225), (512, 0.0234), (2048, 0.060), (8192, 0.256)])
def test_an_h200s_prefill_is_where_it_was_measured(tokens: int, measured_s: float) -> None:
    """Within a third of the recorded eager prefills."""
    cell = Cell(prompt_tokens=tokens, output_tokens=2, model="llama-3-8b", dtype="bfloat16")
    found_s = estimate.phase_s(preset("llama-3-8b"), cell, Phase.PREFILL, 64, SERVER)
    assert found_s == pytest.approx(measured_s, rel=0.34)


@pytest.mark.parametrize("rates", [SERVER, SLOW_HOST], ids=["quick host", "slow host"])
@pytest.mark.parametrize("model", ["qwen3-8b", "llama-3-8b"])
def test_the_paper_suite_is_planned_to_25_minutes_of_an_h200(rates: estimate.Rates, model: str, tmp_path: Path) -> None:
    """With a third to spare for what the estimate leaves out, calibration of the sensor among it."""
    suite = cells.load("paper", {"model": model})
    planned = Pace(suite.measure, Durations(tmp_path), lambda cell: rates, metered=True)
    assert planned.left_s(sequence(suite), ()) * 4 / 3 < 25 * 60


def test_what_was_measured_here_is_what_is_expected(tmp_path: Path) -> None:
    """Also by the next process; another method or another cell is another matter."""
    first = pace(tmp_path)
    assert not first.cell(CELL).known
    first.took(CELL, 12.5, loading_s=4.0)
    again = pace(tmp_path)
    assert again.cell(CELL) == Expectation(12.5, known=True)
    assert again.load(CELL) == Expectation(4.0, known=True)
    assert not again.cell(Cell(prompt_tokens=513, output_tokens=64)).known
    other = Pace(cells.Measure(window_s=9), Durations(tmp_path), lambda cell: RATES["cpu"], metered=False)
    assert not other.cell(CELL).known


def test_rough_estimates_follow_what_this_run_shows(tmp_path: Path) -> None:
    """A host that takes three times as long is expected to go on so."""
    made = pace(tmp_path)
    other = Cell(prompt_tokens=64, output_tokens=16)
    rough_s, other_s = made.cell(CELL).seconds, made.cell(other).seconds
    made.took(CELL, 3 * rough_s)
    assert made.cell(other).seconds == pytest.approx(3 * other_s)


def test_one_load_is_counted_once(tmp_path: Path) -> None:
    """Cells of one model: their times, and one load, none where it is loaded already."""
    made = pace(tmp_path)
    made.took(CELL, 10.0, loading_s=5.0)
    suite = cells.parse("s", 'about = "x"\n[[cells]]\nprompt_tokens = 512\noutput_tokens = 64\n', {}, "s.toml")
    turns = sequence(suite)
    assert made.left_s(turns, ()) == 15.0
    assert made.left_s(turns, CELL.load_key) == 10.0
    assert made.needed_s(CELL, CELL.load_key) < made.needed_s(CELL, ())


def test_margins_are_wider_where_less_is_known() -> None:
    assert Expectation(10, known=True).with_margin_s == pytest.approx(13.5)
    assert Expectation(10, known=False).with_margin_s == pytest.approx(17.0)


def test_an_unknown_architecture_is_expected_to_run_to_its_limits(tmp_path: Path) -> None:
    """Weights of a hub say their shape when they are there."""
    hub = Cell(prompt_tokens=8, output_tokens=4, weights="hub:owner/name")
    assert pace(tmp_path).cell(hub) == Expectation(estimate.longest_s(hub, MEASURE), known=False)


@pytest.mark.parametrize("content", [b"", b"not json", b'{"a": 3}', b'{"a": {"seconds": "x", "whole": true}}'])
def test_a_damaged_file_costs_estimates_alone(content: bytes, tmp_path: Path) -> None:
    (tmp_path / durations.FILE).write_bytes(content)
    kept = Durations(tmp_path)
    assert kept.get("a") is None
    kept.note("a", Took(2.0, whole=True))
    assert Durations(tmp_path).get("a") == Took(2.0, whole=True)


def test_a_state_that_cannot_be_written_costs_nothing() -> None:
    Durations(Path("/nonexistent")).note("a", Took(1.0, whole=True))


def test_what_runs_where_is_estimated_as_that() -> None:
    """A GPU's rates for a GPU, a Jetson's for a Jetson, a CPU's where the cell asks for it or there is nothing else."""
    on_cpu = Cell(prompt_tokens=8, output_tokens=4, accelerator="cpu")
    assert rates_of(has_gpu=True, is_jetson=False)(CELL) is RATES["cuda"]
    assert rates_of(has_gpu=True, is_jetson=True)(CELL) is RATES["jetson"]
    assert rates_of(has_gpu=False, is_jetson=False)(CELL) is RATES["cpu"]
    assert rates_of(has_gpu=True, is_jetson=False)(on_cpu) is RATES["cpu"]


def test_words_say_how_long_and_by_what() -> None:
    assert [in_words(s) for s in (0.2, 45, 100, 3600, 9000)] == [
        "about 1 s",
        "about 45 s",
        "about 2 min",
        "about 60 min",
        "about 2.5 h",
    ]
    known, rough = Expectation(1, known=True), Expectation(1, known=False)
    assert sources([known, known]) == "by what the same took on this host before"
    assert sources([known, rough]).startswith("1 of 2 by what")
