"""Full load on demand: matrix products back to back, on the CPU or on every GPU that torch sees."""

from __future__ import annotations

import time
from typing import NamedTuple

import torch

_LARGEST = {"cuda": 4096, "cpu": 2048}
_SMALLEST = 128
_BATCH_S = 0.005  # of work between two looks at the clock: how sharp the end is


class _Product(NamedTuple):
    """The operands of one device, each [size, size]."""

    left: torch.Tensor
    right: torch.Tensor
    result: torch.Tensor

    def launch(self) -> None:
        torch.mm(self.left, self.right, out=self.result)


class Burner:
    """Holds what a load needs, chosen so that a batch of products takes no more than a few milliseconds."""

    def __init__(self, accelerator: str) -> None:
        self._on_gpu = accelerator == "cuda"
        count = torch.cuda.device_count() if self._on_gpu else 1
        self._devices = [torch.device(accelerator, index) for index in range(count)]
        size = _LARGEST[accelerator]
        self._place(size)
        while size > _SMALLEST and self._seconds_once() > _BATCH_S:
            size //= 2
            self._place(size)
        self._batch = max(1, int(_BATCH_S / self._seconds_once()))

    def burn(self, seconds: float) -> tuple[int, int]:
        """Start and end in ns of a load of `seconds`; it ends with nothing left to do."""
        self._sync()
        start_ns = now_ns = time.monotonic_ns()
        until_ns = start_ns + round(seconds * 1e9)
        while now_ns < until_ns:
            for _ in range(self._batch):
                for product in self._products:
                    product.launch()
            self._sync()
            now_ns = time.monotonic_ns()
        return start_ns, now_ns

    def _place(self, size: int) -> None:
        """Random operands, for products of zeros draw less power."""
        dtype = torch.float32
        if self._on_gpu:
            dtype = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16

        def operand(device: torch.device) -> torch.Tensor:
            return torch.randn(size, size, device=device).to(dtype)

        self._products = [_Product(operand(device), operand(device), operand(device)) for device in self._devices]

    def _seconds_once(self) -> float:
        """Time of one product on every device; the first one, which loads kernels, is left out."""
        taken_s = []
        for _ in range(3):
            self._sync()
            started = time.perf_counter()
            for product in self._products:
                product.launch()
            self._sync()
            taken_s.append(time.perf_counter() - started)
        return min(taken_s[1:])

    def _sync(self) -> None:
        for device in self._devices if self._on_gpu else ():
            torch.cuda.synchronize(device)
