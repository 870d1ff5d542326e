"""Estimates for devices with ceilings alone, against constructed devices whose truth is known."""

from __future__ import annotations

import json

import msgspec
import pytest

from collector.app import main
from collector.prediction import Asked
from collector.transfer import transferred
from phasewatt import operators
from phasewatt.bounds import NEAR
from phasewatt.fields import Phase
from phasewatt.operators import Pass
from tests.fixtures import trials
from tests.fixtures.filled import filled
from tests.fixtures.profiled import CUDA, Machine, measured_ceilings
from tests.fixtures.records import changed

LENGTHS = (128, 256, 512, 1024, 2048)
SHAPE = changed(trials.SHAPE, hidden_size=1024, layers=12, heads=16, head_dim=64, intermediate_size=4096)
FAST = Machine(40e12, 1e12, 4e-6, 0.8)
EDGE = Machine(4e12, 0.1e12, 20e-6, 0.7)  # a tenth of the products and of the bytes, launches five times as long
KERNELS = 120  # of a pass
ASKED = Asked(1500, 101)


def pass_s(machine, one):
    """A pass, bound by its launches or by the nearer ceiling."""
    found = operators.costs(SHAPE, "bfloat16", one).values()
    device_s = machine.device_s(sum(cost.flops for cost in found), sum(cost.moved_bytes for cost in found))
    return max(KERNELS * machine.launch_s, device_s)


def run_of(machine, asked=ASKED):
    """Seconds of prefill and of the whole request."""
    ttft_s = pass_s(machine, Pass(asked.batch, asked.prompt_tokens, 0))
    depths = range(asked.prompt_tokens, asked.prompt_tokens + asked.output_tokens - 1)
    return ttft_s, ttft_s + sum(pass_s(machine, Pass(asked.batch, 1, depth)) for depth in depths)


def measured(machine, length, device="server", **work):
    done = trials.work(shape=SHAPE, prompt_tokens=length, prompt_digest=f"{length:064x}", **work)
    stored = trials.measured(device, done=done, under=trials.conditions(**CUDA), seed=length).stored
    times_s = {Phase.PREFILL: pass_s(machine, Pass(1, length, 0))}
    times_s[Phase.DECODE] = sum(pass_s(machine, Pass(1, 1, length + step)) for step in range(16))
    runs = tuple(
        changed(run, durations_ns=tuple(round(times_s[run.phase] * 1e9) for _ in run.durations_ns))
        for run in stored.trial.runs
        if run.phase in times_s
    )
    return trials.stored(msgspec.structs.replace(stored.trial, runs=runs))


def fleet(source=FAST, target=EDGE, **work):
    return [
        *(measured(source, length, **work) for length in LENGTHS),
        measured_ceilings("server", source),
        measured_ceilings("edge", target),
    ]


@pytest.mark.parametrize(
    ("source", "target"),
    [(FAST, EDGE), (EDGE, FAST), (FAST, Machine(400e12, 0.5e12, 4e-6, 0.9))],
    ids=["to the edge", "to the server", "bandwidth and products apart"],
)
def test_the_truth_of_another_device_is_within_the_interval(source, target):
    (found,) = transferred(fleet(source, target), ASKED)
    ttft_s, duration_s = run_of(target)
    assert found.ttft_s.low < ttft_s < found.ttft_s.high
    assert found.duration_s.low < duration_s < found.duration_s.high
    assert found.duration_s.value == pytest.approx(duration_s, rel=0.35)
    assert found.device == "edge" and found.source.startswith("server")


def test_equal_shares_of_the_ceilings_make_it_exact():
    """Where kernels reach the same share on both, only the fit itself is off."""
    (found,) = transferred(fleet(FAST, EDGE._replace(reached=FAST.reached)), ASKED)
    ttft_s, duration_s = run_of(EDGE._replace(reached=FAST.reached))
    assert found.ttft_s.value == pytest.approx(ttft_s, rel=0.05)
    assert found.duration_s.value == pytest.approx(duration_s, rel=0.05)
    assert found.ratios == pytest.approx({"matmul": 0.1, "read": 0.1, "launch": 0.2})


def test_a_launch_bound_decode_goes_by_the_launches():
    slow_host = FAST._replace(launch_s=400e-6)
    target = FAST._replace(launch_s=100e-6)
    (found,) = transferred(fleet(slow_host, target), ASKED)
    _, truth_s = run_of(target)
    assert found.duration_s.value == pytest.approx(truth_s, rel=0.2)


def test_no_estimate_is_faster_than_the_ceilings_allow():
    """Launches that cost nothing leave the bytes to be read."""
    slow_host = FAST._replace(launch_s=400e-6)
    (found,) = transferred(fleet(slow_host, FAST._replace(launch_s=1e-9)), ASKED)
    found_s = found.duration_s.value - found.ttft_s.value
    least_s = sum(pass_s(FAST._replace(launch_s=0, reached=1.0), Pass(1, 1, depth)) for depth in range(1500, 1600))
    assert found_s == pytest.approx(least_s, rel=0.01)


def test_it_is_marked_with_a_wide_interval_and_why():
    (found,) = transferred(fleet(), ASKED)
    assert found.ttft_s.low == pytest.approx(NEAR * found.ttft_s.value)
    assert found.ttft_s.high == pytest.approx(found.ttft_s.value / NEAR)
    assert "differs between devices" in found.why
    assert found.energy_j.value is None and "nothing of power" in found.energy_j.reason


def test_a_device_with_trials_of_its_own_gets_none():
    assert transferred([*fleet(), measured(EDGE, 128, "edge")], ASKED) == ()


def test_the_newest_ceilings_count():
    slower = measured_ceilings("edge", EDGE._replace(read_byte_per_s=1.0), started_unix_s=1.0)
    assert (
        transferred([*fleet(), slower], ASKED) == transferred([slower, *fleet()], ASKED) == transferred(fleet(), ASKED)
    )


def test_what_is_lacking_is_the_reason():
    few = [each for each in fleet() if each.trial.work is None or each.trial.work.task.prompt_tokens < 1024]
    assert transferred(few, ASKED) == ()  # nothing was fitted to begin with
    without = [each for each in fleet() if not (each.trial.device == "server" and each.trial.ceilings)]
    assert transferred(without, ASKED) == ()
    other = [*fleet()[:-1], measured_ceilings("edge", EDGE, dtype="float16")]
    (found,) = transferred(other, ASKED)
    assert found.ttft_s.value is None
    assert found.ttft_s.reason == "here: the ceilings hold no matmul in bfloat16, only in float16"
    (quantized,) = transferred(fleet(quantization="Q4"), ASKED)
    assert "quantized" in quantized.ttft_s.reason
    no_decode = [
        trials.stored(changed(each.trial, runs=tuple(r for r in each.trial.runs if r.phase is not Phase.DECODE)))
        for each in fleet()
    ]
    (prefill,) = transferred(no_decode, ASKED)
    assert prefill.ttft_s.value and prefill.duration_s.reason.startswith("decode: needs 4 lengths")


def test_the_command_sets_estimates_apart(tmp_path, capsys):
    database = filled(tmp_path, fleet())
    asked = ["predict", "--db", database, "--prompt-tokens", "1500", "--output-tokens", "101"]
    assert main(asked) == 0
    told = capsys.readouterr().out
    assert "ESTIMATES" in told and "matmul 0.1x" in told and "intervals are wide because" in told
    assert main([*asked, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [each["device"] for each in answer["transferred"]] == ["edge"] and len(answer["forecasts"]) == 1
