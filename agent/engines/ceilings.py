"""What a processor does at most of one kind of work: products, copies, reads, launches, back to back on random data.

Random, because products of zeros draw less power and are up to 13 % faster.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch

from agent.orders import CeilingMeasured, MeasureCeiling
from phasewatt.errors import EngineFailed

_MOST_CALLS = 10_000  # a repetition
_PATIENCE = 4.0  # times the time that all repetitions should take
_TF32 = "tf32"


class _Load(NamedTuple):
    """Work to be repeated, and how much of its unit one call is."""

    call: Callable[[], object]
    amount: float  # FLOPs or bytes; of launches, how many there are


def measure(order: MeasureCeiling) -> CeilingMeasured:
    """One value a repetition, in FLOP/s, byte/s or seconds a launch.

    Raises:
        EngineFailed: the processor has no such work, or no such dtype.
    """
    if order.work not in _LOADS:
        raise EngineFailed(f"no ceiling is known of work {order.work!r}; known: {', '.join(_LOADS)}")
    on_gpu = order.accelerator == "cuda"
    with _products_in(order.dtype):
        load = _made(order, on_gpu)
        _seconds(load.call, 1, on_gpu)  # kernels are loaded
        once_s = _seconds(load.call, 1, on_gpu)
        calls = max(1, min(_MOST_CALLS, round(order.seconds / max(once_s, 1e-7))))
        # Of what takes far longer than it should, such as products of a dtype that is emulated, there are fewer.
        fewer = max(1, min(order.repetitions, round(_PATIENCE * order.repetitions * order.seconds / (calls * once_s))))
        taken_s = [_seconds(load.call, calls, on_gpu) for _ in range(fewer)]
    if order.work == "launch":
        values = tuple(seconds / calls / load.amount for seconds in taken_s)
    else:
        values = tuple(load.amount * calls / seconds for seconds in taken_s)
    return CeilingMeasured(values=values, threads=None if on_gpu else torch.get_num_threads())


def _made(order: MeasureCeiling, on_gpu: bool) -> _Load:
    kind = torch.float32 if order.dtype in (_TF32, None) else getattr(torch, order.dtype, None)
    if not isinstance(kind, torch.dtype):
        raise EngineFailed(f"torch {torch.__version__} has no dtype {order.dtype}")
    return _LOADS[order.work](order.shape, kind, torch.device("cuda" if on_gpu else "cpu"))


def _matmul(shape: tuple[int, ...], kind: torch.dtype, device: torch.device) -> _Load:
    m, n, k = shape
    left, right = _random((m, k), kind, device), _random((k, n), kind, device)
    result = torch.empty((m, n), dtype=kind, device=device)
    return _Load(lambda: torch.mm(left, right, out=result), 2.0 * m * n * k)


def _copy(shape: tuple[int, ...], kind: torch.dtype, device: torch.device) -> _Load:
    source = _random(shape, kind, device)
    target = torch.empty_like(source)
    return _Load(lambda: target.copy_(source), 2.0 * source.numel() * source.element_size())


def _read(shape: tuple[int, ...], kind: torch.dtype, device: torch.device) -> _Load:
    matrix, vector = _random(shape, kind, device), _random(shape[1:], kind, device)  # [rows, columns], [columns]
    return _Load(lambda: torch.mv(matrix, vector), float(matrix.numel() * matrix.element_size()))


def _launch(shape: tuple[int, ...], kind: torch.dtype, device: torch.device) -> _Load:
    one = torch.zeros(1, dtype=kind, device=device)

    def several() -> None:
        for _ in range(shape[0]):
            one.add_(1)

    return _Load(several, float(shape[0]))


_LOADS: Mapping[str, Callable[[tuple[int, ...], torch.dtype, torch.device], _Load]] = {
    "matmul": _matmul,
    "copy": _copy,
    "read": _read,
    "launch": _launch,
}


def _random(shape: tuple[int, ...], kind: torch.dtype, device: torch.device) -> torch.Tensor:
    """Drawn a part at a time where that is large: float32 values beside those of the dtype need memory."""
    made = torch.empty(shape, dtype=kind, device=device)
    for part in made.view(-1).split(1 << 26):  # type: ignore[no-untyped-call]
        part.copy_(torch.randn(part.shape, device=device))
    return made


@contextmanager
def _precision(word: str) -> Any:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(word)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _products_in(dtype: str | None) -> AbstractContextManager[None]:
    """Of float32 in itself, or in TF32 where that is what is asked for."""
    if dtype not in ("float32", _TF32):
        return nullcontext()
    made: AbstractContextManager[None] = _precision("high" if dtype == _TF32 else "highest")
    return made


def _seconds(call: Callable[[], object], calls: int, on_gpu: bool) -> float:
    if on_gpu:
        torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(calls):
        call()
    if on_gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - began
