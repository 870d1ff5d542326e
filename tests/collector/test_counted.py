"""The study's tables from stored trials: phases side by side, prompts short and long, and GPM where ncu may not."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path

import msgspec
import pytest

from collector import app
from collector.counted import counted
from collector.store import open_store
from collector.stored import StoredTrial
from phasewatt import counter_metrics
from phasewatt.fields import Phase
from phasewatt.profiles import CounterProfile, OperatorCounters
from phasewatt.records import PhaseReading, Trial
from phasewatt.stall_words import stalls_of
from tests.fixtures import records
from tests.fixtures.wire import batch_of

DOCS = Path(__file__).parents[2] / "docs" / "json.md"
STALLS = {stall.metric: 1.0 for stall in stalls_of((9, 0))}
GPM = PhaseReading(
    phase=Phase.DECODE, name="dram", source="nvml.gpm.dram_bw_util", unit="1", mean=0.6, lowest=0.5, highest=0.7,
    readings=30,
)  # fmt: skip


def profile(phase: Phase, hits: float, reason: str | None = None, empty: bool = False) -> CounterProfile:
    """One operator with an L2 hit rate in per cent and all stalls."""
    norm = OperatorCounters(operator="norm", kernels=2, time_ns=100, values={counter_metrics.L2_HITS: hits, **STALLS})
    return CounterProfile(
        phase=phase,
        tool="ncu",
        tool_version="1",
        compute_capability="9.0",
        kv_start=0,
        kv_end=1,
        repetitions=0 if empty else 1,
        operators=() if empty else (norm,),
        reason=reason,
    )


def stored(name: str, tokens: int, *profiles: CounterProfile, **fields: object) -> StoredTrial:
    """A stored trial of a prompt with those counters."""
    work = records.work(task=records.task(prompt_tokens=tokens))
    return StoredTrial(name, records.trial(work=work, counters=profiles, **fields))


def both(prefill: float, decode: float) -> tuple[CounterProfile, CounterProfile]:
    return profile(Phase.PREFILL, prefill), profile(Phase.DECODE, decode)


def test_a_prefill_stands_beside_its_decode():
    (trial,) = counted([stored("a", 512, *both(81.9, 20.0))]).trials
    change = next(change for change in trial.changes if change.figure == "l2_hit")
    assert (change.operator, change.before, change.after) == ("norm", pytest.approx(0.819), pytest.approx(0.2))
    assert trial.whole_phases == ()
    assert trial.whole_phases_reason is None


def test_a_short_prompt_stands_beside_a_long_one_of_the_same_model():
    found = counted(
        [stored("long", 4096, *both(70, 9)), stored("mid", 1024, *both(1, 1)), stored("a", 512, *both(80, 8))]
    )
    prefill, decode = found.lengths
    assert (prefill.phase, prefill.short_tokens, prefill.long_tokens) == (Phase.PREFILL, 512, 4096)
    hits = {each.phase: next(c for c in each.changes if c.figure == "l2_hit") for each in (prefill, decode)}
    assert (hits[Phase.PREFILL].before, hits[Phase.PREFILL].after) == (pytest.approx(0.8), pytest.approx(0.7))
    assert (hits[Phase.DECODE].before, hits[Phase.DECODE].after) == (pytest.approx(0.08), pytest.approx(0.09))


def test_of_two_trials_of_one_length_the_newest_counts():
    found = counted(
        [stored("new", 512, *both(80, 8)), stored("old", 512, *both(1, 1)), stored("long", 4096, *both(7, 7))]
    )
    assert next(c for c in found.lengths[0].changes if c.figure == "l2_hit").before == pytest.approx(0.8)


def test_unlike_devices_or_models_are_not_set_side_by_side():
    assert counted([stored("a", 512, *both(8, 8)), stored("b", 4096, *both(7, 7), device="other")]).lengths == ()


def test_one_length_is_no_comparison():
    assert counted([stored("a", 512, *both(8, 8))]).lengths == ()


def test_where_ncu_may_not_count_whole_phases_are_shown_and_called_so():
    refused = "not permitted (ERR_NVGPUCTRPERM): counters are kept for administrators"
    profiles = [profile(phase, 0, refused, empty=True) for phase in (Phase.PREFILL, Phase.DECODE)]
    (trial,) = counted([stored("a", 512, *profiles, readings=(GPM,))]).trials
    assert trial.whole_phases == (GPM,)
    assert refused in (trial.whole_phases_reason or "")
    assert trial.changes == ()


def test_a_trial_without_counters_and_without_gpm_is_not_shown():
    plain: Trial = records.trial()
    assert counted([StoredTrial("a", plain)]).trials == ()


def test_readings_that_are_no_counters_are_not_taken_for_them():
    clock = msgspec.structs.replace(GPM, source="nvml.clock")
    assert counted([StoredTrial("a", records.trial(readings=(clock,)))]).trials == ()


def test_the_command_says_where_there_is_nothing(tmp_path, capsys):
    url = f"sqlite:///{tmp_path / 'c.db'}"
    open_store(url, create=True).close()
    assert app.main(["counters", "--db", url]) == 0
    assert "no trial here has counters" in capsys.readouterr().out
    assert app.main(["counters", "--db", url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"schema": "counters/0", "trials": [], "lengths": []}


def test_the_command_shows_what_the_reasons_cover_and_its_json_is_as_documented(tmp_path, capsys):
    """Both tables of two lengths; every key of a row and of a trial stands in docs/json.md."""
    url = f"sqlite:///{tmp_path / 'c.db'}"
    with contextlib.closing(open_store(url, create=True)) as store:
        store.ingest(batch_of(*(stored("", tokens, *both(80, 8)).trial for tokens in (512, 4096))), 1.7e9)
    assert app.main(["counters", "--db", url]) == 0
    shown = capsys.readouterr().out
    assert "prefill: how much of all waiting the stall reasons cover was not counted" in shown
    assert "from 512 prompt tokens (as in chat) to 4096 (as in summary)" in shown
    assert app.main(["counters", "--db", url, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    section = DOCS.read_text(encoding="utf-8").partition("## `counters`: `counters/0`")[2].partition("## `findings`")[0]
    trial, lengths = answer["trials"][0], answer["lengths"][0]
    phase = trial["phases"][0]
    for keys in (trial, lengths, phase, phase["rows"][0], phase["rows"][0]["figures"], trial["changes"][0]):
        assert {key for key in keys if not re.search(rf"\b{key}(\[\])?[`.]", section)} == set()
