"""Forecasts from constructed trials: what they say of workloads never run, and what they refuse to say."""

from __future__ import annotations

import json

import msgspec
import pytest

from collector.app import main
from collector.prediction import Asked, forecasts
from collector.store import open_store
from phasewatt.fields import Phase, Scope
from tests.fixtures import trials

LENGTHS = (128, 256, 512, 1024, 2048)
PREFILL_S_A_TOKEN, STEP_S = 3.1e-4, 9.5e-3  # of the constructed trials


def measured(length, batch=1, **named):
    done = trials.work(prompt_tokens=length, batch=batch, prompt_digest=f"{length:064x}")
    return trials.measured(done=done, seed=length + batch, **named).stored


def fleet(lengths=LENGTHS, **named):
    return [measured(length, **named) for length in lengths]


def test_a_workload_between_those_measured_is_foretold():
    (forecast,) = forecasts(fleet(), Asked(prompt_tokens=700, output_tokens=101))
    assert forecast.group == "alpha" and forecast.trials == 5 and forecast.remarks == ()
    assert forecast.ttft_s.value == pytest.approx(700 * PREFILL_S_A_TOKEN, rel=0.05)
    assert forecast.duration_s.value == pytest.approx(700 * PREFILL_S_A_TOKEN + 100 * STEP_S, rel=0.05)
    assert forecast.duration_s.low < forecast.duration_s.value < forecast.duration_s.high
    assert forecast.energy_j.value is None and "no trial here has energy" in forecast.energy_j.reason


def test_energy_is_foretold_on_the_scope_that_was_metered():
    (forecast,) = forecasts(fleet(sensors=[trials.GPU]), Asked(700, 101))
    assert forecast.scope is Scope.GPU_BOARD
    power_w = forecast.energy_j.value / forecast.duration_s.value
    assert trials.GPU.idle_w < power_w < trials.GPU.prefill_w
    assert {fitted.subject for fitted in forecast.fits} == {
        "prefill time", "decode time", "prefill energy", "decode energy",
    }  # fmt: skip


def test_what_lies_beyond_the_measured_says_so():
    (forecast,) = forecasts(fleet(), Asked(8192, 11, batch=4))
    prefill, decode, positions = forecast.remarks
    assert prefill.startswith("prefill is extrapolated: measured with 128 to 2048 tokens, batches 1")
    assert decode.startswith("decode is extrapolated")
    assert positions == "8202 tokens are more than the 4096 positions of llama-tiny"


def test_one_token_out_needs_no_decode():
    without = [
        stored._replace(trial=msgspec.structs.replace(
            stored.trial, runs=tuple(run for run in stored.trial.runs if run.phase is not Phase.DECODE)))
        for stored in fleet()
    ]  # fmt: skip
    (one,) = forecasts(without, Asked(700, 1))
    (two,) = forecasts(without, Asked(700, 2))
    assert one.duration_s.value == one.ttft_s.value
    assert two.duration_s.value is None and two.duration_s.reason == "decode: needs 4 lengths, measured here: none"


def test_too_few_lengths_are_named_instead_of_a_figure():
    (forecast,) = forecasts(fleet(LENGTHS[:3]), Asked(700, 10))
    assert forecast.ttft_s.value is None
    assert forecast.ttft_s.reason == "prefill: needs 4 lengths, measured here: 128, 256, 512"


def test_batches_are_terms_of_one_fit():
    several = [*fleet(), *fleet(batch=4)]
    (forecast,) = forecasts(several, Asked(700, 1, batch=2))
    assert forecast.ttft_s.value == pytest.approx(2 * 700 * PREFILL_S_A_TOKEN, rel=0.06)


def test_conditions_models_and_dtypes_are_never_mixed():
    slow = [measured(length, slowness=3.0, under=trials.conditions(mode="compiled")) for length in LENGTHS]
    half = [
        trials.measured(done=trials.work(prompt_tokens=length, dtype="float16"), seed=length).stored
        for length in LENGTHS
    ]  # fmt: skip
    found = forecasts([*fleet(), *slow, *half, trials.failed()], Asked(700, 1))
    assert len(found) == 3 and all(forecast.trials == 5 for forecast in found)
    fast, slower = sorted(forecast.ttft_s.value for forecast in found if "bfloat16" in forecast.group)
    assert slower == pytest.approx(3 * fast, rel=0.1)


def test_windows_that_never_settled_are_counted():
    (forecast,) = forecasts(fleet(steady=False), Asked(700, 10))
    assert forecast.remarks == ("10 of the windows that it rests on never settled",)


def test_the_command_says_what_is_missing_in_the_shipped_trials(capsys):
    """They hold three lengths of one model; as JSON every estimate has a figure or a reason."""
    assert main(["predict", "--prompt-tokens", "700", "--output-tokens", "10", "--reference", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema"] == "predict/0" and answer["prompt_tokens"] == 700
    for forecast in answer["forecasts"]:
        assert (forecast["ttft_s"]["value"] is None) == bool(forecast["ttft_s"]["reason"])


def test_a_store_without_trials_is_one_line(tmp_path, capsys):
    database = f"sqlite:///{tmp_path}/empty.db"
    open_store(database, create=True).close()
    assert main(["predict", "--db", database, "--prompt-tokens", "1", "--output-tokens", "1"]) == 2
    assert "input-sweep" in capsys.readouterr().err
