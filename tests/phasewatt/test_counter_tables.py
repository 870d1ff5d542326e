"""The study's tables: figures as shares, what is missing with its reason, and changes between two circumstances."""

from __future__ import annotations

import pytest

from phasewatt import counter_metrics, counter_tables
from phasewatt.counter_tables import COLUMNS
from phasewatt.fields import Phase
from phasewatt.profiles import CounterProfile, OperatorCounters
from phasewatt.stall_words import stalls_of


def profile(phase: Phase, *operators: tuple[str, int, dict[str, float]], missing: dict[str, str] | None = None):
    """A profile of operators, each with a time in ns and counters."""
    return CounterProfile(
        phase=phase,
        tool="ncu",
        tool_version=None,
        compute_capability="9.0",
        kv_start=0,
        kv_end=1,
        repetitions=1,
        operators=tuple(
            OperatorCounters(operator=name, kernels=2, time_ns=ns, values=values) for name, ns, values in operators
        ),
        missing=missing or {},
    )


STALLS = {stall.metric: 1.0 for stall in stalls_of((9, 0))}


def test_a_row_has_shares_and_its_part_of_the_time():
    rows = counter_tables.rows(
        profile(
            Phase.DECODE,
            ("norm", 1000, {counter_metrics.DRAM_BUSY: 25.0, counter_metrics.REGISTERS: 32.0}),
            ("ffn_up", 3000, {counter_metrics.DRAM_BUSY: 75.0, **STALLS}),
        )
    )
    assert [row.time_share for row in rows] == [0.25, 0.75]
    assert rows[0].figures["dram"] == 0.25
    assert rows[0].figures["registers"] == 32
    assert rows[1].stalls["execution dependency"] == pytest.approx(2 / 19)


def test_what_is_missing_is_none_with_the_reason_of_the_profile():
    missing = {counter_metrics.L2_HITS: "not in the report"}
    (row,) = counter_tables.rows(profile(Phase.DECODE, ("norm", 10, {counter_metrics.L1_HITS: 3.0}), missing=missing))
    assert row.figures["l2_hit"] is None
    assert row.reasons["l2_hit"] == "not in the report"
    assert row.reasons["dram"] == "no kernel of this operator has a value"
    assert "l1_hit" not in row.reasons
    assert "stall reasons were not counted" in row.reasons["stalls"]
    assert row.stalls == {}


def test_a_profile_of_nothing_has_no_rows_and_no_means():
    empty = profile(Phase.PREFILL)
    assert counter_tables.rows(empty) == ()
    assert counter_tables.overall(empty) == {column.name: None for column in COLUMNS}


def test_the_mean_of_a_phase_is_weighted_by_time():
    whole = profile(
        Phase.DECODE,
        ("norm", 1000, {counter_metrics.DRAM_BUSY: 10.0}),
        ("ffn_up", 3000, {counter_metrics.DRAM_BUSY: 50.0}),
    )
    assert counter_tables.overall(whole)["dram"] == pytest.approx(0.4)


def test_a_change_is_of_figures_that_both_have():
    before = counter_tables.rows(profile(Phase.PREFILL, ("norm", 10, {counter_metrics.L2_HITS: 80.0, **STALLS})))
    after = counter_tables.rows(
        profile(
            Phase.DECODE, ("norm", 10, {counter_metrics.L2_HITS: 60.0}), ("act", 10, {counter_metrics.L2_HITS: 1.0})
        )
    )
    found = {change.figure: change for change in counter_tables.changes(before, after)}
    assert found.keys() == {"l2_hit", "time_share"}
    assert (found["l2_hit"].operator, found["l2_hit"].before, found["l2_hit"].after) == (
        "norm",
        0.8,
        pytest.approx(0.6),
    )


def test_how_much_of_all_waiting_the_reasons_cover_is_said():
    """Of 20 warps that are resident while one issues 19 wait, which 19 reasons of 1 each are."""
    resident = counter_metrics.WARPS_PER_ISSUE
    whole, half = {**STALLS, resident: 20.0}, {**STALLS, resident: 39.0}
    found = counter_tables.rows(profile(Phase.DECODE, ("norm", 1000, half), ("ffn_up", 3000, whole)))
    assert [row.explained for row in found] == [pytest.approx(0.5), pytest.approx(1.0)]
    assert counter_tables.explained(found) == (
        "the stall reasons cover 87.5% of all waiting, from 50.0% in norm to 100.0% in ffn_up"
    )


def test_waiting_that_was_not_counted_is_not_said_to_be_covered():
    resident = counter_metrics.WARPS_PER_ISSUE
    (none,) = counter_tables.rows(profile(Phase.DECODE, ("norm", 1000, STALLS)))
    assert none.explained is None
    assert counter_tables.explained([none]) == "how much of all waiting the stall reasons cover was not counted"
    some = counter_tables.rows(
        profile(Phase.DECODE, ("norm", 1000, STALLS), ("act", 1, {**STALLS, resident: 20.0}), ("rotary", 1, {}))
    )
    assert (counter_tables.explained(some) or "").endswith("; of 1 operators it was not counted")
    assert counter_tables.explained(counter_tables.rows(profile(Phase.DECODE, ("norm", 1, {})))) is None
