"""The operator pass: a phase under torch.profiler, its kernels told apart by operator.

Twice on a GPU: with ranges around the model's parts, which give each kernel its operator; and without, where only the
GPU is watched, for how long it was busy and how long all took. A step that is replayed from a graph is launched one by
one for the first, and what is replayed then has its operators by the order of its kernels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch

from agent.engines import attribution
from agent.engines.attribution import Kernel, Launch, Range
from agent.engines.transformers_modes import Launching, Mode
from agent.engines.transformers_ranges import PREFIX, operator_of, ranges, recorded
from agent.orders import ProfileOperators
from phasewatt.errors import EngineFailed
from phasewatt.operators import Operator
from phasewatt.profiles import OperatorProfile

TOOL = "torch.profiler"
_CUDA = torch._C._autograd.DeviceType.CUDA
_CPU = torch._C._autograd.DeviceType.CPU
_OF_THE_PROFILER = "profiler::"
_CALLS = ("cuda", "cu")  # of the runtime and the driver, followed by a capital letter
_LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel")
_SLOWED = 1.25  # times a plain repetition: a CPU that profiling slows more than this says so


class Trace(NamedTuple):
    """What the profiler saw."""

    kernels: tuple[Kernel, ...]  # of the GPU, in the order of their starts
    operations: tuple[Kernel, ...]  # of the thread that ran the model, those that are not inside others
    ranges: tuple[Range, ...]
    launches: int  # of kernels, one at a time, as the host made them ...
    lost: int  # ... and those of which no kernel was seen


class Pass(NamedTuple):
    """What is to be profiled, on what."""

    model: Any
    mode: Mode
    on_gpu: bool
    sync: Callable[[], None]


def profile(on: Pass, order: ProfileOperators, work: Callable[[], object]) -> OperatorProfile:
    """Where the device time of `work` goes, which is one repetition of the phase.

    Raises:
        EngineFailed: the profiler does not work here, or saw nothing.
    """
    work()
    on.sync()
    began = time.perf_counter()
    work()
    on.sync()
    plain_s = time.perf_counter() - began

    def repeated() -> None:
        for _ in range(order.repetitions):
            work()

    found = _on_gpu(on, order, repeated) if on.on_gpu else _on_cpu(on, order, repeated, plain_s)
    if not found.kernels:
        where = "its access to the GPU may be restricted" if on.on_gpu else "the phase is too short for it"
        raise EngineFailed(f"the profiler saw no {'kernel' if on.on_gpu else 'operation'}: {where}")
    return _profile(found, order, "cuda" if on.on_gpu else "cpu")


class _Found(NamedTuple):
    """Kernels with their operators; `timed` are those of a pass of which gaps are told."""

    kernels: Sequence[Kernel]
    operators: Sequence[Operator | None]
    timed: Sequence[Kernel]
    lacks: Sequence[str]  # in words


def _on_gpu(on: Pass, order: ProfileOperators, work: Callable[[], None]) -> _Found:
    timed = trace(work, on.sync, True, with_cpu=False).kernels
    launching = on.mode.launching(order.phase)
    if launching is Launching.FUSED:
        return _Found(timed, [None] * len(timed), timed, ["compiled: a kernel is of several operators at once"])
    one_by_one = on.mode.one_by_one() if launching is Launching.REPLAYED else nullcontext()
    told = _told(on, work, one_by_one)
    operators = attribution.by_range(told.kernels, told.ranges)
    lacks = _lost(told)
    if launching is Launching.ONE_BY_ONE:
        return _Found(told.kernels, operators, timed, lacks)
    replayed = attribution.by_order(timed, told.kernels, operators)
    if replayed is None:
        lacks = [*lacks, f"replayed: {_difference(timed, told.kernels)}"]
    return _Found(timed, replayed or [None] * len(timed), timed, lacks)


def _on_cpu(on: Pass, order: ProfileOperators, work: Callable[[], None], plain_s: float) -> _Found:
    if on.mode.launching(order.phase) is Launching.FUSED:
        seen = trace(work, on.sync, False).operations
        lacks = ["compiled: an operation is of several operators at once, and the compiler's own are not seen"]
        return _Found(seen, [None] * len(seen), seen, lacks)
    told = _told(on, work, nullcontext())
    seen = told.operations
    slower = attribution.busy_ns(seen) * 1e-9 / order.repetitions / plain_s
    lacks = [f"short: its operations took {slower:.1f} times a plain repetition, small ones too much of it"]
    return _Found(seen, attribution.by_range(seen, told.ranges), seen, lacks if slower > _SLOWED else [])


def _told(on: Pass, work: Callable[[], None], one_by_one: AbstractContextManager[None]) -> Trace:
    with ranges(on.model, recorded), one_by_one:
        return trace(work, on.sync, on.on_gpu)


def _profile(found: _Found, order: ProfileOperators, processor: str) -> OperatorProfile:
    summed = attribution.sums(found.kernels, found.operators)
    return OperatorProfile(
        phase=order.phase,
        tool=TOOL,
        tool_version=str(torch.__version__),
        processor=processor,
        kv_start=order.kv_start,
        kv_end=order.kv_end,
        repetitions=order.repetitions,
        operators=summed.operators,
        unattributed_ns=summed.unattributed_ns,
        unattributed=summed.unattributed,
        busy_ns=attribution.busy_ns(found.timed),
        elapsed_ns=attribution.elapsed_ns(found.timed),
        reason="; ".join(found.lacks) or None,
    )


def _lost(told: Trace) -> list[str]:
    if not told.lost:
        return []
    if told.lost == told.launches:
        return ["the trace does not tell launches by number: kernels that were lost would not be seen"]
    return [f"truncated: {told.lost} of {told.launches} launches have no kernel in the trace"]


def _difference(kernels: Sequence[Kernel], told: Sequence[Kernel]) -> str:
    """Where two sequences part, in words."""
    pairs = zip(kernels, told, strict=False)
    index = next((i for i, (one, other) in enumerate(pairs) if one.name != other.name), None)
    if index is None:
        return f"{len(kernels)} kernels, and {len(told)} where they are launched one by one"
    names = f"{kernels[index].name[:80]!r} and not {told[index].name[:80]!r}"
    return f"other kernels than where they are launched one by one: of {len(kernels)} the {index + 1}. is {names}"


def trace(work: Callable[[], object], sync: Callable[[], None], on_gpu: bool, with_cpu: bool = True) -> Trace:
    """`work` under the profiler.

    Raises:
        EngineFailed: it does not work here.
    """
    kinds = torch.profiler.ProfilerActivity
    activities = [kinds.CPU] * (with_cpu or not on_gpu) + [kinds.CUDA] * on_gpu
    missing = set(activities) - torch.profiler.supported_activities()  # type: ignore[no-untyped-call]
    if missing:
        names = ", ".join(sorted(kind.name for kind in missing))
        raise EngineFailed(f"this build of torch cannot profile {names}")
    try:
        with torch.profiler.profile(activities=activities, acc_events=True) as profiler:
            work()
            sync()
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise EngineFailed(f"the profiler failed: {str(error).strip().splitlines()[0]}") from error
    return _read(profiler.profiler.kineto_results.events())


def _read(events: Iterable[Any]) -> Trace:
    """The events of torch's profiler as ours.

    A kernel names what launched it twice: by the operation that was running, and by the call into the driver. Source:
    `linked_correlation_id` and `correlation_id` of torch's KinetoEvent, as its own parser reads them.
    """
    on_device, found_ranges, operations = [], [], []
    by_operation: dict[int, Launch] = {}
    by_call: dict[int, Launch] = {}
    launched: set[int] = set()
    for event in events:
        name, kind = event.name(), event.device_type()
        if kind == _CUDA:
            if not name.startswith(PREFIX) and not event.is_user_annotation():
                on_device.append((name, event))
        elif kind == _CPU and not name.startswith(_OF_THE_PROFILER):
            launch = Launch(event.start_thread_id(), event.start_ns(), name)
            number = event.correlation_id()
            if _is_call(name):
                by_call[number] = launch
                if name.startswith(_LAUNCHES):
                    launched.add(number)
                continue
            by_operation[number] = launch
            end_ns = launch.at_ns + event.duration_ns()
            operator = operator_of(name)
            if operator is not None:
                found_ranges.append(Range(operator, launch.thread, launch.at_ns, end_ns))
            else:
                operations.append(Kernel(name, launch.at_ns, end_ns, launch))
    kernels = [_kernel(name, event, by_operation, by_call) for name, event in on_device]
    seen = {event.correlation_id() for _, event in on_device}
    return Trace(
        kernels=tuple(sorted(kernels, key=lambda kernel: kernel.start_ns)),
        operations=_outermost(operations, found_ranges),
        ranges=tuple(found_ranges),
        launches=len(launched),
        lost=len(launched - seen),
    )


def _kernel(name: str, event: Any, by_operation: Mapping[int, Launch], by_call: Mapping[int, Launch]) -> Kernel:
    by = by_operation.get(event.linked_correlation_id()) or by_call.get(event.correlation_id())
    return Kernel(name, event.start_ns(), event.start_ns() + event.duration_ns(), by)


def _is_call(name: str) -> bool:
    return any(name.startswith(prefix) and name[len(prefix) : len(prefix) + 1].isupper() for prefix in _CALLS)


def _outermost(operations: Iterable[Kernel], found_ranges: Sequence[Range]) -> tuple[Kernel, ...]:
    """Operations that are not part of others: of the model's thread, or of all where nothing marks the model's."""
    threads = {one.thread for one in found_ranges}
    reached: dict[int, int] = {}
    kept = []
    for one in sorted(operations, key=lambda kernel: (kernel.start_ns, -kernel.end_ns)):
        assert one.launch is not None
        thread = one.launch.thread
        if (threads and thread not in threads) or one.end_ns <= reached.get(thread, 0):
            continue
        reached[thread] = one.end_ns
        kept.append(one)
    return tuple(kept)
