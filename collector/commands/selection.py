"""What `compare` and `report` share: which trials they are about, and the comparison of these."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from collector import reference
from collector.bills import Price
from collector.by_condition import By, ByCondition
from collector.comparison import Comparison
from collector.machine_ceilings import with_ceilings
from collector.pairing import Across
from collector.reference import Reference
from collector.store import Store, TrialQuery, open_store
from collector.stored import StoredTrial
from phasewatt.errors import ConfigInvalid
from phasewatt.traces import Trace

_MOST_PRICE = 1e9
_LONGEST_CURRENCY = 12
_NO_REFERENCE = Reference((), {})
_REMEDY = "measure the same suite under another condition or on another device"


class Selection(NamedTuple):
    """A comparison with the trials that it is made of, and where their traces are."""

    comparison: Comparison
    trials: tuple[StoredTrial, ...]
    known: tuple[StoredTrial, ...]  # of every suite: what else is known of the same devices
    store: Store
    shipped: Reference

    def traces(self, ids: Sequence[str]) -> list[Trace]:
        """The traces with these record ids, in that order; lost ones are left out."""
        return self.store.traces(ids) or self.shipped.traces(ids)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which trials, beside what, and what may differ."""
    parser.add_argument("--baseline", metavar="GROUP", help="a group's label, the beginning of one, or a device")
    parser.add_argument(
        "--across",
        choices=[across.value for across in Across],
        help="compare the same task where this differs, instead of the same work",
    )
    parser.add_argument(
        "--unlike-scopes",
        action="store_true",
        help="where two groups have no power scope in common, compare the nearest ones, and say so",
    )
    parser.add_argument(
        "--by",
        choices=[by.value for by in By],
        help="of each device, the same work under each value of this condition, all else being equal",
    )
    parser.add_argument("--price-kwh", type=float, metavar="X", help="with --by: what a kilowatt-hour costs")
    parser.add_argument("--currency", metavar="NAME", help="of --price-kwh, such as EUR")
    parser.add_argument("--suite", help="trials of this suite only")
    parser.add_argument(
        "--device", nargs="+", action="extend", metavar="DEVICE", help="these devices only, references included"
    )
    parser.add_argument("--no-reference", action="store_true", help="leave out the trials that come with phasewatt")


def selected_by(args: argparse.Namespace) -> ByCondition:
    """The comparison by one condition that the options ask for.

    Raises:
        ConfigInvalid: nothing to compare, no such baseline, or options that do not go together.
        StoreUnavailable: no such database.
    """
    from collector.by_condition import compare_by

    if args.across or args.unlike_scopes:
        raise ConfigInvalid("--by: expected without --across and --unlike-scopes; --by dtype compares precisions")
    price = price_of(args)
    with contextlib.closing(open_store(args.db)) as store:
        stored = _wanted(store.trials(TrialQuery(suite=args.suite)), args.device)
        if not stored:
            raise ConfigInvalid(_no_trials(store, args))
        return compare_by(stored, By(args.by), args.baseline, price)


def price_of(args: argparse.Namespace) -> Price | None:
    """The price that the options state.

    Raises:
        ConfigInvalid: half of it, or an impossible one.
    """
    if args.price_kwh is None and args.currency is None:
        return None
    if args.by is None:
        raise ConfigInvalid("--price-kwh, --currency: expected beside --by")
    if args.price_kwh is None or not args.currency:
        raise ConfigInvalid("--price-kwh, --currency: expected both, such as --price-kwh 0.30 --currency EUR")
    if not 0 < args.price_kwh < _MOST_PRICE:
        raise ConfigInvalid(f"--price-kwh: expected a price above 0 and below {_MOST_PRICE:g}, got {args.price_kwh:g}")
    if len(args.currency) > _LONGEST_CURRENCY or not args.currency.isprintable():
        raise ConfigInvalid(f"--currency: expected up to {_LONGEST_CURRENCY} letters, got {args.currency[:40]!r}")
    return Price(per_kwh=args.price_kwh, currency=args.currency)


@contextlib.contextmanager
def selected(args: argparse.Namespace) -> Iterator[Selection]:
    """The comparison that the options ask for.

    Raises:
        ConfigInvalid: nothing to compare, or no such baseline.
        StoreUnavailable: no such database.
    """
    from collector.compare import compare

    with contextlib.closing(open_store(args.db)) as store:
        shipped = _NO_REFERENCE if args.no_reference else reference.load()
        stored = _wanted(store.trials(TrialQuery(suite=args.suite)), args.device)
        if not stored:
            raise ConfigInvalid(_no_trials(store, args))
        every = _wanted(store.trials(TrialQuery()), args.device) if args.suite else stored
        ceilings = with_ceilings(every) if args.suite else []  # they are of a suite of their own
        theirs = _wanted(shipped.trials, args.device)
        trials = (*stored, *ceilings, *theirs)
        across = Across(args.across) if args.across else None
        comparison = compare(trials, args.baseline, across, args.unlike_scopes)
        if not comparison.works:
            raise ConfigInvalid(_nothing(comparison))
        yield Selection(comparison, trials, (*every, *theirs), store, shipped)


def trial_named(trials: Sequence[StoredTrial], beginning: str, option: str) -> StoredTrial:
    """The trial whose record id begins so; `option` is what messages call the question.

    Raises:
        ConfigInvalid: there is none, or there are several.
    """
    named = [stored for stored in trials if stored.record_id.startswith(beginning)]
    if len(named) != 1:
        raise ConfigInvalid(f"{option}: expected the id of one trial, {beginning!r} names {len(named)}")
    return named[0]


def _wanted(trials: Sequence[StoredTrial], devices: Sequence[str] | None) -> list[StoredTrial]:
    return [stored for stored in trials if devices is None or stored.trial.device in devices]


def _no_trials(store: Store, args: argparse.Namespace) -> str:
    asked = {"--suite": args.suite, "--device": ", ".join(args.device or ())}
    options = " ".join(f"{name} {value}" for name, value in asked.items() if value)
    if options:
        return f"no trial in {store.name} matches {options}; `phasewatt-collector trials` lists what there is"
    return f"no trials in {store.name} yet; run `phasewatt-agent run smoke` beside a collector, or import an export"


def _nothing(comparison: Comparison) -> str:
    first = comparison.refused[0]
    return f"nothing to compare: no two groups did the same work ({first.device}: {first.reason}); {_REMEDY}"
