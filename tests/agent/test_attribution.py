"""Kernels and their operators: by the range they were launched in, by the order of a replay, or none."""

from __future__ import annotations

import pytest

from agent.engines.attribution import (
    MOST_UNATTRIBUTED,
    Kernel,
    Launch,
    Range,
    busy_ns,
    by_order,
    by_range,
    elapsed_ns,
    sums,
)
from phasewatt.operators import Operator

MODEL = Range(Operator.OTHER, 1, 100, 900)
RANGES = (
    MODEL,
    Range(Operator.ATTN_CORE, 1, 200, 500),
    Range(Operator.QKV_PROJ, 1, 220, 300),
    Range(Operator.NORM, 1, 500, 600),
)


def launched(at_ns: int, operation: str = "aten::mm", thread: int = 1) -> Kernel:
    """A kernel that ran long after it was launched."""
    return Kernel("gemm", 10_000 + at_ns, 10_007 + at_ns, Launch(thread, at_ns, operation))


def kernels(*names: str) -> list[Kernel]:
    """Kernels of these names, 7 ns each, one after another."""
    return [Kernel(name, 10 * index, 10 * index + 7, None) for index, name in enumerate(names)]


@pytest.mark.parametrize(
    ("at_ns", "operator"),
    [
        (220, Operator.QKV_PROJ),
        (299, Operator.QKV_PROJ),
        (300, Operator.ATTN_CORE),
        (210, Operator.ATTN_CORE),
        (499, Operator.ATTN_CORE),
        (500, Operator.NORM),
        (601, Operator.OTHER),
        (150, Operator.OTHER),
    ],
)
def test_the_innermost_range_at_the_launch_counts(at_ns: int, operator: Operator) -> None:
    """Not where the kernel ran: a GPU is often far behind. A range that has ended is not open."""
    assert by_range([launched(at_ns)], RANGES) == [operator]


def test_outside_the_model_the_next_token_is_chosen() -> None:
    """Sampling by its operations; what prepares a step beside it is other; both on the model's thread."""
    chosen, fed, mask = launched(950, "aten::argmax"), launched(960, "aten::copy_"), launched(50, "aten::le")
    assert by_range([chosen, fed, mask], RANGES) == [Operator.SAMPLING, Operator.SAMPLING, Operator.OTHER]


def test_what_nobody_was_seen_to_launch_has_no_operator() -> None:
    """And so has what another thread launched, in which no model runs."""
    assert by_range([launched(250)._replace(launch=None), launched(250, thread=2)], RANGES) == [None, None]


def test_layers_follow_each_other() -> None:
    """Ranges of one operator again and again, each closed before the next."""
    layers = [Range(Operator.OTHER, 1, 0, 1000)]
    layers += [Range(Operator.FFN_UP, 1, start, start + 50) for start in range(0, 1000, 100)]
    found = by_range([launched(at) for at in range(25, 1000, 50)], layers)
    assert found == [Operator.FFN_UP, Operator.OTHER] * 10


def test_a_replay_of_the_same_kernels_has_the_same_operators() -> None:
    """In their order, whatever their times."""
    operators = [Operator.NORM, Operator.QKV_PROJ, Operator.NORM]
    assert by_order(kernels("a", "b", "a"), kernels("a", "b", "a"), operators) == operators


@pytest.mark.parametrize("other", [("a", "b"), ("a", "a", "b"), ("a", "b", "a", "c"), ("a", "b", "d")])
def test_a_replay_of_other_kernels_has_none(other: tuple[str, ...]) -> None:
    """One missing, one more, another order, another kernel: nothing is guessed."""
    assert by_order(kernels(*other), kernels("a", "b", "a"), [Operator.NORM] * 3) is None


def test_copies_belong_where_they_are_as_many() -> None:
    """A graph may take one as its own; the kernels around it keep their operators."""
    told = kernels("Memcpy DtoD", "a", "Memset", "b")
    operators = [Operator.SAMPLING, Operator.NORM, Operator.ROUTER, Operator.EXPERTS]
    assert by_order(kernels("Memcpy DtoD", "a", "Memset", "b"), told, operators) == operators
    fewer = by_order(kernels("a", "Memset", "b", "Memcpy DtoD"), told, operators)
    assert fewer == [Operator.NORM, Operator.ROUTER, Operator.EXPERTS, None]


def test_sums_hold_every_kernel_once() -> None:
    """By operator in the order of operators, and the rest by name, the longest first."""
    ran = kernels("a", "b", "c", "b", "b")
    ran[2] = ran[2]._replace(end_ns=ran[2].start_ns + 50)
    summed = sums(ran, [Operator.NORM, None, None, Operator.EMBEDDING, None])
    assert [(one.operator, one.device_ns, one.launches) for one in summed.operators] == [
        ("embedding", 7, 1),
        ("norm", 7, 1),
    ]
    assert summed.unattributed_ns == 64
    assert [(one.name, one.device_ns, one.launches) for one in summed.unattributed] == [("c", 50, 1), ("b", 14, 2)]


def test_many_strangers_are_summed_and_the_longest_named() -> None:
    """A name longer than a record takes is cut."""
    ran = kernels(*(f"{index}{'k' * 300}" for index in range(40)))
    summed = sums(ran, [None] * 40)
    assert len(summed.unattributed) == MOST_UNATTRIBUTED
    assert summed.unattributed_ns == 280
    assert {len(one.name) for one in summed.unattributed} == {256}


def test_busy_is_the_union_and_gaps_are_the_rest() -> None:
    """Kernels that overlap are busy once."""
    ran = [Kernel("a", 0, 10, None), Kernel("b", 5, 12, None), Kernel("c", 20, 25, None), Kernel("d", 21, 22, None)]
    assert busy_ns(ran) == 17
    assert elapsed_ns(ran) == 25
    assert (busy_ns([]), elapsed_ns([])) == (0, 0)
