"""How far measurements lie apart, by key, and what is said of it."""

from __future__ import annotations

import pytest

from collector import noise
from collector.fitting import Point
from collector.measured_points import Sample, energies, host_times
from phasewatt.fields import Phase, Scope
from tests.fixtures import trials


def sample(length, value, batch=1, spread=None, settled=None):
    return Sample(Point((float(length),), value, length), batch, spread, settled)


def test_trials_of_one_length_and_batch_are_held_against_each_other():
    """Another batch of the same length is other work, and takes longer by right."""
    several = [sample(8, 1.0), sample(8, 1.2), sample(8, 9.0, batch=4), sample(16, 2.0)]
    assert noise.spreads(several, [8, 8, 8, 16]) == {8: pytest.approx(0.2 / 1.1)}


def test_a_trials_own_spread_counts_and_the_largest_is_told():
    several = [sample(8, 1.0, spread=0.3), sample(8, 1.1, spread=0.02), sample(16, 2.0, spread=0.05)]
    found = noise.spreads(several, [8, 8, 16])
    assert found == {8: 0.3, 16: 0.05}
    assert noise.remark(0.31, found, "length") is None
    assert noise.remark(0.3, found, "length").startswith("measurements of one length lie up to 30.0% apart (length 8)")
    assert noise.remark(0.3, {}, "length") is None


def test_windows_that_never_settled_are_counted_among_those_that_there_are():
    several = [sample(8, 1.0, settled=False), sample(16, 1.0, settled=True), sample(32, 1.0)]
    assert noise.unsettled(several) == "1 of 2 windows never settled"
    assert noise.unsettled(several[1:]) is noise.unsettled([]) is None


def test_an_energy_is_as_unsure_as_its_verdict_says():
    trial = trials.measured(sensors=[trials.GPU]).stored.trial
    found = next(each for each in trial.energy if each.phase is Phase.PREFILL and each.scope is Scope.GPU_BOARD)
    (made,) = energies([trial], Phase.PREFILL, Scope.GPU_BOARD)
    assert found.temporal_uncertainty_j and made.spread == found.temporal_uncertainty_j / found.energy_j
    assert made.point.value == found.energy_j / found.repetitions
    assert energies([trial], Phase.PREFILL, Scope.MODULE) == []


@pytest.mark.parametrize("steady", [True, False])
def test_a_host_time_is_the_median_of_what_is_evidence(steady):
    trial = trials.measured(steady=steady).stored.trial
    run = trial.run_of(Phase.DECODE)
    taken = sorted(span.duration_s for span in run.spans())
    (made,) = host_times([trial], Phase.DECODE)
    whole = (taken[-1] - taken[0]) / made.point.value / (run.kv_end - run.kv_start)
    assert taken[0] <= made.point.value * (run.kv_end - run.kv_start) <= taken[-1] and made.settled is steady
    assert made.spread < whole if steady else made.spread == pytest.approx(whole)
