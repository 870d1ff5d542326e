"""What a job may ask of this board: the allow-list of its own configuration, and the suite that comes of an order.

Nothing is allowed until the board's operator names it. A job carries names and numbers, and they choose among what
this board has: no path, URL or command of a sender is ever looked at.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from agent import cells, models
from agent.cells import Cell, Suite
from phasewatt import roofline
from phasewatt.errors import ConfigInvalid, PhasewattError
from phasewatt.jobs import LONGEST_S, Order, Seconds

PARAMETERS = frozenset(
    (
        *("model", "weights", "dtype", "engine", "mode", "attention", "accelerator"),
        *("batch", "threads", "prompt_tokens", "output_tokens", "prompt_seed", "phases"),
        *("quantization", "tf32", "fused_weights", "prefill_chunk", "experts", "tensor_parallel"),
    )
)
_OWN_WEIGHTS = "random:"


class JobRefused(PhasewattError):
    """A job that this board does not take, and why."""


class JobRules(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table `[jobs]` of agent.toml."""

    suites: tuple[str, ...] = ()  # shipped ones by name, own ones by the path of their .toml; none: no job is taken
    models: tuple[str, ...] | None = None  # that a job may choose; None: those that the suite names itself
    engines: tuple[str, ...] | None = None  # likewise
    most_cells: Annotated[int, Meta(ge=1, le=cells.MAX_CELLS)] = 100
    most_queued: Annotated[int, Meta(ge=1, le=64)] = 16
    longest_s: Seconds = 6 * 3600.0  # of running time; a job may ask for less
    most_restarts: Annotated[int, Meta(ge=0, le=1000)] = 5  # within one cell, before the job is given up
    unsynchronised_clock: bool = False  # take jobs although the wall clock is not set
    clock_wait_s: Annotated[float, Meta(ge=0, le=LONGEST_S)] = 600.0  # for it to be set, before a job is refused

    def timeout_s(self, order: Order) -> float:
        """How long a job may run."""
        return min(order.timeout_s or self.longest_s, self.longest_s)


def suite_for(order: Order, rules: JobRules, memory_bytes: int) -> Suite:
    """The suite that `order` asks for, with its parameters in every cell.

    Raises:
        JobRefused: this board does not allow it, a value is wrong, or a model does not fit its memory.
    """
    where = _allowed_suite(order.suite, rules)
    if unknown := sorted(order.parameters.keys() - PARAMETERS):
        raise JobRefused(f"parameters.{unknown[0]}: no parameter of a job; expected one of {_listed(PARAMETERS)}")
    try:
        own = cells.load(where, {})
        wanted = {name: list(value) if isinstance(value, tuple) else value for name, value in order.parameters.items()}
        suite = cells.load(where, wanted)
    except ConfigInvalid as error:
        raise JobRefused(str(error)) from error
    _check(suite, own, rules)
    if "weights" in order.parameters:
        _check_weights(suite)
    for cell in suite.cells:
        _check_fit(cell, memory_bytes)
    return suite


def _allowed_suite(name: str, rules: JobRules) -> str:
    """The name or path by which a suite of the allow-list is loaded."""
    for allowed in rules.suites:
        if name == (Path(allowed).stem if allowed.endswith(".toml") else allowed):
            return allowed
    known = _listed(Path(allowed).stem if allowed.endswith(".toml") else allowed for allowed in rules.suites)
    raise JobRefused(f"suite {name!r} is not allowed on this board; its agent.toml allows, in jobs.suites: {known}")


def _check(suite: Suite, own: Suite, rules: JobRules) -> None:
    turns = len(suite.cells) * suite.measure.repeats
    if turns > rules.most_cells:
        raise JobRefused(f"{turns} cells, more than the {rules.most_cells} of jobs.most_cells on this board")
    for field in ("model", "engine"):
        listed = getattr(rules, f"{field}s")
        allowed = {getattr(cell, field) for cell in own.cells} if listed is None else set(listed)
        for value in (getattr(cell, field) for cell in suite.cells):
            if value not in allowed:
                raise JobRefused(
                    f"{field} {value!r} is not allowed on this board; its agent.toml allows, in jobs.{field}s: "
                    f"{_listed(allowed)}"
                )


def _check_weights(suite: Suite) -> None:
    for cell in suite.cells:
        if not cell.weights.startswith(_OWN_WEIGHTS) or not cell.weights.removeprefix(_OWN_WEIGHTS).isdecimal():
            raise JobRefused(f"weights {cell.weights!r}: a job may ask for random:SEED alone")


def _check_fit(cell: Cell, memory_bytes: int) -> None:
    """Refuse what cannot fit whatever is free: by the weights alone, against all the memory that is here."""
    if not cell.weights.startswith(_OWN_WEIGHTS):
        return
    need_bytes = roofline.weight_bytes(models.named(cell.model), cell.dtype)
    if need_bytes > memory_bytes:
        raise JobRefused(
            f"model {cell.model!r} in {cell.dtype} does not fit: its weights take {need_bytes / 1e9:.1f} GB, and this "
            f"board has {memory_bytes / 1e9:.1f} GB"
        )


def _listed(names: object) -> str:
    return ", ".join(sorted(names)) or "none"  # type: ignore[call-overload]
