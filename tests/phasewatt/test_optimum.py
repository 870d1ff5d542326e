"""Sweeps over batches: which trials are one, and where each metric is best."""

from __future__ import annotations

from phasewatt import optimum
from phasewatt.fields import Outcome, Phase, Scope
from phasewatt.records import Trial
from tests.fixtures import records
from tests.fixtures.records import changed


def at_batch(batch: int, step_s: float, joules_per_token: float | None = None, **named: object) -> Trial:
    """A decode of one step a repetition."""
    run = records.phase_run(Phase.DECODE, [step_s] * 5, tokens=batch, kv_start=4, kv_end=5)
    work = changed(records.work(), task=records.task(batch=batch))
    energy = ()
    if joules_per_token is not None:
        energy = (records.phase_energy(Phase.DECODE, joules_per_token * batch * 5, tokens=batch * 5),)
    return records.trial(work=work, runs=(run,), energy=energy, **named)


def saturating() -> list[Trial]:
    """Throughput 10, 20, 39, 40 token/s; energy least at batch 4."""
    return [
        at_batch(1, 0.1, 4.0),
        at_batch(2, 0.1, 2.0),
        at_batch(4, 4 / 39, 1.2),
        at_batch(8, 0.2, 1.3),
    ]


def test_each_metric_has_its_optimum() -> None:
    """Most tokens a second at 8, least energy at 4, least latency at 1; 4 is where more brings little."""
    (sweep,) = optimum.sweeps(saturating())
    best = {each.metric: (each.batch, each.at_edge) for each in sweep.optima}
    assert best == {
        "decode_rate": (8, True),
        "decode_step_latency": (1, True),
        "decode_token_energy": (4, False),
    }
    assert sweep.enough == 4
    assert [point.batch for point in sweep.points] == [1, 2, 4, 8]
    assert {point.scope for point in sweep.points} == {Scope.MODULE}
    lines = optimum.in_words(sweep)
    assert "decode_token_energy is best at batch 4: 1.2 J/token" in lines
    assert "decode_rate is best at batch 8: 40 token/s (at the end of the sweep: it may lie beyond)" in lines


def test_unlike_trials_are_not_one_sweep() -> None:
    """Another device, another mode, several processors, other chunks, a failure, a single size."""
    trials = saturating()
    others = [
        changed(trials[0], device="other"),
        changed(trials[1], conditions=changed(trials[1].conditions, mode="graph")),
        changed(trials[2], conditions=changed(trials[2].conditions, parallelism="tensor 2")),
        changed(trials[3], conditions=changed(trials[3].conditions, prefill_chunk=5)),
        changed(trials[2], outcome=Outcome.FAILED, reason="out of memory"),
    ]
    assert optimum.sweeps(others) == ()
    assert len(optimum.sweeps([*trials, *others])) == 1


def test_repeats_of_a_size_count_by_their_median() -> None:
    trials = [at_batch(1, 0.1), at_batch(1, 0.3), at_batch(1, 0.12), at_batch(2, 0.1)]
    (sweep,) = optimum.sweeps(trials)
    assert sweep.points[0].trials == 3
    assert round(1 / (sweep.points[0].figures["decode_rate"] or 0), 3) == 0.12


def test_without_energy_there_is_no_optimum_of_it() -> None:
    (sweep,) = optimum.sweeps([at_batch(1, 0.1), at_batch(2, 0.1)])
    assert {each.metric for each in sweep.optima} == {"decode_rate", "decode_step_latency"}
    assert {point.figures["decode_token_energy"] for point in sweep.points} == {None}
