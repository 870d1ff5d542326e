from __future__ import annotations

import msgspec
import pytest

from collector.compare import compare
from collector.comparison import Cell, ComparedWork, Comparison, Row, Verdict
from collector.pairing import Across
from collector.stored import StoredTrial
from phasewatt import quantization
from phasewatt.errors import ConfigInvalid
from phasewatt.fields import Scope
from phasewatt.metrics import METRICS
from phasewatt.records import Trial
from tests.fixtures.trials import GPU, MODULE, PACKAGE, conditions, failed, measured, stored, work


def row_of(work: ComparedWork, metric: str, scope: Scope | None = None) -> Row:
    (row,) = [row for row in work.rows if row.metric == metric and row.scope is scope]
    return row


def cells(comparison: Comparison, metric: str, scope: Scope | None = None) -> dict[str, Cell]:
    return {cell.group: cell for cell in row_of(comparison.works[0], metric, scope).cells}


def two_threads(**named: object) -> list[StoredTrial]:
    """A host with one thread, and one nearly twice as fast with two."""
    return [
        measured(under=conditions(threads=1), slowness=1.8, **named).stored,  # type: ignore[arg-type]
        measured(**named).stored,  # type: ignore[arg-type]
    ]


def without(trial: Trial, **fields: object) -> StoredTrial:
    return stored(msgspec.structs.replace(trial, **fields))


def test_a_row_has_value_interval_and_ratio_to_the_baseline() -> None:
    found = cells(compare(two_threads()), "prefill_latency")
    base, other = found["alpha, 1 thread"], found["alpha, 2 threads"]
    assert base.value == pytest.approx(1.8 * 0.0397, rel=0.02)
    assert (base.ratio, base.ratio_reason) == (None, "this is the baseline")
    assert other.ratio == pytest.approx(1 / 1.8, rel=0.03)
    assert other.ratio_low is not None
    assert other.ratio_high is not None
    assert other.ratio_low < other.ratio < other.ratio_high < 1
    assert other.verdict is Verdict.BETTER


def test_better_follows_the_direction_of_the_metric() -> None:
    comparison = compare(two_threads())
    assert cells(comparison, "prefill_rate")["alpha, 2 threads"].verdict is Verdict.BETTER
    turned = compare(two_threads(), baseline="alpha, 2 threads")
    assert cells(turned, "prefill_rate")["alpha, 1 thread"].verdict is Verdict.WORSE


def test_two_groups_that_do_equally_well_are_not_told_apart() -> None:
    found = cells(compare([measured("alpha").stored, measured("beta").stored]), "decode_step_latency")
    assert found["beta"].verdict is Verdict.UNCLEAR


def test_more_trials_of_a_group_are_more_evidence_for_one_value() -> None:
    trials = [*(measured("alpha", seed=seed).stored for seed in range(3)), measured("beta").stored]
    found = cells(compare(trials), "decode_step_latency")
    assert (found["alpha"].trials, found["alpha"].repetitions) == (3, 60)
    assert (found["beta"].trials, found["beta"].repetitions) == (1, 20)


def test_the_result_does_not_depend_on_the_order_of_the_trials() -> None:
    trials = [measured(name, seed=seed).stored for name in ("alpha", "beta") for seed in range(3)]
    assert compare(trials) == compare(trials[::-1])


def test_without_any_sensor_one_row_says_why_there_is_no_energy() -> None:
    work = compare(two_threads(energy_reason="no power sensor: none found")).works[0]
    assert [row.metric for row in work.rows if row.metric in METRICS and METRICS[row.metric].scoped] == []
    assert [(cell.value, cell.reason) for cell in row_of(work, "energy").cells] == [
        (None, "no power sensor: none found")
    ] * 2


def test_a_group_without_a_sensor_has_a_reason_beside_one_that_has_energy() -> None:
    comparison = compare([measured("alpha", sensors=[GPU]).stored, measured("beta").stored])
    found = cells(comparison, "decode_token_energy", Scope.GPU_BOARD)
    assert found["alpha"].value is not None
    assert found["beta"].value is None
    assert (found["beta"].reason or "").startswith("no power sensor")
    assert not [row for row in comparison.works[0].rows if row.metric == "energy"]


def test_unlike_scopes_stand_in_unlike_rows_and_are_not_ranked() -> None:
    comparison = compare([measured("alpha", sensors=[GPU]).stored, measured("beta", sensors=[MODULE]).stored])
    for scope, other in ((Scope.GPU_BOARD, "beta"), (Scope.MODULE, "alpha")):
        found = cells(comparison, "request_energy", scope)
        assert found[other].reason == f"request was not metered on scope {scope.value}"
        assert [cell.ratio for cell in found.values()] == [None, None]
        assert [cell.verdict for cell in found.values()] == [None, None]
    assert "unlike scopes are not compared" in comparison.headline[0].sentence


def test_energy_has_an_interval_and_its_sensors_gain_apart() -> None:
    found = cells(compare(two_threads(sensors=[GPU, PACKAGE])), "request_energy", Scope.CPU_PACKAGE)
    cell = found["alpha, 2 threads"]
    assert cell.value is not None
    assert cell.low is not None
    assert cell.high is not None
    assert cell.low < cell.value < cell.high
    assert cell.gain_uncertainty == pytest.approx(0.05)


def test_a_difference_within_the_gain_of_two_sensors_is_unclear_and_on_one_sensor_is_not() -> None:
    """Six percent, metered to a fraction of one: two devices may owe it to their sensors, one device may not."""
    weaker = GPU._replace(idle_w=GPU.idle_w * 0.94, prefill_w=GPU.prefill_w * 0.94, decode_w=GPU.decode_w * 0.94)
    apart = [measured("alpha", sensors=[GPU]).stored, measured("beta", sensors=[weaker]).stored]
    one = [
        measured(sensors=[GPU]).stored,
        measured(sensors=[weaker], under=conditions(power_limit_w=200.0)).stored,
    ]
    verdicts = [row_of(compare(trials).works[0], "decode_token_energy", Scope.GPU_BOARD) for trials in (apart, one)]
    assert {cell.verdict for cell in verdicts[0].cells if cell.ratio} == {Verdict.UNCLEAR}
    assert {cell.verdict for cell in verdicts[1].cells if cell.ratio} <= {Verdict.BETTER, Verdict.WORSE}


def test_refused_energy_keeps_the_reason_of_the_verdict() -> None:
    slow = GPU._replace(period_s=4.0)
    comparison = compare([measured(name, sensors=[slow]).stored for name in ("alpha", "beta")])
    (row,) = [row for row in comparison.works[0].rows if row.metric == "energy"]
    assert "too_few_updates" in (row.cells[0].reason or "")


def test_metrics_that_nobody_has_are_listed_apart_with_the_reason() -> None:
    work = compare(two_threads()).works[0]
    absent = {each.metric: each.reasons for each in work.not_available}
    assert absent["prefill_mfu"] == (
        "the ceilings of alpha were not measured: run `phasewatt-agent run ceilings` there",
    )
    assert absent["decode_rate_device"] == ("no accelerator to profile",)
    assert not absent.keys() & {row.metric for row in work.rows}


def test_every_metric_is_either_shown_or_listed_as_not_available() -> None:
    work = compare(two_threads(sensors=[GPU])).works[0]
    told = {row.metric for row in work.rows} | {each.metric for each in work.not_available}
    assert told == set(METRICS)


def test_a_group_that_did_only_some_of_the_work_has_a_reason_for_the_rest() -> None:
    chat, summary = work(), work(prompt_tokens=512)
    trials = [measured(name, done=done).stored for name in ("alpha", "beta") for done in (chat, summary)]
    comparison = compare([*trials, measured("gamma", done=chat).stored])
    (cell,) = [cell for cell in row_of(comparison.works[1], "ttft").cells if cell.group == "gamma"]
    assert (cell.value, cell.reason) == (None, "this group did not do this work")


def test_a_phase_that_never_settled_weakens_its_values() -> None:
    found = cells(compare([measured("alpha").stored, measured("beta", steady=False).stored]), "decode_rate")
    assert (found["alpha"].settled, found["alpha"].note) == (True, None)
    assert (found["beta"].settled, found["beta"].note) == (False, "decode never settled")


def test_what_never_settled_is_neither_better_nor_worse() -> None:
    """Even where the interval is far from 1: repetitions that drift are no fair sample."""
    slow = measured("beta", slowness=3, steady=False).stored
    for trials in ([measured("alpha").stored, slow], [slow, measured("alpha").stored]):
        comparison = compare(trials, baseline=trials[0].trial.device)
        verdicts = {cell.verdict for cell in row_of(comparison.works[0], "decode_rate").cells}
        assert verdicts == {None, Verdict.UNCLEAR}
        assert all(fact.result.endswith(", not at steady state") for fact in comparison.headline[0].facts)


def test_a_trial_without_a_value_is_told_beside_the_others_of_its_group() -> None:
    whole = measured("alpha", seed=1).stored
    part = without(measured("alpha", seed=2).stored.trial, runs=whole.trial.runs[:2])
    found = cells(compare([whole, part, measured("beta").stored]), "ttft")
    assert found["alpha"].trials == 1
    assert found["alpha"].note == "1 of 2 trials without a value: request was not run"


def test_impossible_times_of_one_board_do_not_break_the_comparison() -> None:
    trial = measured("alpha").stored.trial
    runs = [msgspec.structs.replace(run, durations_ns=(0,) * len(run.durations_ns)) for run in trial.runs]
    found = cells(compare([without(trial, runs=tuple(runs)), measured("beta").stored]), "decode_rate")
    assert found["alpha"].reason == "the trial states a time or a count of zero"


def test_itl_tells_its_tail() -> None:
    found = cells(compare(two_threads()), "itl")["alpha, 1 thread"].percentiles
    assert found is not None
    assert list(found) == ["p50", "p90", "p95", "p99"]


def test_percentiles_come_as_far_as_the_repetitions_reach() -> None:
    """Some fifty requests tell a p95 and no p99; a rate has no tail; the spread is the quartiles' share."""
    times = cells(compare(two_threads()), "ttft")["alpha, 1 thread"]
    assert 20 <= times.repetitions < 100
    assert list(times.percentiles or {}) == ["p50", "p90", "p95"]
    rates = cells(compare(two_threads()), "decode_rate")["alpha, 1 thread"]
    assert rates.percentiles is None
    assert rates.spread is not None and rates.quartiles is not None
    assert rates.spread == pytest.approx((rates.quartiles[1] - rates.quartiles[0]) / rates.value, rel=0.05)


def test_conditions_say_what_differs_from_the_baseline() -> None:
    comparison = compare(
        [
            measured("alpha", under=conditions(governor="performance")).stored,
            measured("beta", under=conditions(governor="powersave", temperature_c=(60.0, 80.0))).stored,
        ]
    )
    assert comparison.groups[0].differs_in == ()
    assert comparison.groups[1].differs_in == ("device", "governor", "temperature")
    (temperature,) = [condition for condition in comparison.conditions if condition.name == "temperature"]
    assert (temperature.observed, temperature.values) == (True, ("41 to 55 °C", "60 to 80 °C"))


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (None, "alpha, 1 thread"),
        ("alpha, 2 threads", "alpha, 2 threads"),
        ("alpha, 2", "alpha, 2 threads"),
        ("beta", "beta"),
        ("be", "beta"),
    ],
)
def test_the_baseline_is_a_label_a_prefix_or_a_device_and_stands_first(wanted: str | None, chosen: str) -> None:
    comparison = compare([*two_threads(), measured("beta").stored], baseline=wanted)
    assert comparison.baseline == chosen
    assert comparison.groups[0].label == chosen
    assert all(row.cells[0].group == chosen for row in comparison.works[0].rows)


@pytest.mark.parametrize("wanted", ["alpha", "gamma", "", "alpha, 1 thread "])
def test_an_unknown_or_ambiguous_baseline_is_refused_with_the_labels(wanted: str) -> None:
    with pytest.raises(ConfigInvalid, match="alpha, 1 thread; alpha, 2 threads"):
        compare([*two_threads(), measured("beta").stored], baseline=wanted)


def test_by_default_the_baseline_took_part_in_most_works() -> None:
    chat, summary = work(), work(prompt_tokens=512)
    trials = [measured(name, done=done).stored for name in ("beta", "gamma") for done in (chat, summary)]
    assert compare([*trials, measured("alpha", done=chat).stored]).baseline == "beta"


def test_across_dtype_puts_the_difference_into_the_heading() -> None:
    trials = [measured().stored, measured(done=work(dtype="float32", digest="cc" * 32)).stored]
    comparison = compare(trials, across=Across.DTYPE)
    assert comparison.heading.startswith("The same task compared across dtype (bfloat16 against float32): ")
    assert "bfloat16" not in comparison.works[0].title


def test_across_says_what_else_differs() -> None:
    other = work(dtype="float32", weights="random:1", digest="cc" * 32)
    comparison = compare([measured().stored, measured(done=other).stored], across=Across.DTYPE)
    assert "(bfloat16 against float32), weights differing too: " in comparison.heading


def test_the_headline_tells_speed_and_energy_of_each_group() -> None:
    (headline,) = compare(two_threads(sensors=[GPU])).headline
    assert headline.group == "alpha, 2 threads"
    assert [fact.subject for fact in headline.facts] == [
        "prefill",
        "decode",
        "the whole request",
        "energy per request (gpu-board)",
    ]
    assert headline.facts[0].result.startswith("1.8")
    assert "times as fast [" in headline.facts[0].result
    assert headline.facts[0].verdict is Verdict.BETTER
    assert headline.sentence.startswith("alpha, 2 threads beside alpha, 1 thread: prefill 1.8")


def test_the_headline_says_how_many_times_as_long_a_slower_group_takes() -> None:
    (headline,) = compare(two_threads(), baseline="alpha, 2 threads").headline
    assert "times as long [" in headline.facts[0].result
    assert headline.facts[0].verdict is Verdict.WORSE


def test_the_headline_gives_the_range_over_several_works() -> None:
    works = (work(), work(prompt_tokens=512))
    trials = [trial for done in works for trial in two_threads(done=done)]
    assert compare(trials).headline[0].facts[0].result.endswith("times as fast over 2 works")


def test_the_headline_says_why_energy_is_not_compared() -> None:
    (headline,) = compare([measured("alpha", sensors=[GPU]).stored, measured("beta").stored]).headline
    assert headline.remark == ("energy not compared: no power sensor: this host offers neither NVML nor powercap")


def test_equal_groups_show_no_clear_difference() -> None:
    (headline,) = compare([measured("alpha").stored, measured("beta").stored]).headline
    assert headline.facts[1].result.endswith(", no clear difference")


def test_nothing_to_compare_is_a_comparison_without_works() -> None:
    comparison = compare([failed(), measured("beta").stored])
    assert (comparison.works, comparison.baseline, comparison.headline) == ((), None, ())
    assert len(comparison.refused) == 2
    assert compare([]).heading == "Nothing to compare"


def test_simulated_groups_say_so() -> None:
    comparison = compare([measured("alpha").stored, measured("fake", under=conditions(simulated=True)).stored])
    assert [group.simulated for group in comparison.groups] == [False, True]
    assert comparison.groups[1].label == "fake, simulated"


def test_json_reads_back_to_the_same_comparison() -> None:
    comparison = compare(two_threads(sensors=[GPU]))
    encoded = msgspec.json.encode(comparison)
    assert msgspec.json.decode(encoded, type=Comparison) == comparison
    assert encoded.startswith(b'{"schema":"compare/1","heading":')


def test_across_dtype_the_bytes_of_a_token_stand_beside_the_latencies() -> None:
    """Quantized and whole are works of their own: only when asked for are they set side by side."""
    eight = quantization.SCHEMES["int8"].words
    trials = [measured("alpha", done=work(quantization=words)).stored for words in (None, eight)]
    assert compare(trials).works == ()
    found = cells(compare(trials, across=Across.DTYPE), "decode_token_bytes")
    values = {label: cell.value for label, cell in found.items()}
    assert len(values) == 2
    whole, fewer = sorted(values.values(), reverse=True)
    assert 1 < whole / fewer < 2  # bfloat16 weights against 1 byte, the same cache
