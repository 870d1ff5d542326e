"""One pass: ncu started on the workload, waited for, and its report read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from agent.counters import tool as ncu
from agent.counters.profile import Circumstances, depths_of, profiles, without
from agent.counters.ranges import range_names
from agent.counters.report import PERMISSION, Report, parse
from agent.counters.tool import Tool
from agent.counters.workload import Counted, CountOrder, Failed
from agent.jetson import leash
from agent.orders import Load, Prompt
from agent.stopping import Stop
from phasewatt import counter_metrics
from phasewatt.fields import Phase
from phasewatt.profiles import CounterProfile
from phasewatt.stall_words import NO_SUCH
from phasewatt.work import Architecture

LAYERS = 3  # of a model that are counted, since every kernel is run a dozen times
LIMIT_S = 300.0
PHASES = (Phase.PREFILL, Phase.DECODE)
_MODE = "eager"  # whose kernels are launched one by one, each within the range of its operator
_POLL_S = 0.05
_LONGEST_WORDS = 300
_TIMED_OUT = "ncu did not end"
_REFUSED = "ncu refused the whole list that it was in, and was asked for less"
# What every GPU from 8.0 on should have, and what was counted on 9.0: for a tool that refuses a list without saying
# what it does not know.
_COMMON = frozenset(
    metric.name
    for metric in counter_metrics.METRICS.values()
    if metric.since <= (8, 0)
    and not counter_metrics.is_pipe(metric.name)
    and metric.name != counter_metrics.OCCUPANCY_LIMIT
)
_PROVEN = frozenset(
    {
        *(counter_metrics.TIME, counter_metrics.DRAM_BUSY, counter_metrics.SM_BUSY, counter_metrics.L2_HITS),
        *(stall.metric for stall in counter_metrics.STALLS if stall.reason in {"barrier", "long_scoreboard", "wait"}),
    }
)

Start = Callable[[list[str], Path], "subprocess.Popen[bytes]"]


class Workload(NamedTuple):
    """What is counted: a model as `Load` brings it, cut to a few layers, and a prompt."""

    load: Load
    prompt: Prompt
    layers: int | None = LAYERS  # None: all


class Outcome(NamedTuple):
    """What came of a pass."""

    profiles: tuple[CounterProfile, ...]
    counted: Counted | None  # None: the workload did not get to its end
    text: str  # of the report


def cut(shape: Architecture, layers: int | None) -> Architecture:
    """`shape` with at most so many layers."""
    return shape if layers is None or layers >= shape.layers else msgspec.structs.replace(shape, layers=layers)


class _Pass(NamedTuple):
    """One run of ncu."""

    report: Report
    text: str
    answer: Counted | Failed | None
    failure: str | None  # ncu did not end well

    @property
    def is_refused(self) -> bool:
        """Whether this user may not count."""
        return any(PERMISSION in problem for problem in self.report.problems)

    @property
    def may_go_with_fewer(self) -> bool:
        """Whether the list of counters may have been the cause that there is nothing."""
        timed_out = self.failure is not None and self.failure.startswith(_TIMED_OUT)
        return not (self.report.kernels or self.is_refused or timed_out or isinstance(self.answer, Failed))

    @property
    def reason(self) -> str:
        """Why there is nothing, with the remedy where there is one."""
        if isinstance(self.answer, Failed):
            return f"the workload failed: {self.answer.message}"
        said = "; ".join(dict.fromkeys(filter(None, (*self.report.problems, self.failure))))
        return f"{said}; {ncu.REMEDY}" if self.is_refused else said


class Counting:
    """Passes by one ncu."""

    def __init__(
        self,
        tool: Tool,
        stop: Stop,
        limit_s: float = LIMIT_S,
        capability: str | None = None,
        start: Start | None = None,
        ask: ncu.Ask | None = None,
    ) -> None:
        """`capability` is the GPU's compute capability; None: not known before."""
        self._tool = tool
        self._stop = stop
        self._limit_s = limit_s
        self._capability = capability
        self._start = start or started
        self._ask = ask
        self._lacking: Mapping[str, str] | None = None  # counters that cannot be had here, and why

    def count(self, workload: Workload) -> Outcome:
        """Counters of both phases of `workload`, or why there are none.

        Raises:
            Stopped: asked to end.
        """
        asked = counter_metrics.asked(counter_metrics.capability_of(self._capability) or (9, 0))
        if self._lacking is None:
            self._lacking = dict.fromkeys(sorted(ncu.unknown_to(self._tool, asked, self._ask)), NO_SUCH)
        return self._tried(workload, tuple(name for name in asked if name not in self._lacking), self._lacking)

    def _tried(self, workload: Workload, names: tuple[str, ...], lacking: Mapping[str, str]) -> Outcome:
        """A pass, and another one with fewer counters where ncu would not count them all."""
        done = self._pass(workload, names)
        known = self._circumstances(workload, names, lacking)
        counted = done.answer if isinstance(done.answer, Counted) else None
        if done.report.kernels:
            notes = (*known.notes, *([done.failure] if done.failure else []))
            return Outcome(profiles(done.report, known._replace(notes=notes)), counted, done.text)
        if done.may_go_with_fewer:
            fewer = _fewer(names, done.report.unknown)
            if fewer:
                why = NO_SUCH if done.report.unknown else _REFUSED
                self._lacking = {**lacking, **{name: why for name in names if name not in fewer}}
                return self._tried(workload, fewer, self._lacking)
        return Outcome(without(PHASES, known, done.reason), counted, done.text)

    def _pass(self, workload: Workload, names: Iterable[str]) -> _Pass:
        with tempfile.TemporaryDirectory(prefix="phasewatt-ncu-") as folder:
            log, answer, words = (Path(folder, name) for name in ("report.csv", "answer.json", "words"))
            shape = cut(workload.load.architecture, workload.layers)
            load = msgspec.structs.replace(workload.load, architecture=shape, mode=_MODE)
            order = CountOrder(load=load, prompt=workload.prompt, answer=str(answer))
            failure = self._waited(self._start(command(self._tool, names, log, order), words), words)
            text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
            answered = msgspec.json.decode(answer.read_bytes(), type=Counted | Failed) if answer.exists() else None
        return _Pass(parse(text), text, answered, failure)

    def _waited(self, child: subprocess.Popen[bytes], words: Path) -> str | None:
        """Wait for the end; why it failed, or None."""
        deadline_s = time.monotonic() + self._limit_s
        try:
            while child.poll() is None:
                self._stop.pause(_POLL_S)
                if time.monotonic() > deadline_s:
                    return f"{_TIMED_OUT} within {self._limit_s:.0f} s, and was ended: take fewer layers"
        finally:
            _end(child)
        if child.returncode == 0:
            return None
        said = [line for line in words.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        return f"ncu ended with code {child.returncode}" + (f": {said[-1][:_LONGEST_WORDS]}" if said else "")

    def _circumstances(self, workload: Workload, names: tuple[str, ...], lacking: Mapping[str, str]) -> Circumstances:
        load, shape = workload.load, workload.load.architecture
        layers = cut(shape, workload.layers).layers
        notes = [f"{layers} of {shape.layers} layers were counted"] if layers < shape.layers else []
        notes += [f"in mode {_MODE}, and not {load.mode}"] if load.mode != _MODE else []
        return Circumstances(
            tool_version=self._tool.version,
            capability=self._capability,
            asked=names,
            depths=depths_of(workload.prompt.tokens),
            lacking=lacking,
            notes=tuple(notes),
        )


def command(tool: Tool, names: Iterable[str], log: Path, order: CountOrder) -> list[str]:
    """The command line of a pass.

    Clocks and caches are left as they are, or the figures would be of another machine and L2 would begin empty.
    Every range is named to the filter, so that it holds whether ncu looks at the innermost one or at any.
    """
    included = [part for name in range_names(PHASES) for part in ("--nvtx-include", f"{name}/")]
    return [
        *(str(tool.path), "--target-processes", "application-only", "--replay-mode", "kernel"),
        *("--clock-control", "none", "--cache-control", "none", "--nvtx", *included),
        *("--metrics", ",".join(names), "--csv", "--print-units", "base", "--log-file", str(log)),
        *(sys.executable, "-m", "agent.counters.workload", msgspec.json.encode(order).decode()),
    ]


def _fewer(names: tuple[str, ...], unknown: Iterable[str]) -> tuple[str, ...]:
    """`names` without those that are unknown, or the common or the proven alone where none is said to be.

    Empty: there is nothing to drop.
    """
    said = {counter_metrics.base_of(name) for name in unknown}
    if said:
        kept = [tuple(name for name in names if counter_metrics.base_of(name) not in said)]
    else:
        kept = [tuple(name for name in names if name in less) for less in (_COMMON, _PROVEN)]
    return next((fewer for fewer in kept if len(fewer) < len(names)), ())


def started(command: list[str], words: Path) -> subprocess.Popen[bytes]:
    """The command in a group of its own, on a leash; what it prints goes to a file."""
    leashed = [sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), *command]
    with words.open("wb") as output:
        return subprocess.Popen(
            leashed, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the group of a child that still runs."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
