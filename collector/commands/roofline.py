"""`roofline`: where the time of each phase goes, by operator, and how far each is from what the machine can do."""

from __future__ import annotations

import argparse
import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

from collector import reference
from collector.commands import table
from collector.store import TrialQuery, open_store
from collector.stored import StoredTrial
from collector.whole_file import draft_of
from phasewatt.errors import ConfigInvalid

if TYPE_CHECKING:
    from collector.rooflines import Rooflines

_HTML = frozenset({".html", ".htm"})
_NOTHING = "no trial here has an operator profile; `phasewatt-agent run phases` makes one of each phase"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whose trials, and in which form."""
    for name in ("device", "suite", "model", "engine"):
        parser.add_argument(f"--{name}", help=f"trials of this {name} only")
    parser.add_argument("--reference", action="store_true", help="the trials that come with phasewatt instead")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write a page with pictures there, .html")


def run(args: argparse.Namespace) -> int:
    """Print every profiled trial, the newest of each group and piece of work.

    Raises:
        ConfigInvalid: no trial has a profile, or --out does not fit.
    """
    if args.out is not None and (args.json or args.out.suffix.lower() not in _HTML):
        raise ConfigInvalid(f"--out: expected a name that ends in .html, without --json, got {str(args.out)!r}")
    found = _found(args)
    if args.json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(found)).decode())
        return 0
    if not found.trials:
        raise ConfigInvalid(_NOTHING)
    if args.out is not None:
        _write(args.out, found)
        return 0
    _show(found)
    return 0


def _found(args: argparse.Namespace) -> Rooflines:
    """Ceilings are of a device, and not of the suite or model that is asked for."""
    from collector.rooflines import rooflines  # brings numpy

    query = TrialQuery(device=args.device, suite=args.suite, model=args.model, engine=args.engine)
    everywhere = TrialQuery(device=args.device)
    if args.reference:
        shipped = reference.load()
        return rooflines(shipped.matching(query), shipped.matching(everywhere))
    with contextlib.closing(open_store(args.db)) as store:
        trials: list[StoredTrial] = store.trials(query)
        return rooflines(trials, store.trials(everywhere))


def _show(found: Rooflines) -> None:
    from collector.report import roofline_words

    for index, trial in enumerate(found.trials):
        if index:
            print("\n")
        table.show_part(roofline_words.part(trial))
    for line in roofline_words.absent(found):
        print(f"\nnot profiled: {line}")


def _write(path: Path, found: Rooflines) -> None:
    from collector.report import roofline_page

    with draft_of(path) as draft:
        draft.write_text(roofline_page.render(found, time.time()), encoding="utf-8")
    print(f"{path}: {len(found.trials)} profiled trial{'s' if len(found.trials) != 1 else ''}")
