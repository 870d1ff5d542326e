"""What findings are built of: bounds, intervals of a regression, device time, and the shares of stalls."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.findings import bounds
from collector.findings.bounds import Bounds, above, below, between, exact, within
from collector.findings.checks import Verdict, together
from collector.findings.device_time import timed, without_device_time
from collector.findings.families import families
from collector.findings.regression import standardised
from phasewatt.fields import Phase
from phasewatt.metrics import Readings
from tests.fixtures import study, trials
from tests.fixtures.records import changed
from tests.fixtures.study import Laws, how, paper

POSITIVE = st.floats(min_value=1e-3, max_value=1e3)


@st.composite
def spans(draw):
    low, value, high = sorted(draw(st.tuples(POSITIVE, POSITIVE, POSITIVE)))
    return Bounds(value, low, high)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (Bounds(2.0, 1.1, 3.0), Verdict.HOLDS),
        (Bounds(2.0, 0.9, 3.0), Verdict.NOT_ENOUGH_DATA),
        (Bounds(0.8, 0.5, 1.2), Verdict.NOT_ENOUGH_DATA),
        (Bounds(0.8, 0.5, 0.9), Verdict.DOES_NOT_HOLD),
    ],
)
def test_only_a_whole_interval_on_one_side_decides(found, verdict):
    assert above("it is more", found, 1.0).verdict is verdict


def test_below_and_within_decide_alike():
    assert below("less", Bounds(0.5, 0.4, 0.6), 1.0).verdict is Verdict.HOLDS
    assert below("less", Bounds(0.9, 0.4, 1.6), 1.0).verdict is Verdict.NOT_ENOUGH_DATA
    assert below("less", Bounds(1.5, 1.4, 1.6), 1.0).verdict is Verdict.DOES_NOT_HOLD
    assert within("the same", Bounds(1.0, 0.95, 1.05), 0.9, 1.1).verdict is Verdict.HOLDS
    assert within("the same", Bounds(1.0, 0.85, 1.05), 0.9, 1.1).verdict is Verdict.NOT_ENOUGH_DATA
    assert within("the same", Bounds(1.3, 1.2, 1.4), 0.9, 1.1).verdict is Verdict.DOES_NOT_HOLD


@given(spans(), spans())
def test_what_follows_from_bounds_keeps_its_value_inside(one, other):
    for found in (one.over(other), one.plus(other), one.share(other), one.times(2.0)):
        assert found.low <= found.value * (1 + 1e-9) and found.value <= found.high * (1 + 1e-9)


def test_one_repetition_is_not_taken_as_certain():
    found = bounds.measured([Readings((0.01,))], "one")
    assert found == Bounds(0.01, pytest.approx(0.0098), pytest.approx(0.0102))
    assert bounds.measured([Readings(())], "none") is None
    assert bounds.measured([Readings((0.0,))], "nothing") is None


def test_between_is_straight_and_ends_flat():
    points = [(100.0, exact(1.0)), (300.0, exact(3.0))]
    assert between(points, 200.0) == exact(2.0)
    assert between(points, 10.0) == exact(1.0)
    assert between(points, 1000.0) == exact(3.0)


def test_a_claim_fails_with_one_part_and_is_open_with_none():
    assert together([]) is Verdict.NOT_ENOUGH_DATA
    assert together([Verdict.HOLDS, Verdict.NOT_ENOUGH_DATA]) is Verdict.NOT_ENOUGH_DATA
    assert together([Verdict.HOLDS, Verdict.DOES_NOT_HOLD, Verdict.NOT_ENOUGH_DATA]) is Verdict.DOES_NOT_HOLD


def test_regression_by_hand():
    """y = 3 x1 + x2 on a grid of two by three, with one joule of disturbance: by the normal equations."""
    terms = [(a, b) for a in (0.0, 1.0) for b in (0.0, 1.0, 2.0)]
    values = [3 * a + b + disturbed for (a, b), disturbed in zip(terms, (0.1, -0.2, 0.1, -0.1, 0.2, -0.1), strict=True)]
    of_a, of_b = standardised(terms, values)
    assert of_a.raw == pytest.approx(3.0) and of_b.raw == pytest.approx(1.0)
    # squares left 0.12, freedom 3: s² = 0.04, se of a = sqrt(0.04 / 1.5) = 0.1633; t = 3.182
    scale = 0.5 / (2.25 + 2 / 3 + 0.02) ** 0.5
    assert (of_a.high - of_a.value) / scale == pytest.approx(3.182 * 0.1633, rel=1e-3)


@pytest.mark.parametrize(
    ("terms", "values"),
    [
        ([(1.0, 1.0), (2.0, 2.0), (3.0, 1.0)], [1.0, 2.0, 3.0]),  # no freedom
        ([(1.0, 2.0), (2.0, 4.0), (3.0, 6.0), (4.0, 8.0)], [1.0, 2.0, 3.0, 4.0]),  # one column twice
        ([(1.0, 1.0), (1.0, 2.0), (1.0, 3.0), (1.0, 4.0)], [1.0, 2.0, 3.0, 4.0]),  # a constant column
        ([(1.0, 1.0), (2.0, 2.0), (3.0, 1.0), (4.0, 2.0)], [1.0, 1.0, 1.0, 1.0]),  # nothing to explain
    ],
)
def test_no_regression_where_nothing_follows_from_it(terms, values):
    assert standardised(terms, values) is None


def test_device_time_is_taken_and_host_time_refused():
    """The decode step of the constructed device is 6.4 ms; its eager host takes four times as long."""
    (family,) = families(paper())
    first = timed(family, Phase.DECODE)[0]
    assert first.seconds.value == pytest.approx(6.4e-3, rel=0.01)
    (hosted,) = families(paper(Laws(busy=False)))
    assert timed(hosted, Phase.DECODE) == []
    assert without_device_time(hosted) is not None
    (on_cpu,) = families(paper(Laws(busy=False), accelerator="cpu", processor="Example CPU"))
    assert timed(on_cpu, Phase.DECODE)[0].seconds.value == pytest.approx(4 * 6.4e-3, rel=0.01)
    (served,) = families(paper(Laws(busy=False), engine="served", mode="graph"))
    assert timed(served, Phase.DECODE) == []


def test_ceilings_of_a_cpu_count_with_as_many_threads():
    under = how(accelerator="cpu", processor="Example CPU", threads=2)
    on_cpu = paper(accelerator="cpu", processor="Example CPU", threads=2)[:-1]
    measured = study.ceilings(Laws(), under=under).trial
    for threads, known in ((2, True), (1, False), (None, True)):
        ceilings = tuple(changed(each, processor="cpu", threads=threads) for each in measured.ceilings)
        (family,) = families([*on_cpu, trials.stored(changed(measured, ceilings=ceilings))])
        assert (family.machine is not None) is known


def test_a_read_from_a_cache_is_not_the_memorys_ceiling():
    """Of several matrices the largest counts, as on the roofline, though a small one is read faster."""
    *worked, measured = paper()
    (read,) = (each for each in measured.trial.ceilings if each.work == "read")
    cached = changed(read, shape=(512, 512), values=tuple(5 * value for value in read.values))
    both = trials.stored(changed(measured.trial, ceilings=(cached, *measured.trial.ceilings)))
    assert families([*worked, both])[0].machine == families(paper())[0].machine


def test_ceilings_without_the_dtype_leave_it_to_others():
    """Measured later, and so nearer: but they say nothing of this dtype."""
    *worked, measured = paper()
    other = tuple(changed(each, dtype="float16") for each in measured.trial.ceilings)
    nearer = trials.stored(changed(measured.trial, campaign=worked[0].trial.campaign, ceilings=other))
    farther = trials.stored(changed(measured.trial, campaign="another"))
    for known in ([farther, nearer], [nearer, farther]):
        assert families([*worked, *known])[0].machine == families(paper())[0].machine
    assert families([*worked, nearer])[0].machine is None


def test_ceilings_are_measured_ones_or_else_the_data_sheet():
    assert families(paper())[0].machine.source == "measured ceilings"
    sheet = [*paper()[:-1], study.ceilings(Laws(), sheet=True)]
    assert families(sheet)[0].machine.source == "the data sheet"
