"""One device by one condition: what is compared, what must be equal, and what a million tokens cost."""

from __future__ import annotations

import msgspec
import pytest

from collector.bills import Price
from collector.by_condition import By, compare_by
from collector.report import by_html, by_markdown, by_tables
from collector.stored import StoredTrial
from phasewatt.conditions import ClockState, HostState
from phasewatt.errors import ConfigInvalid
from phasewatt.fields import Scope
from tests.fixtures.trials import MODULE, conditions, failed, measured, work


def orin(mode: str, slowness: float, seed: int, **named: object) -> StoredTrial:
    """A trial of a Jetson in a power mode, whose GPU clock is locked where that mode has it."""
    hz = {"MAXN": 1_300_500_000, "30W": 624_750_000, "15W": 408_000_000}[mode]
    clock = ClockState(name="gpu", now_hz=hz, least_hz=hz, most_hz=hz)
    under = conditions(power_mode=mode, state=(HostState(clocks=(clock,)), None), **named)
    return measured("orin-1", under=under, slowness=slowness, sensors=[MODULE], seed=seed).stored


def three_modes() -> list[StoredTrial]:
    return [orin("MAXN", 1.0, 1), orin("30W", 1.9, 2), orin("15W", 2.8, 3)]


def test_power_modes_are_compared_although_their_clocks_differ_too() -> None:
    """Clock limits follow from the mode; each value is a column with its ratio to the baseline."""
    by = compare_by(three_modes(), By.POWER_MODE, baseline="MAXN")
    (stratum,) = by.strata
    assert stratum.device == "orin-1"
    assert stratum.values[0] == "MAXN"
    assert set(stratum.values) == {"MAXN", "30W", "15W"}
    (work_,) = stratum.comparison.works
    rate = next(row for row in work_.rows if row.metric == "decode_rate")
    ratios = dict(zip(stratum.values, (cell.ratio for cell in rate.cells), strict=True))
    assert ratios["30W"] == pytest.approx(1 / 1.9, rel=0.05)
    assert ratios["15W"] == pytest.approx(1 / 2.8, rel=0.05)


def test_by_clock_is_the_same_trials_by_what_is_locked() -> None:
    """But a power mode is a setting then, and must be equal."""
    with pytest.raises(ConfigInvalid, match="no device did the same work under two values"):
        compare_by(three_modes(), By.CLOCK)
    same = [
        msgspec.structs.replace(t.trial, conditions=msgspec.structs.replace(t.trial.conditions, power_mode="MAXN"))
        for t in three_modes()
    ]
    by = compare_by([StoredTrial(str(i), trial) for i, trial in enumerate(same)], By.CLOCK)
    assert {value.split(" at ")[1] for value in by.strata[0].values} == {"1.30 GHz", "0.62 GHz", "0.41 GHz"}


def test_other_settings_are_kept_apart() -> None:
    """Two numbers of threads are two strata, each by mode; a third with one mode alone is named as left out."""
    trials = [
        orin("MAXN", 1.0, 1, threads=4),
        orin("15W", 2.0, 2, threads=4),
        orin("MAXN", 1.2, 3, threads=8),
        orin("15W", 2.4, 4, threads=8),
        orin("MAXN", 1.3, 5, threads=12),
    ]
    by = compare_by(trials, By.POWER_MODE)
    assert len(by.strata) == 2
    assert by.left_out == ("orin-1: power mode MAXN alone",)


def test_devices_are_never_mixed() -> None:
    """One device in one mode each is nothing to compare by mode."""
    other = measured("orin-2", under=conditions(power_mode="15W"), seed=9).stored
    with pytest.raises(ConfigInvalid, match="no device did the same work"):
        compare_by([orin("MAXN", 1.0, 1), other], By.POWER_MODE)


@pytest.mark.parametrize(
    ("by", "one", "two"),
    [
        (By.MODE, {"mode": "eager"}, {"mode": "graph"}),
        (By.ATTENTION, {"attention": "sdpa"}, {"attention": "eager"}),
        (By.THREADS, {"threads": 1}, {"threads": 2}),
        (By.TF32, {"tf32": True}, {"tf32": False}),
        (By.GOVERNOR, {"governor": "performance"}, {"governor": "schedutil"}),
        (By.POWER_LIMIT, {"power_limit_w": 400.0}, {"power_limit_w": 700.0}),
    ],
)
def test_every_condition_has_its_columns(by: By, one: dict[str, object], two: dict[str, object]) -> None:
    """Two values, two columns."""
    trials = [measured(under=conditions(**named), seed=i).stored for i, named in enumerate((one, two))]
    assert len(compare_by(trials, by).strata[0].values) == 2


def test_precisions_are_compared_by_task() -> None:
    """Weights of another dtype have another digest, and are the same task."""
    trials = [
        measured(done=work(dtype=dtype, digest=digest * 32), seed=i).stored
        for i, (dtype, digest) in enumerate((("float32", "aa"), ("bfloat16", "bb")))
    ]
    assert set(compare_by(trials, By.DTYPE).strata[0].values) == {"float32", "bfloat16"}


def test_energy_is_billed_in_wh_and_money() -> None:
    """J per token / 3600 x 1e6 is Wh per million; times the price of a kWh, its cost."""
    by = compare_by(three_modes(), By.POWER_MODE, "MAXN", Price(per_kwh=0.30, currency="EUR"))
    stratum = by.strata[0]
    rows = {(row.metric, row.scope): row for row in stratum.comparison.works[0].rows}
    for bill in stratum.bills[0]:
        row = rows[bill.metric, bill.scope]
        tokens = 128 if bill.metric == "prefill_energy" else 1
        for cell, billed in zip(row.cells, bill.cells, strict=True):
            assert cell.value is not None
            assert billed.joules_per_token == pytest.approx(cell.value / tokens)
            assert billed.wh_per_million == pytest.approx(cell.value / tokens * 1e6 / 3600)
            assert billed.cost_per_million == pytest.approx(cell.value / tokens * 1e6 / 3.6e6 * 0.30)
    assert {bill.metric for bill in stratum.bills[0]} == {
        "request_token_energy",
        "decode_token_energy",
        "prefill_energy",
    }


def test_without_a_price_there_is_no_cost_and_without_a_sensor_no_bill() -> None:
    """Missing is None, never 0."""
    by = compare_by(three_modes(), By.POWER_MODE)
    assert all(cell.cost_per_million is None for bill in by.strata[0].bills[0] for cell in bill.cells)
    dark = [measured(under=conditions(mode=mode), seed=i).stored for i, mode in enumerate(("eager", "graph"))]
    stratum = compare_by(dark, By.MODE).strata[0]
    assert stratum.bills == ((),)


def test_failed_trials_alone_are_left_out_with_that_reason() -> None:
    """A device whose trials all failed is named."""
    by = compare_by([*three_modes(), failed("broken")], By.POWER_MODE)
    assert "broken: no trial that ended well" in by.left_out


def test_an_unknown_baseline_lists_the_values() -> None:
    with pytest.raises(ConfigInvalid, match=r"expected a value of power mode \(.*MAXN.*\), got '60W'"):
        compare_by(three_modes(), By.POWER_MODE, "60W")


def test_every_form_shows_values_and_costs() -> None:
    """Markdown and HTML name the columns by value, and hold the bill; labels from a board are escaped."""
    hostile = [orin("MAXN", 1.0, 1, attention="<b>x</b>"), orin("15W", 2.0, 2, attention="<b>x</b>")]
    by = compare_by(hostile, By.POWER_MODE, "MAXN", Price(per_kwh=0.30, currency="EUR"))
    text, page = by_markdown.render(by), by_html.render(by, 0.0)
    for shown in (text, page):
        assert "15W" in shown
        assert "EUR per million" in shown
        assert "Wh per million decoded tokens" in shown
        assert "<b>x</b>" not in shown
    assert "http://" not in page.replace("http://www.w3.org", "")
    (table,) = by_tables.tables_of(by, by.strata[0])
    assert [section.title for section in table.table.sections][-1] == "Cost of tokens at 0.3 EUR per kWh"
    assert {Scope.MODULE} == {bill.scope for bill in by.strata[0].bills[0]}


def test_pictures_say_which_way_is_better() -> None:
    page = by_html.render(compare_by(three_modes(), By.POWER_MODE), 0.0)
    assert "batch x steps / host time; higher is better" in page
    assert "(latency - TTFT) / (OSL - 1); lower is better" in page
