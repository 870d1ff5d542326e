"""`course`: how a sustained trial went over time: tokens a second, power, temperature, clock, throttling."""

from __future__ import annotations

import argparse
import contextlib
import time
from pathlib import Path

import msgspec

from collector.commands import table
from collector.commands.selection import trial_named
from collector.conditions import printable
from collector.store import Store, TrialQuery, open_store
from collector.stored import StoredTrial
from collector.whole_file import draft_of
from phasewatt import course
from phasewatt.course import Stretch
from phasewatt.errors import ConfigInvalid
from phasewatt.fields import Outcome, Phase

_HEADERS = ("FROM s", "TO s", "token/s", "POWER W", "TEMPERATURE °C", "CLOCK GHz", "HELD BACK")
_PARTS = 10
_MOST_PARTS = 200
_HTML = frozenset({".html", ".htm"})


class PhaseCourse(msgspec.Struct, frozen=True):
    """One phase, stretch by stretch."""

    phase: Phase
    stretches: tuple[Stretch, ...]


class TrialCourse(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer in JSON, as docs/json.md describes it."""

    schema: str = "course/0"
    record_id: str
    device: str
    cell: str
    simulated: bool
    phases: tuple[PhaseCourse, ...]
    summary: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which trial."""
    parser.add_argument("trial", nargs="?", metavar="RECORD_ID", help="or its beginning; none: the newest that has one")
    parser.add_argument("--device", help="of this device only")
    parser.add_argument("--suite", help="of this suite only")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write a page with pictures there, .html")
    parser.add_argument("--parts", type=int, default=_PARTS, metavar="N", help="stretches (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Print the course of one trial."""
    if not 2 <= args.parts <= _MOST_PARTS:
        raise ConfigInvalid(f"--parts: expected 2 to {_MOST_PARTS}, got {args.parts}")
    if args.out is not None and (args.json or args.out.suffix.lower() not in _HTML):
        raise ConfigInvalid(f"--out: expected a name that ends in .html, without --json, got {str(args.out)!r}")
    with contextlib.closing(open_store(args.db)) as store:
        stored = _chosen(store, args)
        found = _course(stored, store, args.parts)
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(found)).decode())
        return 0
    title = printable(f"{found.device}: {found.cell}{' (simulated)' if found.simulated else ''}")
    if args.out is not None:
        _write(args.out, title, found)
        return 0
    print(title)
    for phase in found.phases:
        print(f"\n{phase.phase.value}")
        table.show(_HEADERS, map(_row, phase.stretches), "no stretch")
    print("".join(f"\n{line}" for line in found.summary))
    return 0


def _write(path: Path, title: str, found: TrialCourse) -> None:
    from collector.report import course_page

    phases = [(each.phase.value, each.stretches) for each in found.phases]
    with draft_of(path) as draft:
        draft.write_text(course_page.render(title, phases, found.summary, time.time()), encoding="utf-8")
    print(f"{path}: {title}")


def _chosen(store: Store, args: argparse.Namespace) -> StoredTrial:
    trials = store.trials(TrialQuery(device=args.device, suite=args.suite, outcome=Outcome.OK))
    if args.trial:
        return trial_named(trials, args.trial, "course")
    watched = [stored for stored in trials if stored.trial.course is not None]
    if not watched:
        raise ConfigInvalid("course: no trial was watched over time; run `phasewatt-agent run sustained`")
    return max(watched, key=lambda stored: stored.trial.started_unix_s)


def _course(stored: StoredTrial, store: Store, parts: int) -> TrialCourse:
    trial, traces = stored.trial, store.traces(stored.trial.traces)
    phases = [run.phase for run in trial.runs if run.phase is not Phase.IDLE]
    return TrialCourse(
        record_id=stored.record_id,
        device=trial.device,
        cell=trial.cell,
        simulated=trial.conditions.simulated,
        phases=tuple(PhaseCourse(phase, course.course_of(trial, phase, traces, parts)) for phase in phases),
        summary=tuple(course.in_words(trial, traces)),
    )


def _row(stretch: Stretch) -> tuple[object, ...]:
    return (
        f"{stretch.start_s:.0f}",
        f"{stretch.end_s:.0f}",
        f"{stretch.tokens_per_s:.4g}",
        None if stretch.power_w is None else f"{stretch.power_w:.1f}",
        None if stretch.temperature_c is None else f"{stretch.temperature_c:.0f}",
        None if stretch.clock_hz is None else f"{stretch.clock_hz * 1e-9:.2f}",
        None if stretch.throttled is None else "yes" if stretch.throttled else "no",
    )
