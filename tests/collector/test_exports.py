"""Trials as tables and as a timeline: what a notebook and what ui.perfetto.dev get."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest

from collector import app, flat_tables, parquet
from collector.columns import CellKind, Column
from collector.flat_tables import TABLES
from collector.perfetto import trace_of
from collector.repetition_rows import repetition_rows
from collector.store import open_store
from collector.stored import StoredTrial
from phasewatt import codec, identity
from phasewatt.conditions import Course
from phasewatt.errors import ConfigInvalid
from phasewatt.fields import Kind, Phase
from phasewatt.records import Trial
from phasewatt.traces import Trace
from tests.fixtures import golden, records, wire
from tests.fixtures.trials import GPU, PACKAGE, Measured, failed, measured, stored

DOCS = Path(__file__).parents[2] / "docs" / "exports.md"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """The program in this process, on a database of its own: exit code and both streams."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def call(*arguments: object) -> tuple[int, str, str]:
        code = app.main([str(argument) for argument in arguments])
        return (code, *capsys.readouterr())

    return call


@pytest.fixture
def chosen(tmp_path: Path) -> Measured:
    """A trial with power, beside another one, both in the default database."""
    with_power, without = measured("dgx", sensors=[GPU, PACKAGE]), measured("nuc")
    (tmp_path / "state" / "phasewatt").mkdir(parents=True)
    url = f"sqlite:///{tmp_path}/state/phasewatt/collector.db"
    with contextlib.closing(open_store(url, create=True)) as store:
        store.ingest(wire.batch_of(with_power.stored.trial, device="dgx"), 1.8e9)
        store.ingest(wire.batch_of(*with_power.traces, device="dgx", first_seq=2), 1.8e9)
        store.ingest(wire.batch_of(without.stored.trial, device="nuc"), 1.8e9)
    return with_power


def golden_trial() -> StoredTrial:
    trial = golden.filled()["trial_ok"]
    assert isinstance(trial, Trial)
    return stored(trial)


def told_of(each: Measured, **fields: Any) -> StoredTrial:
    return stored(msgspec.structs.replace(each.stored.trial, **fields))


def events_of(trial: StoredTrial, traces: Sequence[Trace] = ()) -> list[dict[str, Any]]:
    document = trace_of(trial, traces)
    check_format(document)
    events: list[dict[str, Any]] = document["traceEvents"]
    return events


def check_format(document: dict[str, Any]) -> None:
    """What the Trace Event Format and its readers ask of a file, strictly."""
    parsed = json.loads(json.dumps(document, allow_nan=False))
    assert set(parsed) == {"traceEvents", "displayTimeUnit", "otherData"}
    named: set[tuple[str, int, int | None]] = set()
    for event in parsed["traceEvents"]:
        if event["ph"] == "M":
            assert set(event) - {"tid"} == {"ph", "name", "pid", "args"}
            assert set(event["args"]) == {"name"} or set(event["args"]) == {"sort_index"}
            named.add((event["name"], event["pid"], event.get("tid")))
            continue
        assert isinstance(event["name"], str) and event["name"]
        assert isinstance(event["ts"], int) and event["ts"] >= 0
        assert ("process_name", event["pid"], None) in named
        if event["ph"] == "C":
            assert set(event) == {"ph", "name", "pid", "ts", "args"}
            assert len(event["args"]) == 1
            assert all(isinstance(value, (int, float)) for value in event["args"].values())
        else:
            assert set(event) == {"ph", "name", "pid", "tid", "ts", "dur", "args"}
            assert (event["ph"], isinstance(event["dur"], int)) == ("X", True)
            assert event["dur"] >= 0
            assert ("thread_name", event["pid"], event["tid"]) in named
    check_nesting([event for event in parsed["traceEvents"] if event["ph"] == "X"])


def check_nesting(slices: Sequence[dict[str, Any]]) -> None:
    """Slices of one thread contain each other or follow each other; a reader drops what overlaps."""
    threads: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for event in slices:
        threads[event["pid"], event["tid"]].append(event)
    for events in threads.values():
        around: list[int] = []
        assert [event["ts"] for event in events] == sorted(event["ts"] for event in events)
        for event in events:
            while around and around[-1] <= event["ts"]:
                around.pop()
            end = event["ts"] + event["dur"]
            assert not around or end <= around[-1], event
            around.append(end)


def slices(events: Sequence[dict[str, Any]], process: int = 1, thread: int = 1) -> list[dict[str, Any]]:
    return [event for event in events if event["ph"] == "X" and (event["pid"], event["tid"]) == (process, thread)]


def test_phases_and_repetitions_are_slices_as_long_as_they_took():
    each = measured("dgx", sensors=[GPU])
    trial = each.stored.trial
    events = events_of(each.stored, each.traces)
    phases = [event for event in slices(events) if event["name"] in {phase.value for phase in Phase}]
    assert [event["name"] for event in phases] == ["idle", "prefill", "decode", "request"]
    prefill = trial.run_of(Phase.PREFILL)
    assert prefill is not None and prefill.window is not None
    (window,) = [e for e in slices(events) if e["name"] == "window" and phases[1]["ts"] <= e["ts"] < phases[2]["ts"]]
    assert window["dur"] == pytest.approx(prefill.window.duration_s * 1e6, abs=1.5)
    repetitions = [event for event in slices(events, thread=2) if event["name"] == "prefill"]
    assert len(repetitions) == len(prefill.starts_ns) - prefill.warmup
    assert repetitions[0]["args"]["took, ms"] == pytest.approx(prefill.durations_ns[prefill.warmup] * 1e-6)
    assert "energy of the window, gpu-board" in phases[1]["args"]


def test_requests_show_when_their_first_token_came():
    each = measured()
    request = each.stored.trial.run_of(Phase.REQUEST)
    assert request is not None and request.first_token_ns is not None
    firsts = [event for event in slices(events_of(each.stored), thread=2) if event["name"] == "to the first token"]
    assert [event["dur"] for event in firsts] == pytest.approx([ns / 1000 for ns in request.first_token_ns], abs=1.5)


def test_repetitions_that_overlap_have_lanes_of_their_own():
    each = measured()
    runs = each.stored.trial.runs
    overlapping = msgspec.structs.replace(
        runs[3], starts_ns=tuple(runs[3].starts_ns[0] + 1_000_000 * at for at in range(len(runs[3].starts_ns)))
    )
    events = events_of(told_of(each, runs=(*runs[:3], overlapping)))
    lanes = {event["tid"] for event in events if event["ph"] == "X" and event["name"].startswith("request")} - {1}
    assert len(lanes) > 10


def test_power_is_a_counter_for_each_channel_in_watts():
    each = measured("dgx", sensors=[GPU, PACKAGE])
    events = events_of(each.stored, each.traces)
    by_name = defaultdict(list)
    for event in events:
        if event["ph"] == "C":
            by_name[event["name"]].append(event["args"]["W"])
    assert set(by_name) == {
        "power, gpu-board: gpu0 (constructed.instant)",
        "power, cpu-package: package-0, from its counter (constructed.counter)",
    }
    board, package = by_name.values()
    assert 480 < max(board) < 560
    assert 55 < max(package) < 70


def test_the_first_moment_is_zero_and_the_file_says_which_moment_that_was():
    """Power is sampled from before the trial began."""
    each = measured("dgx", sensors=[GPU])
    document = trace_of(each.stored, each.traces)
    times = [event["ts"] for event in document["traceEvents"] if event["ph"] != "M" and event["pid"] == 1]
    assert min(times) == 0
    trial = each.stored.trial
    zero_ns = document["otherData"]["zero_monotonic_ns"]
    assert zero_ns < trial.started_ns
    idle = next(event for event in document["traceEvents"] if event["name"] == "idle")
    assert idle["ts"] == (trial.runs[0].starts_ns[0] - zero_ns) // 1000


def test_clock_temperature_and_throttling_are_counters_without_what_no_look_got():
    each = measured()
    begun_ns = each.stored.trial.started_ns
    course = Course(
        at_ns=(begun_ns, begun_ns + 5_000_000),
        clock_hz=(1_980_000_000, None),
        temperature_c=(51.0, 52.5),
        throttled=(None, True),
    )
    counters = [event for event in events_of(told_of(each, course=course)) if event["ph"] == "C"]
    assert [(event["name"], *event["args"].items(), event["ts"]) for event in counters] == [
        ("processor clock", ("MHz", 1980.0), 0),
        ("processor temperature", ("°C", 51.0), 0),
        ("processor temperature", ("°C", 52.5), 5000),
        ("held back", ("1: yes", 1.0), 5000),
    ]


def test_operators_are_a_summary_that_says_that_it_is_no_timeline():
    each = measured()
    trial = golden_trial().trial
    events = events_of(told_of(each, profiles=trial.profiles, counters=trial.counters))
    (title,) = [e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "process_name" and e["pid"] == 2]
    assert "not in the order of time" in title
    profile = trial.profiles[0]
    whole, *parts = slices(events, process=2)
    assert (whole["name"], whole["ts"]) == (profile.phase.value, 0)
    operators = {each.operator: each.device_ns / profile.repetitions for each in profile.operators}
    shown = {part["name"]: part["args"]["took, ms a repetition"] * 1e6 for part in parts if part["name"] in operators}
    assert shown == pytest.approx(operators)


def test_a_board_cannot_break_the_file_by_its_names():
    evil = 'x"</script>\x1b[31m\n' * 3
    each = measured("dgx", sensors=[GPU._replace(name=evil)])
    events_of(told_of(each, cell=evil), each.traces)


@pytest.mark.parametrize(
    ("trial", "why"),
    [
        (failed(reason="needs 16 GB"), "has no repetitions: failed: needs 16 GB"),
        (stored(records.trial(runs=(), work=None, imported=golden_trial().trial.imported)), "imported from"),
    ],
)
def test_a_trial_that_ran_nothing_is_refused_with_the_reason(trial, why):
    with pytest.raises(ConfigInvalid, match=why):
        trace_of(trial, ())


def test_the_command_writes_a_timeline(run, chosen, tmp_path):
    record_id = chosen.stored.record_id
    code, out, err = run("export", "--format", "perfetto", "--trial", record_id[:10], tmp_path / "t.json.gz")
    assert (code, out, err) == (0, f"{tmp_path / 't.json.gz'}: open it in ui.perfetto.dev\n", "")
    document = json.loads(gzip.decompress((tmp_path / "t.json.gz").read_bytes()))
    check_format(document)
    assert document["otherData"]["record_id"] == record_id
    assert any(event["ph"] == "C" for event in document["traceEvents"])


def test_without_a_file_the_timeline_goes_to_standard_output_alone(run, chosen):
    code, out, err = run("export", "--format", "perfetto", "--trial", chosen.stored.record_id)
    assert (code, err) == (0, "standard output: open it in ui.perfetto.dev\n")
    check_format(json.loads(out))


def test_lost_traces_are_said(run, chosen, tmp_path):
    trial = msgspec.structs.replace(chosen.stored.trial, cell="other", traces=("no such trace",))
    with contextlib.closing(open_store(f"sqlite:///{tmp_path}/state/phasewatt/collector.db")) as store:
        store.ingest(wire.batch_of(trial, device="dgx", first_seq=50), 1.8e9)
    lost = identity.record_id(Kind.TRIAL, codec.encode(trial))
    code, out, _ = run("export", "--format", "perfetto", "--trial", lost, tmp_path / "t.json")
    assert code == 0
    assert "no power over time: its traces are not in this store" in out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--format", "perfetto", "x.json"], "expected --trial RECORD_ID"),
        (["--format", "perfetto", "--trial", "zz", "x.json"], "'zz' names 0"),
        (["--format", "parquet"], "--format parquet: expected a FILE"),
        (["--table", "metrics", "x.jsonl"], "--table: expected with --format csv or parquet"),
    ],
)
def test_what_cannot_be_written_is_one_line(run, chosen, tmp_path, monkeypatch, arguments, why):
    monkeypatch.chdir(tmp_path)
    code, _, err = run("export", *arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert why in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state"]


def test_one_trial_is_exported_with_its_traces_and_no_other(run, chosen, tmp_path):
    code, out, _ = run("export", "--trial", chosen.stored.record_id, tmp_path / "one.jsonl")
    assert (code, out) == (0, f"{tmp_path / 'one.jsonl'}: {1 + len(chosen.traces)} records written\n")
    other = f"sqlite:///{tmp_path}/other.db"
    assert run("import", "--db", other, tmp_path / "one.jsonl")[0] == 0
    with contextlib.closing(open_store(other)) as store:
        assert store.traces(chosen.stored.trial.traces) == list(chosen.traces)


@pytest.mark.parametrize("table", list(TABLES))
def test_parquet_holds_what_the_csv_holds(run, chosen, tmp_path, table):
    assert run("export", "--format", "parquet", "--table", table, tmp_path / "t.parquet")[0] == 0
    code, out, _ = run("export", "--format", "csv", "--table", table)
    assert code == 0
    with duckdb.connect() as connection:
        found = connection.read_parquet(str(tmp_path / "t.parquet"))
        names, rows = found.columns, found.fetchall()
        types = dict(zip(names, map(str, found.types), strict=True))
    expected = list(csv.reader(io.StringIO(out)))
    assert names == expected[0]
    assert [["" if cell is None else str(cell) for cell in row] for row in rows] == expected[1:]
    kinds = {"TEXT": "VARCHAR", "INTEGER": "BIGINT", "REAL": "DOUBLE", "TRUTH": "BOOLEAN"}
    assert types == {column.name: kinds[column.kind.name] for column in TABLES[table].columns}


def test_parquet_of_nothing_still_has_its_columns(run, tmp_path, chosen):
    assert run("export", "--format", "parquet", "--device", "nobody", tmp_path / "t.parquet")[0] == 0
    with duckdb.connect() as connection:
        found = connection.read_parquet(str(tmp_path / "t.parquet"))
        assert (len(found.columns), found.fetchall()) == (len(TABLES["metrics"].columns), [])


def test_units_travel_with_the_parquet_file(tmp_path):
    columns = TABLES["repetitions"].columns
    assert parquet.write(tmp_path / "it's.parquet", columns, TABLES["repetitions"].rows([measured().stored])) > 50
    with duckdb.connect() as connection:
        ((told,),) = connection.execute(
            "SELECT value FROM parquet_kv_metadata(?) WHERE key = 'units'", [str(tmp_path / "it's.parquet")]
        ).fetchall()
    assert json.loads(told)["duration_s"] == "s"


def test_missing_values_and_odd_texts_come_through_parquet(tmp_path):
    columns = [Column("text", CellKind.TEXT), Column("count", CellKind.INTEGER), Column("share", CellKind.REAL)]
    rows = [
        {"text": 'a,"b"\nc\x1b', "count": 2**53, "share": 1e-9 / 3},
        {"text": "", "count": None, "share": None},
        {"text": None, "count": 0, "share": 0.0},
    ]
    parquet.write(tmp_path / "t.parquet", columns, rows)
    with duckdb.connect() as connection:
        found = connection.read_parquet(str(tmp_path / "t.parquet")).fetchall()
    assert found == [tuple(row.values()) for row in rows]


def test_without_duckdb_the_extra_is_named(run, chosen, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    code, _, err = run("export", "--format", "parquet", tmp_path / "t.parquet")
    assert (code, err.count("\n")) == (2, 1)
    assert "pip install 'phasewatt[parquet]'" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state"]


def test_a_place_that_cannot_be_written_is_one_line(run, chosen, tmp_path):
    code, _, err = run("export", "--format", "parquet", tmp_path / "absent" / "t.parquet")
    assert (code, err.count("\n")) == (2, 1)
    assert "cannot be written: No such file or directory" in err


def test_a_repetition_has_a_row_with_its_place_in_time():
    each = measured()
    rows = list(repetition_rows(each.stored))
    run_ = each.stored.trial.run_of(Phase.REQUEST)
    assert run_ is not None and run_.first_token_ns is not None and run_.gaps_ns is not None
    requests = [row for row in rows if row["phase"] == "request"]
    assert [row["warmup"] for row in requests[:4]] == [True, True, True, False]
    assert requests[3]["duration_s"] == run_.durations_ns[3] * 1e-9
    assert requests[3]["first_token_s"] == run_.first_token_ns[3] * 1e-9
    assert requests[3]["mean_gap_s"] == pytest.approx(sum(run_.gaps_ns[0]) * 1e-9 / len(run_.gaps_ns[0]))
    assert requests[2]["mean_gap_s"] is None
    assert requests[0]["start_s"] == pytest.approx((run_.starts_ns[0] - each.stored.trial.started_ns) * 1e-9)
    assert {row["first_token_s"] for row in rows if row["phase"] == "decode"} == {None}


def test_repetitions_that_get_deeper_have_depths_of_their_own():
    each = measured()
    runs = list(each.stored.trial.runs)
    runs[2] = msgspec.structs.replace(runs[2], kv_advance=16)
    rows = [row for row in repetition_rows(told_of(each, runs=tuple(runs))) if row["phase"] == "decode"]
    assert [row["kv_start"] - runs[2].kv_start for row in rows[:6]] == [0, 0, 0, 0, 16, 32]


@pytest.mark.parametrize("table", list(TABLES))
def test_every_row_has_every_column(table):
    names = {column.name for column in flat_tables.TABLES[table].columns}
    trials = [measured("dgx", sensors=[GPU]).stored, failed(), stored(records.trial()), golden_trial()]
    for row in TABLES[table].rows(trials):
        assert row.keys() == names


@pytest.mark.parametrize("table", list(TABLES))
def test_every_column_is_described_with_its_kind_and_unit(table):
    lines = re.findall(r"^\| (`.+`) \| (\w+) \| (.*?) \| .+ \|$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    described = {name: (kind, unit) for names, kind, unit in lines for name in re.findall(r"`(\w+)`", names)}
    for column in TABLES[table].columns:
        assert described[column.name] == (column.kind.value, column.unit or "")
