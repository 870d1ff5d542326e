"""One device, one condition: the same work under each value of it, all else being equal. Pure.

The trials of a device fall into strata, within which every setting is the same but the condition asked for and those
that follow from it (a power mode sets clock limits). Each stratum with two values or more is a comparison of its own.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from collector.bills import Bill, Price, bills_of
from collector.comparison import Comparison
from collector.conditions import GroupKey, group_of, in_order
from collector.pairing import Across
from collector.stored import StoredTrial
from phasewatt.errors import ConfigInvalid
from phasewatt.fields import Outcome, Record

NOT_SET = "not stated"


class By(enum.Enum):
    """What may be compared by."""

    POWER_MODE = "power_mode"
    POWER_LIMIT = "power_limit"
    CLOCK = "clock"
    GOVERNOR = "governor"
    MODE = "mode"
    ATTENTION = "attention"
    TF32 = "tf32"
    THREADS = "threads"
    DTYPE = "dtype"


class Condition(NamedTuple):
    """The setting behind a `By`, those that follow from it, and what the same work may differ in for it."""

    setting: str
    follows: frozenset[str] = frozenset()
    across: Across | None = None


CONDITIONS: Mapping[By, Condition] = {
    By.POWER_MODE: Condition("power mode", frozenset({"locked clocks", "power limit", "governor"})),
    By.POWER_LIMIT: Condition("power limit"),
    By.CLOCK: Condition("locked clocks", frozenset({"governor"})),
    By.GOVERNOR: Condition("governor"),
    By.MODE: Condition("mode"),
    By.ATTENTION: Condition("attention"),
    By.TF32: Condition("TF32"),
    By.THREADS: Condition("threads"),
    By.DTYPE: Condition("dtype", frozenset({"weights digest", "TF32"}), Across.DTYPE),
}


class Stratum(Record, frozen=True):
    """One device with all else equal: a comparison whose groups are the values of the condition."""

    device: str
    values: tuple[str, ...]  # of the condition, in the order of the comparison's groups
    comparison: Comparison
    bills: tuple[tuple[Bill, ...], ...]  # of each of its works, in their order


class ByCondition(Record, frozen=True, kw_only=True):
    """Everything that is said of one condition. See docs/json.md."""

    schema: str = "compare-by/0"
    by: By
    heading: str
    price: Price | None
    strata: tuple[Stratum, ...]
    left_out: tuple[str, ...]  # devices and settings with one value of it alone


def compare_by(
    trials: Sequence[StoredTrial], by: By, baseline: str | None = None, price: Price | None = None
) -> ByCondition:
    """The trials of each device by one condition, `baseline` being one of its values.

    Raises:
        ConfigInvalid: no device has the same work under two values, or none has the baseline.
    """
    condition = CONDITIONS[by]
    strata: list[Stratum] = []
    left_out: list[str] = []
    for key, members in _strata(trials, condition).items():
        found = _stratum(members, condition, baseline, price)
        if found is None:
            left_out.append(_why_left_out(key, members, condition))
        else:
            strata.append(found)
    if not strata:
        raise ConfigInvalid(_nothing(by, left_out))
    if baseline is not None and not any(_is_value(baseline, s.values[0]) for s in strata):
        values = ", ".join(dict.fromkeys(value for stratum in strata for value in stratum.values))
        raise ConfigInvalid(f"--baseline: expected a value of {condition.setting} ({values}), got {baseline!r}")
    devices = dict.fromkeys(stratum.device for stratum in strata)
    return ByCondition(
        by=by,
        heading=f"By {condition.setting}: {', '.join(devices)}",
        price=price,
        strata=tuple(strata),
        left_out=tuple(dict.fromkeys(left_out)),
    )


def value_of(settings: Mapping[str, str | None], condition: Condition) -> str:
    """A group's value of the condition, in words."""
    return settings.get(condition.setting) or NOT_SET


def _strata(trials: Sequence[StoredTrial], condition: Condition) -> dict[GroupKey, list[StoredTrial]]:
    """Trials by what must be equal: device and settings, less the condition and what follows from it."""
    found: dict[GroupKey, list[StoredTrial]] = {}
    for stored in trials:
        if stored.origin != "reference" and stored.trial.work is not None:
            found.setdefault(_rest(_group(stored, condition), condition), []).append(stored)
    return {key: found[key] for key in in_order(found)}


def _group(stored: StoredTrial, condition: Condition) -> GroupKey:
    return group_of(stored, condition.across is not None)


def _rest(key: GroupKey, condition: Condition) -> GroupKey:
    free = condition.follows | {condition.setting}
    return key._replace(settings=tuple(setting for setting in key.settings if setting[0] not in free))


def _stratum(
    members: Sequence[StoredTrial], condition: Condition, baseline: str | None, price: Price | None
) -> Stratum | None:
    """The comparison of a stratum; None: no work was done under two values."""
    from collector.compare import compare  # brings numpy, which `--help` must not wait for

    first = compare(members, None, condition.across)
    if len({value_of(group.settings, condition) for group in first.groups}) < 2:
        return None
    wanted = [g.label for g in first.groups if baseline and _is_value(baseline, value_of(g.settings, condition))]
    made = compare(members, wanted[0], condition.across) if wanted else first
    values = tuple(value_of(group.settings, condition) for group in made.groups)
    return Stratum(
        device=made.groups[0].device,
        values=_told_apart(values),
        comparison=made,
        bills=tuple(bills_of(work, price) for work in made.works),
    )


def _told_apart(values: tuple[str, ...]) -> tuple[str, ...]:
    """The values; one that two groups have, for what follows from it differs, is numbered."""
    return tuple(
        value if values.count(value) == 1 else f"{value} ({values[: index + 1].count(value)})"
        for index, value in enumerate(values)
    )


def _is_value(asked: str, value: str) -> bool:
    return value == asked or value.lower().startswith(asked.lower())


def _why_left_out(key: GroupKey, members: Sequence[StoredTrial], condition: Condition) -> str:
    good = [stored for stored in members if stored.trial.outcome is Outcome.OK]
    if not good:
        return f"{key.device}: no trial that ended well"
    values = {value_of(dict(_group(stored, condition).settings), condition) for stored in good}
    if len(values) == 1:
        return f"{key.device}: {condition.setting} {values.pop()} alone"
    return f"{key.device}: no work was done under two values of {condition.setting} ({', '.join(sorted(values))})"


def _nothing(by: By, left_out: Sequence[str]) -> str:
    why = "; ".join(list(dict.fromkeys(left_out))[:4]) or "no trials"
    return (
        f"nothing to compare by {by.value}: no device did the same work under two values of it, all else being equal "
        f"({why}); run the same suite again under another"
    )
