"""Results of other tools: mapped term by term, marked unknown where they are silent, and never paired."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from collector import app, foreign
from collector.foreign import aiperf, llama_bench
from collector.foreign.terms import TERMS
from collector.metric_rows import metric_rows
from collector.pairing import Across, pair
from collector.stored import StoredTrial
from phasewatt import codec
from phasewatt.fields import Outcome
from phasewatt.metrics import METRICS
from phasewatt.records import Trial
from tests.fixtures import trials as measured

ROOT = Path(__file__).parent.parent.parent


def _bench(**fields: Any) -> dict[str, Any]:
    """One test as llama-bench writes it; composed here, in the documented layout."""
    usual: dict[str, Any] = {
        "build_commit": "8cf427ff",
        "build_number": 5163,
        "cpu_info": "Example CPU 9000",
        "gpu_info": "Example GPU",
        "backends": "CUDA",
        "model_filename": "models/example-q4_k_m.gguf",
        "model_type": "qwen2 7B Q4_K - Medium",
        "model_size": 4677120000,
        "model_n_params": 7615616512,
        "n_threads": 8,
        "n_prompt": 512,
        "n_gen": 0,
        "n_depth": 0,
        "test_time": "2025-04-24T11:58:50Z",
        "avg_ns": 80_000_000,
        "stddev_ns": 1_000_000,
        "avg_ts": 6400.0,
        "stddev_ts": 80.0,
        "samples_ns": [64_000_000, 128_000_000],
        "samples_ts": [8000.0, 4000.0],
    }
    return {**usual, **fields}


def _aiperf(**fields: Any) -> dict[str, Any]:
    """A run as AIPerf writes it, schema 1.5."""
    usual: dict[str, Any] = {
        "schema_version": "1.5",
        "aiperf_version": "0.13.0",
        "start_time": "2026-03-01T10:00:00.250000Z",
        "was_cancelled": False,
        "input_config": {"models": {"items": [{"name": "owner/model"}]}},
        "run_info": {"variation_label": "concurrency_16"},
        "time_to_first_token": {"unit": "ms", "avg": 20.0, "p50": 18.0, "p99": 40.0, "count": 100},
        "inter_token_latency": {"unit": "ms", "avg": 9.0, "p50": 8.0},
        "inter_chunk_latency": {"unit": "ms", "avg": 9.5, "p50": 8.5},
        "request_latency": {"unit": "sec", "avg": 1.25},
        "request_throughput": {"unit": "requests/sec", "avg": 11.5},
        "output_token_throughput": {"unit": "tokens/sec", "avg": 1472.0},
        "input_sequence_length": {"unit": "tokens", "min": 512, "max": 512, "avg": 512.0},
        "output_sequence_length": {"unit": "tokens", "min": 100, "max": 128, "avg": 127.0},
        "error_summary": [],
    }
    return {**usual, **fields}


def _only(body: str, tool: Any = llama_bench) -> Trial:
    (trial,) = tool.trials_in(body, "orin-3")
    return trial


def _values(trial: Trial) -> dict[str, tuple[float, ...]]:
    return {
        name: tuple(round(value, 9) for value in found.values)
        for name, metric in METRICS.items()
        if (found := metric.of(trial)).values
    }


def test_a_prompt_test_is_prefill_by_the_repetition() -> None:
    trial = _only(json.dumps([_bench()]))
    assert _values(trial) == {"prefill_rate": (8000.0, 4000.0), "prefill_latency": (0.064, 0.128)}
    assert trial.cell == "qwen2 7B Q4_K - Medium pp512"
    assert trial.started_unix_s == 1745495930.0


def test_a_generation_test_is_decode() -> None:
    trial = _only(json.dumps([_bench(n_prompt=0, n_gen=128, n_depth=512, samples_ns=[1_280_000_000])]))
    assert _values(trial) == {"decode_rate": (100.0,), "decode_step_latency": (0.01,)}
    assert trial.cell.endswith("tg128 @ d512")


def test_a_prompt_behind_others_is_no_prefill_here() -> None:
    """It is kept by its own name."""
    trial = _only(json.dumps([_bench(n_depth=512)]))
    assert _values(trial) == {}
    assert trial.imported is not None
    assert [(figure.term, figure.metric) for figure in trial.imported.figures] == [("pp at depth", None)]


def test_both_together_are_a_request() -> None:
    assert set(_values(_only(json.dumps([_bench(n_gen=64)])))) == {"e2e_latency"}


def test_without_samples_the_mean_is_the_one_value() -> None:
    row = _bench()
    del row["samples_ns"]
    assert _values(_only(json.dumps(row)))["prefill_latency"] == (0.08,)


def test_jsonl_is_read_line_by_line() -> None:
    body = "\n".join(json.dumps(row) for row in (_bench(), _bench(n_prompt=0, n_gen=32))) + "\n\n"
    assert [trial.cell[-5:] for trial in llama_bench.trials_in(body, "d")] == ["pp512", " tg32"]


def test_what_llama_bench_does_not_tell_is_unknown() -> None:
    """And what it does tell is taken."""
    conditions = _only(json.dumps([_bench()])).conditions
    assert (conditions.engine, conditions.mode, conditions.accelerator) == ("llama.cpp", "unknown", "cuda")
    assert (conditions.processor, conditions.threads) == ("Example GPU", 8)
    assert {"mode", "power_mode", "clock_hz", "temperature_c"} <= set(conditions.unknown)
    assert _only(json.dumps([_bench(backends="CPU")])).conditions.processor == "Example CPU 9000"
    assert _only(json.dumps([_bench(backends="Vulkan")])).conditions.accelerator == "vulkan"


def test_aiperf_is_mapped_term_by_term() -> None:
    """Its ITL is our TPOT; medians where there are any, in seconds."""
    trial = _only(json.dumps(_aiperf()), aiperf)
    assert _values(trial) == {
        "ttft": (0.018,),
        "tpot": (0.008,),
        "itl": (0.0085,),
        "e2e_latency": (1.25,),
        "request_rate": (11.5,),
        "output_rate": (1472.0,),
    }
    assert trial.cell == "owner/model concurrency_16"
    assert trial.imported is not None
    assert (trial.imported.prompt_tokens, trial.imported.output_tokens) == (512, None)  # the second one varied
    assert trial.imported.figures[0].statistics == pytest.approx({"avg": 0.02, "p50": 0.018, "p99": 0.04, "count": 100})


def test_aiperf_of_early_versions_is_read_too() -> None:
    """Metrics below `records`, the model under the endpoint."""
    said = _aiperf()
    early = {
        "records": {name: block for name, block in said.items() if isinstance(block, dict) and "unit" in block},
        "start_time": "2025-09-01T10:00:00",
        "input_config": {"endpoint": {"model_names": ["owner/early"]}},
    }
    trial = _only(json.dumps(early), aiperf)
    assert trial.cell == "owner/early"
    assert _values(trial)["ttft"] == (0.018,)


def test_a_cancelled_run_has_failed() -> None:
    trial = _only(json.dumps(_aiperf(was_cancelled=True)), aiperf)
    assert (trial.outcome, trial.reason) == (Outcome.FAILED, "the run was cancelled")


def test_every_metric_of_the_table_is_one_of_ours() -> None:
    assert {term.metric for term in TERMS} - {None} <= set(METRICS)


def test_the_documentation_has_every_term_of_the_table() -> None:
    """One row each, with our name for it."""
    page = (ROOT / "docs" / "imports.md").read_text(encoding="utf-8")
    rows = [[cell.strip().strip("`") for cell in line.split("|")] for line in page.splitlines() if line.startswith("|")]
    for term in TERMS:
        assert any(row[1:4] == [term.tool, term.theirs, term.metric or "none"] for row in rows), term


@pytest.mark.parametrize("across", [None, *Across])
def test_an_import_is_never_the_same_work(across: Across | None) -> None:
    """Neither beside a measured trial nor beside another import, whatever may differ."""
    body = json.dumps([_bench()])
    imports = [StoredTrial(str(index), trial) for index in (1, 2) for trial in llama_bench.trials_in(body, f"d{index}")]
    pairing = pair([*imports, measured.measured("alpha").stored, measured.measured("beta").stored], across)
    members = [stored for work in pairing.works for group in work.members.values() for stored in group]
    assert len(members) == 2
    refused = [refusal for refusal in pairing.refused if refusal.device in {"d1", "d2"}]
    assert {refusal.reason for refusal in refused} == {
        "imported from llama-bench: neither its weights nor its prompt are known"
    }


def test_an_import_has_rows_for_notebooks() -> None:
    rows = {row["metric"]: row for row in metric_rows(StoredTrial("1", _only(json.dumps([_bench()]))))}
    assert rows["prefill_rate"]["median"] == 6000.0
    assert rows["ttft"]["missing_because"] == "llama-bench does not give it"


MALFORMED = {
    "empty": ("llama-bench", b"", "no test in it"),
    "no JSON": ("llama-bench", b"| model | size |", "line 1 is not JSON"),
    "an array cut short": ("llama-bench", b"[{}", "the file is not JSON"),
    "no object": ("llama-bench", b"[1]", "test 1: expected an object of one test"),
    "no lengths": ("llama-bench", json.dumps([{}]).encode(), "test 1: neither n_prompt nor n_gen is above 0"),
    "below 0": ("llama-bench", json.dumps([_bench(n_gen=-1)]).encode(), "test 1: n_gen: expected a whole number"),
    "no time": ("llama-bench", json.dumps([_bench(test_time=None)]).encode(), "test 1: test_time: expected a time"),
    "zero": (
        "llama-bench",
        json.dumps([_bench(samples_ns=[0])]).encode(),
        "test 1: samples_ns: expected a number above 0",
    ),
    "no text": ("llama-bench", json.dumps([_bench(backends=5)]).encode(), "test 1: backends: expected text, got 5"),
    "not UTF-8": ("llama-bench", b"\xff\xfe[", "not UTF-8 text"),
    "deep": ("llama-bench", b"[" * 100_000, "the file is not JSON"),
    "aiperf: a list": ("aiperf", b"[]", "expected the object that aiperf writes"),
    "aiperf: nothing known": ("aiperf", b"{}", "none of time_to_first_token"),
    "aiperf: unit": (
        "aiperf",
        json.dumps(_aiperf(request_latency={"unit": "weeks", "avg": 1})).encode(),
        "request_latency: unit 'weeks' is not known",
    ),
    "aiperf: no number": (
        "aiperf",
        json.dumps(_aiperf(request_latency={"unit": "ms", "avg": "x"})).encode(),
        "request_latency: neither p50 nor avg is a number",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_is_one_line_and_stores_nothing(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tool, body, said = MALFORMED[name]
    path = tmp_path / "results"
    path.write_bytes(body)
    assert app.main(["import", "--db", f"sqlite:///{tmp_path / 'c.db'}", "--from", tool, str(path)]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert len(told.splitlines()) == 1


def test_a_file_is_imported_once_however_often(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And shown among the trials, without a record of runs."""
    db = f"sqlite:///{tmp_path / 'c.db'}"
    path = tmp_path / "bench.json"
    path.write_text(json.dumps([_bench(), _bench(n_prompt=0, n_gen=128)]))
    for _ in range(2):
        assert app.main(["import", "--db", db, "--from", "llama-bench", "--device", "orin-3", str(path)]) == 0
        assert "2 records stored" in capsys.readouterr().out
    assert app.main(["trials", "--db", db, "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["trials"]
    lengths = {(trial["device"], trial["prompt_tokens"], trial["output_tokens"]): trial for trial in listed}
    assert sorted(lengths) == [("orin-3", 0, 128), ("orin-3", 512, 0)]
    assert lengths["orin-3", 0, 128]["imported"]["figures"][0]["term"] == "tg"
    for command in (["trials"], ["devices"], ["export", str(tmp_path / "x.csv"), "--format", "csv"]):
        assert app.main([command[0], "--db", db, *command[1:]]) == 0
    assert app.main(["compare", "--db", db]) == 2
    assert "imported from llama-bench: neither its weights nor its prompt are known" in capsys.readouterr().err


def test_a_board_needs_a_name_that_a_board_may_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bench.json"
    path.write_text(json.dumps([_bench()]))
    asked = ["import", "--db", f"sqlite:///{tmp_path / 'c.db'}", str(path), "--device"]
    assert app.main([*asked, "a b", "--from", "llama-bench"]) == 2
    assert "--device: expected letters, digits" in capsys.readouterr().err
    assert app.main([*asked, "a"]) == 2
    assert "only results of other tools need a name" in capsys.readouterr().err


def test_every_tool_gives_records_that_can_be_stored() -> None:
    """Within the bounds that a record has."""
    bodies = {"llama-bench": json.dumps([_bench(model_type="x" * 999)]), "aiperf": json.dumps(_aiperf())}
    for tool, read in foreign.TOOLS.items():
        (trial,) = read(bodies[tool], "d")
        assert codec.decode(codec.encode(trial), Trial) == trial
