"""Mode `compiled`: prefill and decode step compiled by torch.compile; on a GPU the step is replayed from a CUDA graph.

Inductor's own graphs are not used: they check and copy their inputs at each call, and the step has nothing but buffers
that stay where they are. Its own fall back to uncompiled code is shut: a graph break or a shape too many is an error.
"""

from __future__ import annotations

import importlib.util
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch._inductor.config

from agent import out_of_memory
from agent.engines.transformers_graph import captured
from agent.engines.transformers_modes import Launching
from agent.engines.transformers_static import Maker, Pass, Static, Step
from phasewatt.errors import DoesNotFit, EngineFailed

_FOR_LAUNCHERS = ("gcc", "clang", "cc")  # with one of them Triton builds what launches its kernels
# A product with one row becomes a sum that is joined with its neighbours and tuned for the shape; see docs/engines.md.
_STEP_ON_GPU: dict[str, Any] = {"coordinate_descent_tuning": True}


def compiled(model: Any) -> Static:
    """The mode.

    Raises:
        EngineFailed: this host has nothing to compile with.
    """
    on_gpu = model.device.type == "cuda"
    if missing := _missing(on_gpu):
        raise EngineFailed(f"mode compiled needs {missing}; choose eager" + (" or graph" if on_gpu else ""))
    step = _step_on_gpu if on_gpu else _step_on_cpu
    maker = Maker(
        step=step,
        whole=_whole,
        later=_later,
        making=making,
        steps_are=Launching.FUSED,
        passes_are=Launching.FUSED,
    )
    return Static(model, maker)


@contextmanager
def making(what: str) -> Iterator[None]:
    """Around the first run of what is compiled.

    Raises:
        EngineFailed: it cannot be compiled.
        DoesNotFit: memory was the cause.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice on settings that the user chose, such as TF32
            yield
    except EngineFailed:
        raise
    except Exception as error:  # the stages of a compiler have no common root
        said = str(error).strip() or "no message"
        if sign := out_of_memory.sign_in(said):
            raise DoesNotFit(out_of_memory.reason_here(sign)) from error
        reason = f"{type(error).__name__}: {said.splitlines()[0]}"
        raise EngineFailed(f"mode compiled: the {what} cannot be compiled: {reason}") from error


def _missing(on_gpu: bool) -> str | None:
    """What the host lacks, in words."""
    if on_gpu and importlib.util.find_spec("triton") is None:
        return "Triton, and this build of torch has none"
    compilers = _FOR_LAUNCHERS if on_gpu else tuple(name for name in torch._inductor.config.cpp.cxx if name)
    if not any(map(shutil.which, compilers)):
        return f"a C++ compiler, and none of {', '.join(compilers)} is on the PATH (Debian: apt-get install g++)"
    return None


def _step_on_cpu(step: Step, position: torch.Tensor) -> Step:
    torch._dynamo.reset()  # of the shape before; its code would count towards the limit of recompilations
    made = torch.compile(step, fullgraph=True, dynamic=False)
    with making("decode step"):
        made()
    position.zero_()
    return made


def _step_on_gpu(step: Step, position: torch.Tensor) -> Step:
    torch._dynamo.reset()
    made = torch.compile(step, fullgraph=True, dynamic=False, options=_STEP_ON_GPU)
    with making("decode step"):
        made()
        position.zero_()
        return captured(made, position)


def _whole(plain: Pass) -> Pass:
    return torch.compile(plain, fullgraph=True, dynamic=False)


def _later(plain: Pass) -> Pass:
    """One compilation for all later chunks, wherever they stand in the cache."""
    return torch.compile(plain, fullgraph=True, dynamic=True)
