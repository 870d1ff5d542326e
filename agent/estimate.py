"""About how long a cell takes, from its FLOPs and bytes and a rough idea of the hardware. For planning alone. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from agent.cells import Cell, Measure
from phasewatt import roofline
from phasewatt.fields import Phase
from phasewatt.work import Architecture, Task

_LOOK_S = 1.0  # who else uses the host; the prompt
_SAMPLER_S = 2.0  # its start, and the brackets around idling
_AROUND_WINDOW_S = 1.0  # the sensor's last updates
_LENGTHENED = 1.5  # windows are measured again, longer, until their energy is sure
_PROFILER = 3.0  # a profiled repetition, over a plain one
OPERATOR_STEPS = 8  # of a decode repetition whose operators are profiled, from the middle of the phase's depths
_OPERATORS, _OPERATORS_S = 4.0, 1.0  # profiled twice, with ranges slower; reading the trace
# Source: llama-3-8b cut to 3 layers, 302 kernels of a prefill and a decode step on an H100: 114 s with its start.
_COUNTERS_S = 115.0
_START_S = 10.0  # of the engine's process


class Rates(NamedTuple):
    """What a host may do, within a factor of two or three."""

    flop_per_s: float
    read_bytes_per_s: float
    eager_layer_s: float  # host time that launching one layer takes, where the device is quicker than that
    load_bytes_per_s: float
    about: str


# Source: for servers, eager Llama-3-8B on an H200: prefill of 2,048 tokens in 60 ms, 32 layers launched in 22.5 ms;
# a captured decode step in 8.2 ms for 16 GB. For a Jetson, Llama-3.2-1B on an AGX Orin: TTFT 50 ms, 26 token/s.
# For CPUs, SmolLM2-135M on two cores of a shared server.
SERVER = Rates(450e12, 2.0e12, 0.7e-3, 0.25e9, "a data-centre GPU such as an H200")
SLOW_HOST = SERVER._replace(eager_layer_s=2.5e-3, about="an H200 whose host CPU is slow to launch kernels")
RATES: Mapping[str, Rates] = {
    "cuda": SERVER,
    "jetson": Rates(10e12, 90e9, 1.5e-3, 0.1e9, "a Jetson AGX Orin"),
    "cpu": Rates(60e9, 8e9, 0.3e-3, 0.25e9, "two cores of a server"),
}


def phase_s(shape: Architecture, cell: Cell, phase: Phase, decode_steps: int, rates: Rates) -> float:
    """One repetition of `phase`."""
    task = task_of(shape, cell)
    prompt, output = cell.prompt_tokens, cell.output_tokens
    if phase is Phase.REQUEST:
        once_s = phase_s(shape, cell, Phase.PREFILL, decode_steps, rates)
        return once_s + _passes_s(task, cell, Phase.DECODE, (prompt, prompt + output - 1), rates)
    if phase is Phase.PREFILL:
        return _passes_s(task, cell, phase, (0, prompt), rates)
    return _passes_s(task, cell, phase, (prompt, prompt + min(decode_steps, output - 1)), rates)


def cell_s(shape: Architecture, cell: Cell, measure: Measure, rates: Rates, metered: bool) -> float:
    """One trial of `cell` on a loaded model."""
    profiled = 0.0 if rates is RATES["cpu"] else measure.profile_repetitions * _PROFILER
    total_s = _LOOK_S + (measure.idle_s + _SAMPLER_S if metered else 0.0) + _counters_s(cell, measure, rates)
    for phase in cell.measured:
        once_s = phase_s(shape, cell, phase, measure.decode_steps, rates)
        total_s += _warm_up_s(measure, once_s) + _window_s(measure, once_s, metered)
        if phase is not Phase.REQUEST:
            total_s += profiled * once_s + (_operators_s(cell, phase, measure, once_s) if measure.operators else 0.0)
    return total_s


def longest_s(cell: Cell, measure: Measure) -> float:
    """A trial whose phases all run to their limits: where the architecture is not known before it is loaded."""
    return _LOOK_S + measure.idle_s + len(cell.measured) * (measure.warmup_limit_s + measure.limit_s)


def load_s(shape: Architecture | None, cell: Cell, rates: Rates) -> float:
    """Starting the engine and bringing the weights into memory."""
    size = roofline.weight_bytes(shape, cell.dtype) if shape is not None else 0
    return _START_S + size / rates.load_bytes_per_s


def _passes_s(task: Task, cell: Cell, phase: Phase, depths: tuple[int, int], rates: Rates) -> float:
    passes = depths[1] - depths[0] if phase is Phase.DECODE else 1
    launch_s = passes * task.architecture.layers * rates.eager_layer_s if cell.mode == "eager" else 0.0
    compute_s = roofline.phase_flops(task, phase, *depths) / rates.flop_per_s
    read_s = roofline.phase_bytes(task, cell.dtype, phase, *depths) / rates.read_bytes_per_s
    return max(launch_s, max(compute_s, read_s) / cell.tensor_parallel)


def _operators_s(cell: Cell, phase: Phase, measure: Measure, once_s: float) -> float:
    """The operator pass, two plain repetitions before it included."""
    if phase is Phase.DECODE:
        steps = min(measure.decode_steps, cell.output_tokens - 1)
        once_s *= min(OPERATOR_STEPS, steps) / steps
    return (2 + measure.profile_repetitions * _OPERATORS) * once_s + _OPERATORS_S


def _counters_s(cell: Cell, measure: Measure, rates: Rates) -> float:
    """The pass by ncu, where there is one: it starts once, whatever is counted."""
    counted = measure.counters and cell.engine == "transformers" and rates is not RATES["cpu"]
    return _COUNTERS_S if counted and cell.measured != (Phase.REQUEST,) else 0.0


def _warm_up_s(measure: Measure, once_s: float) -> float:
    """Two stretches at least, unless the time for warming up ends them; one repetition always."""
    return max(once_s, min(2 * measure.repetitions * once_s, measure.warmup_limit_s))


def _window_s(measure: Measure, once_s: float, metered: bool) -> float:
    asked_s = measure.window_s if metered else measure.unmetered_window_s
    window_s = max(once_s, min(max(asked_s, measure.repetitions * once_s), measure.limit_s))
    return window_s * _LENGTHENED + _AROUND_WINDOW_S if metered and window_s < measure.longest_window_s else window_s


def task_of(shape: Architecture, cell: Cell) -> Task:
    """What the cell asks of a model of that shape; its prompt is not drawn for an estimate."""
    return Task(
        architecture=shape,
        batch=cell.batch,
        prompt_tokens=cell.prompt_tokens,
        prompt_digest="",
        output_tokens=cell.output_tokens,
    )
