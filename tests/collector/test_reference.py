from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from collector import reference
from phasewatt import codec
from phasewatt.errors import ConfigInvalid
from phasewatt.messages import Batch, ExportHeader
from tests.fixtures.trials import GPU, Measured, measured
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


@pytest.mark.parametrize("body", [b"", b"no gzip", gzip.compress(b"{}\n")])
def test_a_damaged_file_is_named_with_the_way_around_it(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "broken.jsonl.gz").write_bytes(body)
    with pytest.raises(ConfigInvalid, match=r"broken\.jsonl\.gz.*--no-reference"):
        reference.load(tmp_path)
