"""What an energy rests on: doubts, cross-checks and gains, from the trial to what a reader sees."""

from __future__ import annotations

import pytest

from collector.compare import compare
from collector.comparison import Cell, Metering, Verdict
from collector.report import metering
from phasewatt.fields import Phase, Reading, Scope
from phasewatt.records import CrossCheck
from tests.fixtures.trials import GPU, Measured, conditions, measured, told

DOUBT = "throttled: software power cap in 38% of the window"
CARELESS = GPU._replace(gain_uncertainty=None)
MUCH_LESS = GPU._replace(idle_w=20.0, prefill_w=80.0, decode_w=40.0)


def decode_told(trial: Measured, **fields: object) -> Measured:
    return told(trial, Phase.DECODE, Scope.GPU_BOARD, **fields)


def of_decode(*trials: Measured, group: str = "alpha") -> Metering:
    work = compare([each.stored for each in (*trials, measured("zeta", sensors=[GPU]))]).works[0]
    (entry,) = [e for e in work.metering if (e.group, e.phase) == (group, Phase.DECODE)]
    return entry


def beside(first: Measured, second: Measured, metric: str = "decode_token_energy") -> tuple[Cell, ...]:
    work = compare([first.stored, second.stored]).works[0]
    (row,) = [row for row in work.rows if (row.metric, row.scope) == (metric, Scope.GPU_BOARD)]
    return row.cells


def checked(trial: Measured, share: float | None) -> Measured:
    """The trial with a counter that gives `share` of its energy of decode; None: that was refused."""
    (energy,) = [e for e in trial.stored.trial.energy if e.phase is Phase.DECODE]
    check = CrossCheck(
        source="constructed.counter",
        reading=Reading.COUNTER,
        energy_j=None if share is None else share * (energy.energy_j or 0.0),
        reason="counter_backwards: it ran backwards" if share is None else None,
        temporal_uncertainty_j=None if share is None else 1.0,
    )
    return decode_told(trial, check=check)


def test_doubts_reach_the_figures_of_their_phase_and_no_other() -> None:
    doubtful = decode_told(measured("alpha", sensors=[GPU]), doubts=(DOUBT,))
    other = measured("beta", sensors=[GPU])
    assert beside(doubtful, other)[0].doubts == (DOUBT,)
    assert DOUBT not in beside(doubtful, other, "prefill_energy")[0].doubts
    assert DOUBT not in beside(doubtful, other, "request_energy")[0].doubts


def test_doubts_of_the_idle_baseline_reach_what_it_is_subtracted_from() -> None:
    doubtful = told(measured("alpha", sensors=[GPU]), Phase.IDLE, Scope.GPU_BOARD, doubts=(DOUBT,))
    other = measured("beta", sensors=[GPU])
    assert f"idle baseline: {DOUBT}" in beside(doubtful, other, "decode_token_energy_adjusted")[0].doubts
    assert f"idle baseline: {DOUBT}" not in beside(doubtful, other)[0].doubts


def test_the_headline_says_that_there_are_doubts() -> None:
    first, second = (measured(name, sensors=[GPU]) for name in ("alpha", "beta"))
    sure = [told(each, Phase.REQUEST, Scope.GPU_BOARD, doubts=()).stored for each in (first, second)]
    doubtful = [told(first, Phase.REQUEST, Scope.GPU_BOARD, doubts=(DOUBT,)).stored, sure[1]]
    assert "with doubts" not in compare(sure).headline[0].facts[-1].result
    assert compare(doubtful).headline[0].facts[-1].result.endswith("with doubts")


def test_several_trials_show_the_worst_of_each() -> None:
    better = decode_told(measured("alpha", sensors=[GPU]), distinct_updates=90, longest_gap_s=0.2, calibrated=True)
    worse = decode_told(
        measured("alpha", sensors=[GPU], seed=1),
        distinct_updates=20,
        longest_gap_s=0.1,
        calibrated=False,
        doubts=(DOUBT,),
    )
    entry = of_decode(better, worse)
    assert (entry.trials, entry.fewest_updates, entry.longest_gap_s, entry.calibrated) == (2, 20, 0.2, False)
    assert DOUBT in entry.doubts


def test_cross_checks_are_shown_as_a_ratio_over_all_trials() -> None:
    first, second = measured("alpha", sensors=[GPU]), measured("alpha", sensors=[GPU], seed=1)
    one = of_decode(checked(first, 0.997))
    assert one.check_ratio == pytest.approx((0.997, 0.997))
    assert "counter / integrated = 0.997" in metering.line(one)
    two = of_decode(checked(first, 0.997), checked(second, 1.004))
    assert "counter / integrated = 0.997 to 1.004" in metering.line(two)


def test_a_trial_that_took_the_other_reading_has_its_ratio_turned_about() -> None:
    first, second = measured("alpha", sensors=[GPU]), measured("alpha", sensors=[GPU], seed=1)
    (energy,) = [e for e in second.stored.trial.energy if e.phase is Phase.DECODE]
    check = CrossCheck(
        source="constructed.power",
        reading=Reading.INSTANT,
        energy_j=(energy.energy_j or 0.0) / 0.99,
        reason=None,
        temporal_uncertainty_j=1.0,
    )
    by_counter = decode_told(second, reading=Reading.COUNTER, check=check)
    assert of_decode(checked(first, 0.997), by_counter).check_ratio == pytest.approx((0.99, 0.997))


def test_a_cross_check_that_was_refused_says_why() -> None:
    entry = of_decode(checked(measured("alpha", sensors=[GPU]), None))
    assert entry.check_ratio is None
    assert "counter_backwards: it ran backwards" in metering.line(entry)
    assert "no other reading" in metering.line(of_decode(measured("alpha", sensors=[GPU])))


def test_refused_energy_stands_with_its_reason_among_what_it_rests_on() -> None:
    refused = decode_told(
        measured("alpha", sensors=[GPU]), energy_j=None, reason="gap: silent for 2 s", temporal_uncertainty_j=None
    )
    entry = of_decode(refused)
    assert (entry.temporal_uncertainty, entry.gain_uncertainty) == (None, None)
    assert metering.line(entry)[-1].startswith("no energy: gap: silent for 2 s")


def test_every_line_has_a_text_under_each_header() -> None:
    entry = of_decode(measured("alpha", sensors=[GPU]))
    assert len(metering.line(entry)) == len(metering.HEADERS)
    assert all(metering.line(entry))


def test_gain_cancels_on_one_sensor_and_adds_up_on_two() -> None:
    alpha, beta = measured("alpha", sensors=[GPU]), measured("beta", sensors=[GPU])
    capped = measured("alpha", sensors=[GPU], under=conditions(power_limit_w=200.0))
    assert beside(alpha, capped)[1].ratio_gain_uncertainty == 0
    assert beside(alpha, beta)[1].ratio_gain_uncertainty == pytest.approx(0.05 * 2**0.5)


def test_another_rail_of_one_host_is_another_sensor() -> None:
    second = measured("alpha", sensors=[GPU._replace(name="gpu1")], under=conditions(power_limit_w=200.0))
    assert beside(measured("alpha", sensors=[GPU]), second)[1].ratio_gain_uncertainty == pytest.approx(0.05 * 2**0.5)


def test_a_reference_of_the_same_name_is_another_sensor() -> None:
    shipped = measured("alpha", sensors=[GPU], seed=1, origin="reference")
    assert beside(measured("alpha", sensors=[GPU]), shipped)[1].ratio_gain_uncertainty == pytest.approx(0.05 * 2**0.5)


def test_sensors_of_unknown_gain_give_no_verdict_across_hosts() -> None:
    known = beside(measured("alpha", sensors=[GPU]), measured("beta", sensors=[MUCH_LESS]))[1]
    unknown = beside(measured("alpha", sensors=[CARELESS]), measured("beta", sensors=[MUCH_LESS]))[1]
    assert (known.verdict, unknown.verdict) == (Verdict.BETTER, Verdict.UNCLEAR)
    assert unknown.ratio_gain_uncertainty is None
    assert "the gain of a power sensor is not known" in (unknown.note or "")
