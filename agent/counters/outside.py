"""What a pass does outside of the model: marked by its operation, by the rule that torch's profiler has too."""

from __future__ import annotations

from typing import Any

from torch.overrides import TorchFunctionMode

from agent.counters.ranges import Ranges
from agent.engines import attribution


class Outside(TorchFunctionMode):
    """Opens a range around every function on tensors that is called where no part of the model is running."""

    def __init__(self, ranges: Ranges) -> None:
        super().__init__()
        self._ranges = ranges

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """See torch: called in place of every function on tensors."""
        if self._ranges.is_inside:
            return func(*args, **(kwargs or {}))
        with self._ranges.operator(attribution.outside(f"aten::{getattr(func, '__name__', '')}")):
            return func(*args, **(kwargs or {}))
