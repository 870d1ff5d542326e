"""Which operator a kernel is of: by the range that was open when it was launched, or by its place in an order. Pure.

A name tells nothing here: the same kernel serves many operators, and one that was never seen before is no harder.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from phasewatt.operators import Operator
from phasewatt.profiles import KernelTime, OperatorTime

MOST_UNATTRIBUTED = 16  # kernels named in a profile
_LONGEST_NAME = 256
_OF_SAMPLING = ("aten::argmax", "aten::copy_")  # outside the model: the next token is chosen, and put where it is read
_COPIES = ("Memcpy", "Memset")


class Range(NamedTuple):
    """A stretch of a thread's time that belongs to one operator; inner ranges lie within outer ones."""

    operator: Operator
    thread: int
    start_ns: int
    end_ns: int


class Launch(NamedTuple):
    """What asked for a kernel: an operation of a thread, at a time."""

    thread: int
    at_ns: int
    operation: str


class Kernel(NamedTuple):
    """A kernel or copy of a GPU, or an operation of a CPU."""

    name: str
    start_ns: int
    end_ns: int
    launch: Launch | None  # None: nothing that launched it was seen


class Sums(NamedTuple):
    """Kernels by operator, as a profile holds them."""

    operators: tuple[OperatorTime, ...]
    unattributed_ns: int
    unattributed: tuple[KernelTime, ...]


def by_range(kernels: Iterable[Kernel], ranges: Iterable[Range]) -> list[Operator | None]:
    """The operator of each kernel: that of the innermost range in which it was launched.

    What a pass launches outside the model is the choice of the next token, or what prepares it: other.
    """
    on: dict[int, list[Range]] = defaultdict(list)
    for one in ranges:
        on[one.thread].append(one)
    timelines = {thread: _timeline(several) for thread, several in on.items()}
    return [_at(kernel.launch, timelines) for kernel in kernels]


def outside(operation: str) -> Operator:
    """The operator of an operation of torch that no part of the model does, by its name ("aten::argmax")."""
    return Operator.SAMPLING if operation in _OF_SAMPLING else Operator.OTHER


def by_order(
    kernels: Sequence[Kernel], told: Sequence[Kernel], operators: Sequence[Operator | None]
) -> list[Operator | None] | None:
    """The operator of each kernel by those of `told`, which did the same; both in the order in which they ran.

    None: the kernels are others, or in another order. Copies may be fewer or more, for a graph can take them as its
    own: where those between two kernels are not as many, they belong to no operator.
    """
    mine, theirs = _between(kernels), _between(told)
    if [_name(kernels, one) for one in mine] != [_name(told, one) for one in theirs]:
        return None
    found: list[Operator | None] = [None] * len(kernels)
    for one, other in zip(mine, theirs, strict=True):
        if one.kernel is not None and other.kernel is not None:
            found[one.kernel] = operators[other.kernel]
        if len(one.copies) == len(other.copies):
            for copy, as_told in zip(one.copies, other.copies, strict=True):
                found[copy] = operators[as_told]
    return found


def sums(kernels: Sequence[Kernel], operators: Sequence[Operator | None]) -> Sums:
    """Times and launches by operator, and the longest of the kernels that have none."""
    times: Counter[Operator | None] = Counter()
    launches: Counter[Operator | None] = Counter()
    strangers: Counter[str] = Counter()
    known_ns: Counter[str] = Counter()
    for kernel, operator in zip(kernels, operators, strict=True):
        took_ns = kernel.end_ns - kernel.start_ns
        times[operator] += took_ns
        launches[operator] += 1
        if operator is None:
            name = kernel.name[:_LONGEST_NAME]
            strangers[name] += 1
            known_ns[name] += took_ns
    return Sums(
        operators=tuple(
            OperatorTime(operator=operator.value, device_ns=times[operator], launches=launches[operator])
            for operator in Operator
            if launches[operator]
        ),
        unattributed_ns=times[None],
        unattributed=tuple(
            KernelTime(name=name, device_ns=took_ns, launches=strangers[name])
            for name, took_ns in sorted(known_ns.items(), key=lambda item: (-item[1], item[0]))[:MOST_UNATTRIBUTED]
        ),
    )


def busy_ns(kernels: Iterable[Kernel]) -> int:
    """The union of all kernels' times."""
    busy = reached = 0
    for start_ns, end_ns in sorted((kernel.start_ns, kernel.end_ns) for kernel in kernels):
        busy += max(0, end_ns - max(start_ns, reached))
        reached = max(reached, end_ns)
    return busy


def elapsed_ns(kernels: Sequence[Kernel]) -> int:
    """From the first kernel's start to the last one's end."""
    if not kernels:
        return 0
    return max(kernel.end_ns for kernel in kernels) - min(kernel.start_ns for kernel in kernels)


class _Timeline(NamedTuple):
    """Which operator's range is the innermost from each mark on; None: no range is open."""

    marks_ns: list[int]
    operators: list[Operator | None]


def _timeline(ranges: Iterable[Range]) -> _Timeline:
    line = _Timeline([], [])
    opened: list[Range] = []

    def close_until(at_ns: float) -> None:
        while opened and opened[-1].end_ns <= at_ns:
            line.marks_ns.append(opened.pop().end_ns)
            line.operators.append(opened[-1].operator if opened else None)

    for one in sorted(ranges, key=lambda r: (r.start_ns, -r.end_ns)):
        close_until(one.start_ns)
        opened.append(one)
        line.marks_ns.append(one.start_ns)
        line.operators.append(one.operator)
    close_until(float("inf"))
    return line


def _at(launch: Launch | None, timelines: Mapping[int, _Timeline]) -> Operator | None:
    if launch is None or launch.thread not in timelines:
        return None
    line = timelines[launch.thread]
    index = bisect_right(line.marks_ns, launch.at_ns) - 1
    inside = line.operators[index] if index >= 0 else None
    if inside is not None:
        return inside
    return outside(launch.operation)


class _Stretch(NamedTuple):
    """A kernel, by its index, and the copies before it; at the end, copies alone."""

    kernel: int | None
    copies: tuple[int, ...]


def _between(kernels: Sequence[Kernel]) -> list[_Stretch]:
    found: list[_Stretch] = []
    copies: list[int] = []
    for index, kernel in enumerate(kernels):
        if kernel.name.startswith(_COPIES):
            copies.append(index)
        else:
            found.append(_Stretch(index, tuple(copies)))
            copies = []
    return [*found, _Stretch(None, tuple(copies))]


def _name(kernels: Sequence[Kernel], stretch: _Stretch) -> str | None:
    return None if stretch.kernel is None else kernels[stretch.kernel].name
