"""Counters by phase and operator: means weighted by what they are ratios of, and all that is missing said."""

from __future__ import annotations

import gzip
import math

import pytest

from agent.counters import profile
from agent.counters.profile import Circumstances, depths_of, profiles
from agent.counters.report import Report, parse
from phasewatt import counter_metrics
from phasewatt.counter_metrics import L2_HITS, L2_SECTORS, TIME
from phasewatt.fields import Phase
from phasewatt.stall_words import NO_SUCH
from tests.agent.test_ncu_report import RECORDED
from tests.fixtures import ncu

KNOWN = Circumstances(tool_version="1", capability=None, asked=(TIME, L2_HITS, L2_SECTORS), depths=depths_of(512))


def kernels(*rows: tuple[str, str, dict[str, str]]) -> Report:
    """A report of kernels, each in a phase, of an operator, with figures."""
    written = []
    for number, (phase, operator, figures) in enumerate(rows):
        ranges = ncu.pushed(phase, f"{phase}.{operator}")
        written += [ncu.row(number, ranges, "k", name, value, "ns") for name, value in figures.items()]
    return parse(ncu.report(written))


def test_the_recorded_report_becomes_a_profile_of_each_phase():
    report = parse(gzip.decompress(RECORDED.read_bytes()).decode())
    prefill, decode = profiles(report, KNOWN._replace(asked=counter_metrics.asked((9, 0))))
    (all_of_prefill,), (all_of_decode,) = prefill.operators, decode.operators
    assert (all_of_prefill.operator, all_of_prefill.kernels, all_of_decode.kernels) == (None, 61, 67)
    assert (prefill.compute_capability, prefill.repetitions) == ("9.0", 1)
    dram = counter_metrics.DRAM_BUSY
    by_hand = [(k.values[TIME], k.values[dram]) for k in report.kernels if k.ranges == ("decode",)]
    mean = sum(t * v for t, v in by_hand) / sum(t for t, _ in by_hand)
    assert all_of_decode.values[dram] == pytest.approx(mean)
    assert all_of_decode.values[dram] == pytest.approx(39.7, abs=0.05)
    assert all_of_decode.time_ns == sum(t for t, _ in by_hand)


def test_what_the_recorded_report_lacks_is_missing_and_not_zero():
    report = parse(gzip.decompress(RECORDED.read_bytes()).decode())
    (prefill, _) = profiles(report, KNOWN._replace(asked=counter_metrics.asked((9, 0))))
    assert prefill.missing[counter_metrics.REGISTERS] == "not in the report"
    assert not prefill.missing.keys() & prefill.operators[0].values.keys()
    assert len(prefill.missing) == len(counter_metrics.METRICS) - 7
    assert prefill.reason is not None
    assert "above 100 % in 8 of 61 kernels" in prefill.reason
    assert "no operator is marked in the report" in prefill.reason


def test_a_hit_rate_is_weighted_by_lookups():
    big = {TIME: "1,000", L2_HITS: "10", L2_SECTORS: "900"}
    small = {TIME: "1,000", L2_HITS: "90", L2_SECTORS: "100"}
    (prefill, _) = profiles(kernels(("prefill", "norm", big), ("prefill", "norm", small)), KNOWN)
    assert prefill.operators[0].values[L2_HITS] == pytest.approx(18)
    assert prefill.operators[0].values[L2_SECTORS] == 1000


def test_without_lookups_a_hit_rate_is_weighted_by_time():
    known = KNOWN._replace(asked=(TIME, L2_HITS))
    rows = [("prefill", "norm", {TIME: "3,000", L2_HITS: "10"}), ("prefill", "norm", {TIME: "1,000", L2_HITS: "50"})]
    (prefill, _) = profiles(kernels(*rows), known)
    assert prefill.operators[0].values[L2_HITS] == pytest.approx(20)


def test_a_kernel_that_asked_no_cache_has_no_hit_rate():
    silent = {TIME: "1,000", L2_HITS: "0", L2_SECTORS: "0"}
    (prefill, _) = profiles(kernels(("prefill", "norm", silent)), KNOWN)
    assert L2_HITS not in prefill.operators[0].values


def test_impossible_hit_rates_are_left_out_and_counted():
    rows = [("prefill", "norm", {TIME: "1,000", L2_HITS: "233"}), ("prefill", "norm", {TIME: "3,000", L2_HITS: "50"})]
    (prefill, _) = profiles(kernels(*rows), KNOWN)
    assert prefill.operators[0].values[L2_HITS] == 50
    assert f"{L2_HITS}: above 100 % in 1 of 2 kernels (25.0% of their time), left out" in (prefill.reason or "")


def test_each_kernel_is_of_the_innermost_operator_and_of_one_only():
    rows = [(phase, name, {TIME: "1,000"}) for phase in ("prefill", "decode") for name in ("norm", "ffn_up", "norm")]
    found = profiles(kernels(*rows), KNOWN._replace(asked=(TIME,)))
    assert [[(o.operator, o.kernels, o.time_ns) for o in each.operators] for each in found] == [
        [("norm", 2, 2000), ("ffn_up", 1, 1000)]
    ] * 2
    assert [(each.kv_start, each.kv_end) for each in found] == [(0, 512), (512, 513)]


def test_a_range_of_another_name_is_no_operator_of_ours():
    (prefill, _) = profiles(kernels(("prefill", "gossip", {TIME: "1"}), ("prefill", "act", {TIME: "1"})), KNOWN)
    assert [o.operator for o in prefill.operators] == ["act", None]


def test_a_phase_that_is_not_in_the_report_says_so():
    (_, decode) = profiles(kernels(("prefill", "norm", {TIME: "1"})), KNOWN)
    assert (decode.operators, decode.repetitions) == ((), 0)
    assert decode.reason == "no kernel of decode is in the report"


def test_kernels_outside_of_every_phase_are_told():
    text = ncu.report([ncu.row(0, ncu.pushed("setup"), "k", TIME, "1", "ns")])
    (prefill, _) = profiles(parse(text), KNOWN)
    assert "1 kernels were in no phase" in (prefill.reason or "")


def test_kernels_without_a_time_are_left_out_and_told():
    rows = [("prefill", "norm", {TIME: "n/a", L2_HITS: "9"}), ("prefill", "norm", {TIME: "10", L2_HITS: "50"})]
    (prefill, _) = profiles(kernels(*rows), KNOWN)
    assert prefill.operators[0].values[L2_HITS] == 50
    assert "1 of 2 kernels have no time, and were left out" in (prefill.reason or "")


def test_a_report_without_times_gives_no_means():
    (prefill, _) = profiles(kernels(("prefill", "norm", {L2_HITS: "9"})), KNOWN)
    assert prefill.operators == ()
    assert prefill.reason == f"no kernel has its time ({TIME})"


def test_why_a_counter_is_missing_is_told_apart():
    report = kernels(("prefill", "norm", {TIME: "1", L2_HITS: "n/a"}))
    known = KNOWN._replace(asked=(TIME, L2_HITS, L2_SECTORS), lacking={"x__y.sum": NO_SUCH})
    (prefill, _) = profiles(report, known)
    assert prefill.missing == {
        L2_HITS: "no value (n/a) in any of 1 kernels",
        L2_SECTORS: "not in the report",
        "x__y.sum": NO_SUCH,
    }


def test_a_total_of_which_a_part_is_missing_is_no_total():
    rows = [("prefill", "norm", {TIME: "1", L2_SECTORS: "5"}), ("prefill", "norm", {TIME: "1", L2_SECTORS: "n/a"})]
    (prefill, _) = profiles(kernels(*rows), KNOWN)
    assert L2_SECTORS not in prefill.operators[0].values


def test_nothing_that_is_kept_is_no_number():
    report = parse(gzip.decompress(RECORDED.read_bytes()).decode())
    for each in profiles(report, KNOWN):
        assert all(math.isfinite(value) for o in each.operators for value in o.values.values())
    assert profile.phase_of(report.kernels[0]) is Phase.PREFILL
