"""The Python API: what a notebook gets of a database, with the examples of its page run as they stand there."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pandas
import pytest

import collector
from collector.compare import compare
from collector.flat_tables import TABLES
from collector.store import open_store
from phasewatt.conditions import Conditions
from phasewatt.errors import ConfigInvalid, StoreUnavailable
from tests.fixtures import wire
from tests.fixtures.trials import GPU, MODULE, Measured, conditions, failed, measured, work

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


def under(**named: object) -> Conditions:
    return conditions(accelerator="cuda", processor="Example GPU", **named)


@pytest.fixture(scope="module")
def fleet() -> list[Measured]:
    return [
        measured("dgx-1", under=under(), sensors=[GPU]),
        measured("orin-1", under=under(), slowness=6, sensors=[MODULE], seed=1),
        measured("nuc", slowness=30, seed=2),
        measured("nuc", under=conditions(threads=1), slowness=50, seed=3),
        measured("alone", done=work(prompt_tokens=77), seed=4),
    ]


@pytest.fixture(scope="module")
def folder(fleet: list[Measured], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fleet")
    with contextlib.closing(open_store(f"sqlite:///{folder}/fleet.db", create=True)) as store:
        for seq, each in enumerate(fleet, 1):
            device = each.stored.trial.device
            store.ingest(wire.batch_of(each.stored.trial, device=device, first_seq=seq), 1.8e9)
            if each.traces:
                store.ingest(wire.batch_of(*each.traces, device=device, first_seq=100 * seq), 1.8e9)
        store.ingest(wire.batch_of(failed("dgx-1").trial, device="dgx-1", first_seq=50), 1.8e9)
    return folder


@pytest.fixture
def results(folder: Path) -> Iterator[collector.Results]:
    with collector.open(f"sqlite:///{folder}/fleet.db") as results:
        yield results


def examples() -> list[str]:
    return re.findall(r"^```python\n(.+?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(examples())))
def test_the_examples_of_the_page_run(folder, monkeypatch, capsys, number):
    monkeypatch.chdir(folder)
    exec(compile(examples()[number], f"docs/python.md, example {number}", "exec"), {})  # the page's own code
    out = capsys.readouterr().out
    expected = [["orin-1 beside dgx-1", "decode", "nuc", "request"], ["2 parts of power samples", "no power sensor"]]
    for text in expected[number]:
        assert text in out


def test_the_page_has_both_examples():
    assert len(examples()) == 2


def test_trials_are_a_row_each_newest_first(results, fleet):
    frame = results.trials()
    assert list(frame["device"]) == ["alone", "nuc", "nuc", "orin-1", *["dgx-1"] * 2]
    assert sorted(frame["record_id"][:-2]) == sorted(each.stored.record_id for each in fleet[1:])
    assert list(frame.columns) == [column.name for column in TABLES["trials"].columns]


def test_frames_keep_missing_values_missing_and_counts_whole(results):
    frame = results.metrics(device="nuc")
    assert str(frame["values"].dtype) == "Int64"
    missing = frame[frame["metric"] == "request_energy"]
    assert missing["median"].isna().all()
    assert missing["missing_because"].str.startswith("no power sensor").all()
    assert pandas.isna(frame["tf32"][0])
    assert (str(frame["median"].dtype), str(frame["tf32"].dtype)) == ("float64", "boolean")


@pytest.mark.parametrize("table", list(TABLES))
def test_frames_hold_what_plain_rows_hold(results, table):
    frame = getattr(results, table)(device="dgx-1")
    rows = list(results.rows(table, device="dgx-1"))
    assert len(frame) == len(rows) > 0
    for column in TABLES[table].columns:
        shown = [None if pandas.isna(value) else value for value in frame[column.name]]
        assert shown == [row[column.name] for row in rows]
    assert frame.attrs["units"].get("prompt_tokens") == "token"


def test_an_empty_answer_still_has_its_columns(results):
    assert len(results.trials(device="nobody")) == 0
    assert "device" in results.trials(device="nobody").columns


def test_records_are_the_trials_with_their_traces(results, fleet):
    (stored,) = results.records(device="orin-1")
    assert stored == fleet[1].stored
    assert results.traces(stored) == list(fleet[1].traces)
    assert [each.trial.device for each in results.records(limit=1)] == ["alone"]
    assert {each.trial.outcome.value for each in results.records(outcome="failed")} == {"failed"}


def test_two_groups_are_compared_as_the_command_compares_them(results, fleet):
    comparison = results.compare("dgx-1", "orin-1")
    assert [group.label for group in comparison.groups] == ["dgx-1", "orin-1"]
    expected = compare([fleet[0].stored, fleet[1].stored], "dgx-1")
    assert json.loads(msgspec.json.encode(comparison)) == json.loads(msgspec.json.encode(expected))
    assert results.compare("orin-1", "dgx-1").baseline == "orin-1"


def test_groups_of_one_device_are_told_apart_by_their_labels(results):
    comparison = results.compare("nuc, 1 thread", "nuc, 2 threads")
    assert [group.settings["threads"] for group in comparison.groups] == ["1", "2"]


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (("nuc", "dgx-1"), "'nuc' names several"),
        (("dgx-1", "nobody"), "'nobody' names none"),
        (("dgx-1", "dgx-1"), "name the same one"),
        (("dgx-1", "orin-1", "size"), "across: expected one of dtype, weights, engine, got 'size'"),
    ],
)
def test_what_cannot_be_compared_is_one_line(results, names, why):
    with pytest.raises(ConfigInvalid, match=why) as refused:
        results.compare(*names)
    assert "\n" not in str(refused.value)


def test_groups_without_common_work_are_refused(tmp_path):
    """Each of them shares a work with a third one."""
    short, long = work(prompt_tokens=16), work(prompt_tokens=64)
    trials = [measured("a", done=short), measured("b", done=long)]
    trials += [measured("c", done=short), measured("c", done=long)]
    with contextlib.closing(open_store(f"sqlite:///{tmp_path}/x.db", create=True)) as store:
        for seq, each in enumerate(trials, 1):
            store.ingest(wire.batch_of(each.stored.trial, device=each.stored.trial.device, first_seq=seq), 1.8e9)
    with collector.open(f"sqlite:///{tmp_path}/x.db") as results:
        assert len(results.compare("a", "c").works) == 1
        with pytest.raises(ConfigInvalid, match="'a' and 'b' have no work in common"):
            results.compare("a", "b")


def test_a_database_with_one_trial_has_nothing_to_compare(tmp_path):
    with contextlib.closing(open_store(f"sqlite:///{tmp_path}/x.db", create=True)) as store:
        store.ingest(wire.batch_of(measured("a").stored.trial, device="a"), 1.8e9)
    with collector.open(f"sqlite:///{tmp_path}/x.db") as results, pytest.raises(ConfigInvalid, match="no two groups"):
        results.compare("a", "b")


@pytest.mark.parametrize(
    ("which", "why"),
    [
        ({"colour": "red"}, "colour: expected one of device, suite"),
        ({"outcome": "okay"}, "outcome: expected one of ok, failed, skipped, got 'okay'"),
        ({"limit": 0}, "limit: expected a number above 0, got 0"),
    ],
)
def test_an_option_that_is_none_is_named(results, which, why):
    with pytest.raises(ConfigInvalid, match=why):
        results.trials(**which)
    with pytest.raises(ConfigInvalid, match="table: expected one of trials, metrics, repetitions, got 'power'"):
        results.rows("power")


def test_without_pandas_the_extra_is_named_and_plain_rows_work(results, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(
        ConfigInvalid, match=r"pip install 'phasewatt\[dataframe\]'; records\(\) and rows\(\) need none"
    ):
        results.trials()
    assert len(list(results.rows("trials"))) == 6


def test_a_database_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(StoreUnavailable, match=r"absent\.db"):
        collector.open(f"sqlite:///{tmp_path}/absent.db")
    with pytest.raises(StoreUnavailable, match="expected sqlite:///FILE"):
        collector.open("absent.db")


def test_shipped_trials_stand_beside_those_of_the_database_where_asked_for(folder, results):
    with collector.open(f"sqlite:///{folder}/fleet.db", reference=True) as both:
        origins = [stored.origin for stored in both.records()]
        shipped = next(stored for stored in both.records() if stored.origin == "reference" and stored.trial.traces)
        assert both.traces(shipped)
    assert (origins.count("store"), "reference" in origins) == (6, True)
    assert {stored.origin for stored in results.records()} == {"store"}


def test_without_a_database_the_shipped_trials_are_there_with_their_traces():
    with collector.open() as shipped:
        found = list(shipped.records(device="h100", suite="several-gpus", outcome="ok"))
        assert {stored.origin for stored in found} == {"reference"}
        assert {stored.trial.conditions.parallelism for stored in found} == {"single", "tensor 2", "tensor 4"}
        assert all(len(shipped.traces(stored)) == len(stored.trial.traces) > 0 for stored in found)


def test_the_package_says_what_it_lacks():
    with pytest.raises(AttributeError, match="module 'collector' has no attribute 'shut'"):
        collector.shut  # noqa: B018 - the look is the test
