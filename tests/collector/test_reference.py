from __future__ import annotations

import gzip
import json
from pathlib import Path

import msgspec
import pytest

from collector import app, reference
from collector.commands.selection import Selection
from collector.compare import compare
from collector.report import timelines
from collector.report.evidence import gather
from collector.store import Store, TrialQuery
from phasewatt import codec
from phasewatt.errors import ConfigInvalid, RecordRejected
from phasewatt.fields import Outcome
from phasewatt.messages import Batch, ExportHeader
from tests.fixtures.trials import GPU, Measured, measured, work
from tests.fixtures.wire import batch_of, telemetry


def write_export(path: Path, *batches: Batch) -> None:
    header = ExportHeader(phasewatt="export", schema=codec.SCHEMA, device=None)
    path.write_bytes(gzip.compress(b"\n".join([codec.encode(header), *map(codec.encode, batches)]) + b"\n"))


def batches(trial: Measured) -> list[Batch]:
    records = [(trial.stored.trial,), trial.traces]
    return [batch_of(*each, device=trial.stored.trial.device) for each in records if each]


def test_what_is_shipped_today_can_be_read() -> None:
    for stored in reference.load().trials:
        assert stored.origin == "reference"


def test_no_file_is_no_reference(tmp_path: Path) -> None:
    assert reference.load(tmp_path).trials == ()


def test_trials_and_traces_of_all_files_are_found(tmp_path: Path) -> None:
    dgx, orin = measured("dgx", sensors=[GPU]), measured("orin")
    write_export(tmp_path / "dgx.jsonl.gz", *batches(dgx), batch_of(telemetry()))
    write_export(tmp_path / "orin.jsonl.gz", *batches(orin))
    shipped = reference.load(tmp_path)
    assert [(stored.record_id, stored.origin) for stored in shipped.trials] == [
        (dgx.stored.record_id, "reference"),
        (orin.stored.record_id, "reference"),
    ]
    ids = dgx.stored.trial.traces
    assert shipped.traces([ids[1], "not shipped", ids[0]]) == [dgx.traces[1], dgx.traces[0]]


@pytest.mark.parametrize("body", [b"", b"no gzip", gzip.compress(b"{}\n", mtime=0)])
def test_a_damaged_file_is_named_with_the_way_around_it(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "broken.jsonl.gz").write_bytes(body)
    with pytest.raises(ConfigInvalid, match=r"broken\.jsonl\.gz.*--no-reference"):
        reference.load(tmp_path)


def test_traces_are_decoded_only_when_asked_for(tmp_path: Path) -> None:
    dgx = measured("dgx", sensors=[GPU])
    good, traces = batches(dgx)
    broken = msgspec.structs.replace(traces.items[0], body=msgspec.Raw(b'{"no": "trace"}'))
    write_export(tmp_path / "dgx.jsonl.gz", good, msgspec.structs.replace(traces, items=(broken,)))
    shipped = reference.load(tmp_path)
    assert [stored.record_id for stored in shipped.trials] == [dgx.stored.record_id]
    with pytest.raises(RecordRejected):
        shipped.traces(list(shipped.trace_items))


@pytest.mark.parametrize(
    ("query", "devices"),
    [
        (TrialQuery(), ["orin", "dgx"]),
        (TrialQuery(limit=1), ["orin"]),
        (TrialQuery(device="dgx", suite="phases", campaign="c1", model="llama-tiny", engine="transformers"), ["dgx"]),
        (TrialQuery(outcome=Outcome.FAILED), []),
        (TrialQuery(model="none such"), []),
    ],
)
def test_reference_trials_are_chosen_like_stored_ones(tmp_path: Path, query: TrialQuery, devices: list[str]) -> None:
    write_export(tmp_path / "dgx.jsonl.gz", *batches(measured("dgx")))
    write_export(tmp_path / "orin.jsonl.gz", *batches(measured("orin", seed=1)))
    assert [stored.trial.device for stored in reference.load(tmp_path).matching(query)] == devices


def test_the_command_lists_what_is_shipped_without_a_database(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main(["trials", "--reference", "--json", "--db", f"sqlite:///{tmp_path}/none.db"]) == 0
    listed = json.loads(capsys.readouterr().out)["trials"]
    assert {trial["record_id"] for trial in listed} == {stored.record_id for stored in reference.load().trials}
    assert {trial["origin"] for trial in listed} <= {"reference"}


def test_a_report_draws_the_power_of_a_reference(tmp_path: Path, sqlite_store: Store) -> None:
    write_export(tmp_path / "dgx.jsonl.gz", *batches(measured("dgx", sensors=[GPU])))
    shipped = reference.load(tmp_path)
    trials = (measured("mine").stored, *shipped.trials)
    comparison = compare(trials)
    selection = Selection(comparison, trials, trials, sqlite_store, shipped)
    mine, theirs = gather(comparison, trials, selection.traces)
    assert theirs.group == "dgx (reference)"
    assert timelines.power(theirs) is not None
    assert timelines.power(mine) is None


def test_references_to_other_work_are_passed_over(tmp_path: Path) -> None:
    other = measured("dgx", done=work(prompt_tokens=512))
    write_export(tmp_path / "dgx.jsonl.gz", *batches(measured("dgx")), *batches(other))
    comparison = compare([measured("mine").stored, *reference.load(tmp_path).trials])
    assert [each.work.task.prompt_tokens for each in comparison.works] == [128]
    assert comparison.refused == ()
    assert comparison.baseline == "mine"
