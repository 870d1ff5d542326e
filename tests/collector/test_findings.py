"""Each claim on constructed trials: it must hold, must not hold, and must stay open where there is too little."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from collector.findings import CLAIMS, Finding, answers, remarks
from collector.stored import StoredTrial
from phasewatt.counter_metrics import STALLS
from phasewatt.fields import Outcome, Phase
from phasewatt.operators import Operator
from tests.fixtures import study, trials
from tests.fixtures.records import changed
from tests.fixtures.study import LARGE, MIXTURE, Laws, how, paper, without

Trials = Sequence[StoredTrial]
HOLDS, FAILS, OPEN = "holds", "does_not_hold", "not_enough_data"
OTHER = {"versions": {"torch": "2.13.0", "driver": "580.1"}}
SMALL_BY_ATTENTION = Laws(decode_attention=(1.5, 5e-5))
JETSON = {"processor": "Orin", "versions": {"torch": "2.11.0", "l4t": "36.4.3", "jetpack": "6.2"}}
EDGE = Laws(flop_per_s=6e13, byte_per_s=1e11)


def moved(several: Trials, chosen: Callable[[StoredTrial], bool]) -> list[StoredTrial]:
    """The same trials, the chosen ones with another torch."""
    other = how(**OTHER)
    return [trials.stored(changed(s.trial, conditions=other)) if s.trial.work and chosen(s) else s for s in several]


def prefill_alone(stored: StoredTrial) -> bool:
    return has(Phase.PREFILL)(stored) and not has(Phase.DECODE)(stored)


def apart(several: Trials) -> list[StoredTrial]:
    """Without those that have prefill and decode of a long prompt: each of the two stands by itself."""
    return [s for s in several if not (has(Phase.PREFILL)(s) and has(Phase.DECODE)(s) and longer(1000)(s))]


def has(phase: Phase) -> Callable[[StoredTrial], bool]:
    return lambda stored: stored.trial.run_of(phase) is not None


def longer(than: int) -> Callable[[StoredTrial], bool]:
    return lambda stored: stored.trial.work is not None and stored.trial.work.task.prompt_tokens > than


def batch_above(size: int) -> Callable[[StoredTrial], bool]:
    return lambda stored: stored.trial.work is not None and stored.trial.work.task.batch > size


def stalls(memory: float, execution: float, barrier: float, pipe: float, **more: float) -> dict[str, float]:
    named = {"long_scoreboard": memory, "wait": execution, "barrier": barrier, "math_pipe_throttle": pipe}
    return {stall.metric: named.get(stall.reason, 0.0) for stall in STALLS} | more


L2, DRAM = "lts__t_sector_hit_rate.pct", "dram__throughput.avg.pct_of_peak_sustained_elapsed"
IN_PREFILL = {
    Operator.FFN_UP: stalls(2, 2, 0.5, 6),
    Operator.O_PROJ: stalls(2, 2, 0.5, 6),
    Operator.FFN_DOWN: stalls(2, 2, 0.5, 6),
    Operator.NORM: stalls(5, 2, 1, 0.1),
    Operator.ATTN_CORE: stalls(2, 2, 0.5, 6, **{L2: 95.0}),
}
IN_DECODE = {
    Operator.FFN_UP: stalls(6, 2, 0.5, 0.2, **{DRAM: 76.0}),
    Operator.O_PROJ: stalls(2, 5, 0.5, 0.2),
    Operator.FFN_DOWN: stalls(2, 5, 0.5, 0.2),
    Operator.NORM: stalls(5, 2, 3, 0.1),
    Operator.ATTN_CORE: stalls(6, 2, 0.5, 0.2, **{L2: 73.0}),
}


def mixture(step_ms: float, routing: float = 0.1) -> list[StoredTrial]:
    law = Laws(step_s=(step_ms * 1e-3, 0.0, 0.0), routing=routing)
    return [*paper(), *without(paper(law, shape=MIXTURE, experts_by="grouped"), Phase.PREFILL)]


def several_gpus(prefill: float, decode: float, gpus: int = 2) -> list[StoredTrial]:
    one = Laws()
    law = one._replace(
        prefill_s=(one.prefill_s[0] / prefill, one.prefill_s[1] / prefill, 0.0),
        step_s=(one.step_s[0] / decode, one.step_s[1] / decode, one.step_s[2] / decode),
    )
    return [*paper(one), *paper(law, parallelism=f"tensor {gpus}")]


def fleet(edge: Laws = EDGE, **conditions: object) -> list[StoredTrial]:
    return [*paper(), *paper(edge, device="board", **{**JETSON, **conditions})]


CASES: dict[str, tuple[int, str, Callable[[], Trials]]] = {
    "1 holds": (1, HOLDS, paper),
    "1 holds by the data sheet": (1, HOLDS, lambda: [*paper()[:-1], study.ceilings(Laws(), sheet=True)]),
    "1 fails: prefill below the balance": (1, FAILS, lambda: paper(Laws(byte_per_s=1e11))),
    "1 fails: far from its ceiling": (1, FAILS, lambda: paper(Laws(prefill_s=(0.5, 1e-3, 0.0)))),
    "1 open: no ceilings": (1, OPEN, lambda: paper()[:-1]),
    "1 open: eager host time alone": (1, OPEN, lambda: paper(Laws(busy=False))),
    "1 holds in graph mode": (1, HOLDS, lambda: paper(Laws(busy=False, host=1.0), mode="graph")),
    "1 open: mixed": (1, OPEN, lambda: moved(apart(paper()), prefill_alone)),
    "2 holds": (2, HOLDS, paper),
    "2 fails: decode leads at 32K": (2, FAILS, lambda: paper(Laws(prefill_s=(1e-3, 1e-6, 0.0)))),
    "2 fails: prefill leads a chat": (2, FAILS, lambda: paper(Laws(prefill_s=(9.0, 1e-3, 0.0)))),
    "2 open: no very long input": (2, OPEN, lambda: without_longer(4096)),
    "2 open: mixed": (2, OPEN, lambda: moved(paper(), prefill_alone)),
    "3 holds": (3, HOLDS, paper),
    "3 fails: attention leads at 1K": (3, FAILS, lambda: paper(Laws(prefill_attention=(2.0, 1e-5)))),
    "3 fails: FFN leads at 32K": (3, FAILS, lambda: paper(Laws(prefill_attention=(0.2, 1e-6)))),
    "3 open: unattributed": (3, OPEN, lambda: paper(Laws(unattributed=0.5))),
    "3 open: nothing above 16K": (3, OPEN, lambda: without_longer(16384)),
    "3 open: mixed": (3, OPEN, lambda: moved(paper(), longer(16384))),
    "4 holds": (4, HOLDS, lambda: [*paper(SMALL_BY_ATTENTION), *paper(Laws(), shape=LARGE)]),
    "4 fails: FFN leads a small model": (4, FAILS, paper),
    "4 fails: something else takes time": (4, FAILS, lambda: paper(SMALL_BY_ATTENTION._replace(rest=0.2))),
    "4 open: no large model": (4, OPEN, lambda: paper(SMALL_BY_ATTENTION)),
    "4 open: mixed": (4, OPEN, lambda: [*paper(SMALL_BY_ATTENTION), *paper(Laws(), shape=LARGE, **OTHER)]),
    "5 holds": (5, HOLDS, lambda: paper(Laws(step_bend_s=2e-11))),
    "5 fails: decode is a line too": (5, FAILS, paper),
    "5 fails: prefill bends": (5, FAILS, lambda: paper(Laws(prefill_s=(1e-3, 1e-5, 5e-9), step_bend_s=2e-11))),
    "5 open: three lengths": (5, OPEN, lambda: without_longer(600)),
    "5 open: mixed": (5, OPEN, lambda: moved(paper(Laws(step_bend_s=2e-11)), has(Phase.PREFILL))),
    "6 holds": (6, HOLDS, paper),
    "6 fails: prefill has most": (6, FAILS, lambda: paper(Laws(watts=(5000.0, 3.0)))),
    "6 open: no sensor": (6, OPEN, lambda: paper(Laws(watts=None))),
    "6 open: mixed": (6, OPEN, lambda: moved(paper(), has(Phase.REQUEST))),
    "7 holds": (7, HOLDS, paper),
    "7 fails: throughput falls": (7, FAILS, lambda: paper(Laws(crowding=1.2))),
    "7 open: the sweep ends too early": (7, OPEN, lambda: [s for s in paper() if not batch_above(8)(s)]),
    "7 open: three sizes": (7, OPEN, lambda: [s for s in paper(Laws(crowding=1.2)) if not batch_above(4)(s)]),
    "7 open: mixed": (7, OPEN, lambda: moved(paper(), batch_above(8))),
    "8 holds": (8, HOLDS, lambda: several_gpus(1.8, 0.8)),
    "8 fails: prefill loses": (8, FAILS, lambda: several_gpus(0.8, 1.5)),
    "8 open: one GPU": (8, OPEN, paper),
    "8 open: mixed": (8, OPEN, lambda: [*paper(), *paper(parallelism="tensor 2", **OTHER)]),
    "9 holds": (9, HOLDS, lambda: mixture(4.0)),
    "9 fails: as slow as all its parameters": (9, FAILS, lambda: mixture(20.0)),
    "9 fails: routing is free": (9, FAILS, lambda: mixture(4.0, routing=0.01)),
    "9 open: no mixture": (9, OPEN, paper),
    "9 open: mixed": (9, OPEN, lambda: [s if not is_dense(s) else moved([s], is_dense)[0] for s in mixture(4.0)]),
    "10 open": (10, OPEN, paper),
    "11 holds": (11, HOLDS, lambda: study.counted(IN_PREFILL, IN_DECODE)),
    "11 fails: O-Proj waits for memory": (
        11, FAILS, lambda: study.counted(IN_PREFILL, {**IN_DECODE, Operator.O_PROJ: stalls(6, 2, 0.5, 0.2)})),
    "11 fails: the pipe is busy in decode": (
        11, FAILS, lambda: study.counted(IN_PREFILL, {**IN_DECODE, Operator.NORM: stalls(5, 2, 3, 5)})),
    "11 fails: the norms wait less for each other": (
        11, FAILS, lambda: study.counted(IN_PREFILL, {**IN_DECODE, Operator.NORM: stalls(5, 2, 0.2, 0.1)})),
    "11 open: a stall reason is missing": (11, OPEN, lambda: study.counted(no_pipe(IN_PREFILL), no_pipe(IN_DECODE))),
    "11 open: no counters": (11, OPEN, paper),
    "11 open: mixed": (
        11, OPEN, lambda: [
            *study.counted(IN_PREFILL, {}), *study.counted({}, IN_DECODE, **OTHER)]),
    "12 holds": (12, HOLDS, fleet),
    "12 fails: the board's prefill is memory-bound": (12, FAILS, lambda: fleet(EDGE._replace(byte_per_s=1e9))),
    "12 fails: no ceiling moves": (12, FAILS, lambda: fleet(Laws())),
    "12 open: no edge board": (12, OPEN, paper),
    "12 open: a plain host is no edge board": (
        12, OPEN, lambda: fleet(accelerator="cpu", processor="Example CPU", versions={"torch": "2.11.0"})),
    "12 open: mixed": (12, OPEN, lambda: moved(fleet(), lambda s: s.trial.device == "board" and has(Phase.PREFILL)(s))),
}  # fmt: skip


def is_dense(stored: StoredTrial) -> bool:
    return stored.trial.work is not None and stored.trial.work.task.architecture.experts is None


def without_longer(length: int) -> list[StoredTrial]:
    return [each for each in paper() if not longer(length)(each)]


def no_pipe(found: dict[Operator, dict[str, float]]) -> dict[Operator, dict[str, float]]:
    return {op: {name: value for name, value in of.items() if "math_pipe" not in name} for op, of in found.items()}


def of(claim: int, several: Trials) -> list[Finding]:
    """The findings of one claim."""
    return [answer.finding for answer in answers(several, [claim])]


@pytest.mark.parametrize("name", CASES)
def test_a_claim_is_decided_as_it_must_be(name):
    claim, expected, constructed = CASES[name]
    (finding,) = [each for each in of(claim, constructed()) if each.device in ("server", "fleet")]
    assert finding.verdict.value == expected, finding
    assert bool(finding.missing) == (expected == OPEN) or claim == 4
    assert finding.checks and finding.rule and finding.claim


def test_every_claim_that_can_be_decided_is_shown_to_hold_to_fail_and_to_stay_open():
    seen = {(claim, verdict) for claim, verdict, _ in CASES.values()}
    assert {(claim, verdict) for claim in CLAIMS for verdict in (HOLDS, FAILS, OPEN) if claim != 10} <= seen


def test_suite_paper_decides_claims_1_to_7_on_one_gpu():
    found = study.verdicts(paper())
    assert {claim: found[claim, "server"] for claim in range(1, 8)} == {
        1: HOLDS, 2: HOLDS, 3: HOLDS, 4: FAILS, 5: FAILS, 6: HOLDS, 7: HOLDS,
    }  # fmt: skip


def test_without_any_trial_all_twelve_are_open():
    found = [answer.finding for answer in answers([])]
    assert [finding.id for finding in found] == list(range(1, 13))
    assert {finding.verdict.value for finding in found} == {OPEN}
    assert all("phasewatt-agent run paper" in finding.missing[0] for finding in found)


def test_simulated_failed_and_imported_trials_decide_nothing():
    simulated = paper(simulated=True)
    failed = [
        trials.stored(changed(each.trial, outcome=Outcome.FAILED, reason="out of memory")) for each in paper()[:-1]
    ]
    assert set(study.verdicts(simulated).values()) == {OPEN}
    assert set(study.verdicts(failed).values()) == {OPEN}
    assert remarks(simulated) == ("37 of 37 trials are simulated and decide nothing",)
    assert remarks(failed) == ("37 of 37 trials failed, were skipped or imported, and decide nothing",)


def test_simulated_ceilings_are_no_machine():
    ceilings = study.ceilings(Laws(), under=how(simulated=True))
    (finding,) = of(1, [*paper()[:-1], ceilings])
    assert finding.verdict.value == OPEN and "ceilings" in finding.missing[0]


def test_ceilings_of_another_power_mode_are_no_machine():
    ceilings = study.ceilings(Laws(), under=how(power_mode="15W"))
    (finding,) = of(1, [*paper()[:-1], ceilings])
    assert finding.verdict.value == OPEN


def test_trials_of_mixed_versions_are_told_and_not_mixed():
    several = moved(paper(), longer(1024))
    (said,) = remarks(several)
    assert said.startswith("server: trials were run under 2 sets of conditions, which are not mixed: ")
    assert "torch 2.11.0" in said and "torch 2.13.0" in said
    (finding,) = of(2, several)
    assert len(finding.others) == 1


def test_what_more_gpus_do_stands_beside_and_decides_no_other_claim():
    """The fewest GPUs decide; each length is told; ranks on a CPU are no GPUs."""
    several = several_gpus(1.8, 0.8)
    (finding,) = of(8, [*several_gpus(3.0, 1.5, gpus=4), *several[len(paper()) :]])
    assert finding.verdict.value == HOLDS
    assert finding.figure.startswith("tensor 2, of one GPU's speed: prefill 1.80× at 128")
    assert [each for each in finding.remarks if "tensor 4, of one GPU's speed: prefill 3.00× at 128" in each]
    (first,) = of(1, several)
    assert "tensor" not in first.group and first.others == ()
    (on_cpus,) = of(8, [*paper(accelerator="cpu"), *paper(accelerator="cpu", parallelism="tensor 2")])
    assert on_cpus.verdict.value == OPEN and "phasewatt-agent run several-gpus" in on_cpus.missing[0]


def test_the_larger_model_decides_and_what_others_say_is_told():
    several = [*paper(), *paper(Laws(prefill_s=(1e-3, 1e-6, 0.0)), shape=study.models.named("llama-3.2-1b"))]
    (finding,) = of(2, several)
    assert finding.verdict.value == HOLDS and "qwen3-8b" in finding.group
    assert any(
        "other trials of this device say otherwise" in each and "does_not_hold" in each for each in finding.remarks
    )


def test_each_device_has_its_findings_and_the_fleet_its_own():
    found = study.verdicts(fleet())
    assert len(found) == 2 * 10 + 2
    assert {device for _, device in found} == {"server", "board", "fleet"}


def test_what_was_used_is_named():
    assert of(1, paper())[0].basis == "device-busy time"
    assert of(1, paper(Laws(busy=False, host=1.0), mode="graph"))[0].basis == "graph mode"
    refused = of(1, paper(Laws(busy=False)))[0]
    assert refused.basis is None
    assert refused.remarks == ("eager host time says nothing of the hardware: the profiler is not permitted",)
    assert of(6, paper())[0].basis == "gross energy of gpu-board, eager mode"


def test_figures_are_those_of_the_constructed_device():
    crossing = of(2, paper())[0]
    assert "crossover at 64 tokens out: 16," in crossing.figure  # 63 steps of 7 ms over 26 us a token
    energy = of(6, paper())[0]
    assert "1.9" in energy.figure and "J a token" in energy.figure  # 6.4 ms at 300 W
    (flat,) = [check for check in of(4, paper())[0].checks if "FFN's time a step" in check.says]
    assert flat.value == pytest.approx(1.0)


def test_missing_counters_are_named_with_their_reason():
    (finding,) = of(11, CASES["11 open: a stall reason is missing"][2]())
    assert any("pipe busy" in each and "phasewatt-agent counters" in each for each in finding.missing)
    assert [check for check in finding.checks if check.verdict.value == HOLDS]


@pytest.mark.parametrize("reason", ["truncated: 2 of 9", "two passes differ; truncated: 2 of 9"])
def test_a_truncated_profile_is_no_evidence(reason):
    cut = [
        trials.stored(changed(s.trial, profiles=tuple(changed(p, reason=reason) for p in s.trial.profiles)))
        for s in paper()
    ]
    assert {study.verdicts(cut)[claim, "server"] for claim in (3, 4)} == {OPEN}


def test_more_than_a_whole_ceiling_decides_nothing():
    """A step twice as fast as the memory allows tells of wrong ceilings, not of a memory-bound phase."""
    (finding,) = of(1, paper(Laws(byte_per_s=1.5e12)))
    shares = {check.says: check for check in finding.checks}
    impossible = shares["share of the read bandwidth that the median decode step reaches"]
    assert impossible.low > 1 and impossible.verdict.value == OPEN
    assert any("share of the read bandwidth" in each for each in finding.missing)


def test_what_weakens_the_trials_is_told():
    def weak(stored: StoredTrial) -> StoredTrial:
        runs = tuple(changed(run, steady=False) for run in stored.trial.runs)
        return trials.stored(changed(stored.trial, runs=runs))

    marked = paper(marks=("not alone: 1.3 cores busy",), throttled=("SwPowerCap",))
    (finding,) = of(1, [*map(weak, marked[:-1]), marked[-1]])
    assert "14 of its 14 trials have windows that never settled" in finding.remarks
    assert "14 of its 14 trials are marked, such as: not alone: 1.3 cores busy" in finding.remarks
    assert "14 of its 14 trials ran while something held the processor back" in finding.remarks


def test_why_nothing_was_counted_is_told():
    (counted,) = study.counted({}, {})
    profiles = tuple(changed(each, reason="not permitted: RmProfilingAdminOnly") for each in counted.trial.counters)
    refused = changed(counted.trial, counters=profiles, outcome=Outcome.FAILED, reason="not permitted")
    said = remarks([trials.stored(refused)])
    assert "server: no hardware counters: not permitted: RmProfilingAdminOnly" in said
