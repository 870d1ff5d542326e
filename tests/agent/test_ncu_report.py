"""Reports that ncu wrote, read: one of an H200 whole, and every way in which one can lack something."""

from __future__ import annotations

import csv
import gzip
import io
from collections import Counter
from pathlib import Path

import pytest

from agent.counters.report import parse
from phasewatt import counter_metrics
from tests.fixtures import ncu

RECORDED = Path(__file__).parent.parent / "fixtures" / "recordings" / "h200_ncu_prefill_decode.csv.gz"
WAIT = "smsp__average_warps_issue_stalled_wait_per_issue_active.ratio"


@pytest.fixture(scope="module")
def recorded() -> str:
    return gzip.decompress(RECORDED.read_bytes()).decode()


def two_kernels(**fields: str) -> str:
    """A small report: two kernels with a time and a hit rate each."""
    ranges = ncu.pushed("prefill", "prefill.norm")
    return ncu.report(
        [
            ncu.row(0, ranges, "first", counter_metrics.TIME, "6,720", "ns"),
            ncu.row(0, ranges, "first", counter_metrics.L2_HITS, fields.get("hits", "53.26")),
            ncu.row(1, ranges, "second", counter_metrics.TIME, "1,728", "ns", fields.get("process", "7")),
            ncu.row(1, ranges, "second", counter_metrics.L2_HITS, "40.5", process=fields.get("process", "7")),
        ]
    )


def test_a_recorded_report_is_read_whole(recorded):
    report = parse(recorded)
    assert Counter(kernel.ranges for kernel in report.kernels) == {("prefill",): 61, ("decode",): 67}
    assert report.problems == report.unknown == ()
    assert {kernel.capability for kernel in report.kernels} == {"9.0"}
    assert report.units[counter_metrics.TIME] == "ns"
    assert all(len(kernel.values) == 7 and not kernel.absent for kernel in report.kernels)


def test_thousands_are_no_thousandths(recorded):
    longest = max(parse(recorded).kernels, key=lambda kernel: kernel.values[counter_metrics.TIME])
    assert longest.values[counter_metrics.TIME] == 153_632
    assert longest.name.startswith("nvjet_sm90")


def test_a_kernel_whose_name_has_commas_is_one_kernel(recorded):
    names = [kernel.name for kernel in parse(recorded).kernels]
    assert len(names) == 128
    assert sum("T2 *, int, long, long" in name for name in names) == 1


def test_every_figure_of_the_recorded_report_is_in_what_was_read(recorded):
    body = recorded[recorded.index('"ID"') :]
    rows = list(csv.DictReader(io.StringIO(body)))
    values = {kernel.number: kernel.values for kernel in parse(recorded).kernels}
    assert len(rows) == 896
    assert all(values[row["ID"]][row["Metric Name"]] == float(row["Metric Value"].replace(",", "")) for row in rows)


def test_nested_ranges_come_outermost_first():
    (kernel, _) = parse(two_kernels()).kernels
    assert kernel.ranges == ("prefill", "prefill.norm")


@pytest.mark.parametrize("between", [" ", ",", "", " | "])
def test_ranges_are_told_however_they_are_set_apart(between):
    first, second = (ncu.pushed(name, thread="")[2:] for name in ("decode", "decode.ffn_up"))
    text = ncu.report([ncu.row(0, f"77  {first}{between}{second}", "k", counter_metrics.TIME, "1", "ns")])
    assert [name for name in parse(text).kernels[0].ranges if name != "|"] == ["decode", "decode.ffn_up"]


@pytest.mark.parametrize("value", ["n/a", "nan", "N/A", "", "inf", "(!) no data"])
def test_no_number_is_absent_and_not_zero(value):
    first, second = parse(two_kernels(hits=value)).kernels
    assert counter_metrics.L2_HITS not in first.values
    assert first.absent == {counter_metrics.L2_HITS}
    assert second.values[counter_metrics.L2_HITS] == 40.5


def test_a_zero_stays_a_zero(recorded):
    barrier = "smsp__average_warps_issue_stalled_barrier_per_issue_active.ratio"
    values = [kernel.values[barrier] for kernel in parse(recorded).kernels]
    assert values.count(0.0) == recorded.count(f'"{barrier}","inst","0"') + recorded.count(f'"{barrier}","inst","0.00"')


@pytest.mark.parametrize(
    ("unit", "value", "ns"), [("ns", "1,500", 1500), ("us", "1.5", 1500), ("usecond", "1.5", 1500), ("ms", "2", 2e6)]
)
def test_scaled_units_are_brought_back(unit, value, ns):
    report = parse(ncu.report([ncu.row(0, ncu.pushed("decode"), "k", counter_metrics.TIME, value, unit)]))
    assert report.kernels[0].values[counter_metrics.TIME] == ns
    assert report.units == {counter_metrics.TIME: "ns"}


def test_a_report_cut_within_a_row_says_so_and_drops_the_kernel(recorded):
    cut = recorded[: len(recorded) // 2]
    report = parse(cut)
    assert any(problem.startswith("truncated: the report ends within a row") for problem in report.problems)
    assert all(len(kernel.values) == 7 for kernel in report.kernels)
    assert 40 < len(report.kernels) < 80


@pytest.mark.parametrize("share", [0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 0.999])
def test_whatever_is_left_of_a_report_is_as_it_was(recorded, share):
    whole = {kernel.number: kernel for kernel in parse(recorded).kernels}
    report = parse(recorded[: int(len(recorded) * share)])
    assert report.kernels
    assert report.problems
    assert all(kernel == whole[kernel.number] for kernel in report.kernels)


def test_a_report_cut_between_the_rows_of_a_kernel_says_so(recorded):
    lines = recorded.splitlines(keepends=True)
    report = parse("".join(lines[: 4 + 7 * 10 + 3]))  # preamble, header, ten kernels and three rows
    assert [kernel.number for kernel in report.kernels] == [str(number) for number in range(10)]
    assert report.problems == ("truncated: the last kernel lacks counters that the others have, and was left out",)


@pytest.mark.parametrize("text", ["", "\n\n", "==PROF== Connected to process 1 (x)\n", "not a report at all"])
def test_what_has_no_table_says_so(text):
    report = parse(text)
    assert report.kernels == ()
    assert report.problems == ("the report has no table: ncu counted no kernel",)


def test_a_table_without_rows_says_so():
    assert parse(ncu.report([])).problems == ("the report has no row of a kernel",)


def test_permission_that_was_refused_is_named():
    said = "==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access NVIDIA GPU Performance Counters"
    assert parse(said).problems == ("not permitted (ERR_NVGPUCTRPERM): counters are kept for administrators",)


def test_another_error_is_given_in_its_own_words():
    assert parse("==ERROR== Failed to prepare kernel for profiling\n").problems == (
        "ncu: Failed to prepare kernel for profiling",
    )


@pytest.mark.parametrize(
    "line",
    [
        "==ERROR== Failed to find metric sm__no_such.sum",
        "==WARNING== Metric not found: sm__no_such.sum",
        "==ERROR== Unknown metric sm__no_such.sum",
    ],
)
def test_a_counter_that_the_tool_does_not_know_is_named(line):
    assert parse(line.replace("Metric not found", "metric not found")).unknown == ("sm__no_such.sum",)


def test_of_two_processes_one_is_taken_and_the_other_told():
    report = parse(two_kernels(process="8"))
    assert [kernel.name for kernel in report.kernels] == ["first"]
    assert report.problems == ("2 processes were counted: only the 1 kernels of process 7 were taken",)


def test_the_other_form_of_a_report_gives_the_same():
    header = [*ncu.HEADER[:13], counter_metrics.TIME, WAIT]
    units = ["" for _ in header[:-2]] + ["us", "inst"]
    ranges = ncu.pushed("decode", "decode.act")
    place = ["0", "7", "python3", "127.0.0.1", ranges, "", "k", "1", "7", "(1, 1, 1)", "(1, 1, 1)", "0", "9.0"]
    output = io.StringIO()
    csv.writer(output, quoting=csv.QUOTE_ALL).writerows([header, units, [*place, "1.5", "n/a"]])
    report = parse(output.getvalue())
    (kernel,) = report.kernels
    assert (kernel.values, kernel.absent) == ({counter_metrics.TIME: 1500.0}, {WAIT})
    assert (kernel.ranges, kernel.capability) == (("decode", "decode.act"), "9.0")
