"""Mode `graph`: decode steps are replayed from one CUDA graph; prefill is launched as in `eager`."""

from __future__ import annotations

import contextlib
from typing import Any

import torch

from agent.engines.transformers_modes import Launching
from agent.engines.transformers_static import Maker, Pass, Static, Step
from phasewatt.errors import EngineFailed

_ERRORS_OF = "thread_local"  # NCCL's own thread asks after what it did before, and may
_WARM_UP = 3  # steps before capture: libraries choose their kernels and take their workspaces


def graph(model: Any) -> Static:
    """The mode.

    Raises:
        EngineFailed: not on an NVIDIA GPU.
    """
    if model.device.type != "cuda":
        raise EngineFailed("mode graph needs an NVIDIA GPU: CUDA graphs exist nowhere else; choose eager or compiled")
    maker = Maker(
        step=captured,
        whole=_as_it_is,
        later=_as_it_is,
        making=lambda _: contextlib.nullcontext(),
        steps_are=Launching.REPLAYED,
        passes_are=Launching.ONE_BY_ONE,
    )
    return Static(model, maker)


def captured(step: Step, position: torch.Tensor) -> Step:
    """`step` as one replay of a CUDA graph; `position` is put back to 0 in between.

    Raises:
        EngineFailed: it cannot be captured.
    """
    warm_up(step, position)
    recording = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(recording, capture_error_mode=_ERRORS_OF):
            logits = step()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise EngineFailed(f"the decode step cannot be captured as a CUDA graph: {_first_line(error)}") from error
    position.zero_()

    def replay() -> torch.Tensor:
        recording.replay()
        return logits

    return replay


def warm_up(step: Step, position: torch.Tensor) -> None:
    """Run `step` a few times beside the main stream, as a capture wants it."""
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(_WARM_UP):
            position.zero_()
            step()
    torch.cuda.current_stream().wait_stream(aside)
    torch.cuda.synchronize()
    position.zero_()


def _as_it_is(plain: Pass) -> Pass:
    return plain


def _first_line(error: Exception) -> str:
    said = str(error).strip()
    return said.splitlines()[0] if said else type(error).__name__
