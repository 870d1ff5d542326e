"""The boards as an operator sees them: how each is, what it still holds, what stands out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from collector import drift_words, enrolled, presence
from collector.conditions import printable
from collector.drift_words import Found
from collector.enrolled import Enrolled
from collector.live_figures import Sample, power_w, sample_of
from collector.stored import BatchClock, EpochCount, Life
from phasewatt import series
from phasewatt.jobs import State
from phasewatt.traces import Telemetry

if TYPE_CHECKING:
    from collector.store import DeviceRow, Refusals

DRIFT_TOLD_S = 30 * 86400.0  # a change of level stands among the remarks so long

When = Callable[[float], "str | None"]  # writes a time


class Outbox(msgspec.Struct, frozen=True):
    """What came of one outbox of a board, by its keys."""

    epoch: str
    high_water: int
    stored: int
    rejected: int
    withheld: int
    missing: int
    dropped: int | None
    removed: int
    first_unix_s: float
    last_unix_s: float


class Contender(msgspec.Struct, frozen=True):
    """One of several boards that answer to a name."""

    epoch: str
    boot_id: str
    session: str
    returned_unix_s: float | None


class Clock(msgspec.Struct, frozen=True):
    """What the last batch said of the board's clock."""

    synchronised: bool | None
    offset_bound_s: float | None
    sent_unix_s: float
    received_unix_s: float


class Refusal(msgspec.Struct, frozen=True):
    """What was put aside for one reason."""

    reason: str
    topic: str
    occurrences: int
    first_unix_s: float
    last_unix_s: float


class Device(msgspec.Struct, frozen=True):
    """One board."""

    device: str
    model: str | None
    module: str | None
    carrier: str | None
    presence: str | None
    first_seen_unix_s: float
    last_seen_unix_s: float | None
    trials: int
    pending: int | None
    dropped: dict[str, int] | None
    quarantined: int
    key_conflicts: int
    missing: int
    withheld: int
    silent_since_unix_s: float | None
    contenders: list[Contender]
    clock: Clock | None
    certificate_ends_unix_s: float | None  # of the newest that holds; None: it has none from here
    epochs: list[Outbox]
    remarks: list[str]
    refusals: list[Refusal]
    labels: tuple[str, ...] = ()
    telemetry_interval_s: float | None = None  # how often it sends at the latest; None: it does not say, or never

    @property
    def lost(self) -> int | None:
        """Rows of the outbox in use that did not come, less those given up; None: the board does not count those."""
        if self.dropped is None or not self.epochs or self.epochs[0].dropped is None:
            return None
        return max(0, self.epochs[0].missing - self.epochs[0].dropped)


class Devices(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer in JSON, as docs/json.md describes it."""

    schema: str = "devices/0"
    devices: list[Device]
    refusals: list[Refusal]  # of messages that named no device


class Shown(NamedTuple):
    """What the newest telemetry of a board showed: its last row, by the board's clock, and power by scope in W."""

    sample: Sample
    power_w: Mapping[str, float | None]
    unix_s: float


class Fleet(NamedTuple):
    """All that the store knows of the boards at one moment."""

    devices: Devices
    shown: Mapping[str, Shown]  # of boards whose telemetry is recent
    certificate_ends_unix_s: Mapping[str, float]  # of the newest that was given and not revoked, over or not
    revoked: frozenset[str]
    changed: Mapping[str, int]  # series whose level changed in the last DRIFT_TOLD_S
    jobs: Mapping[State, int]


def devices_of(
    rows: Sequence[DeviceRow],
    refusals: Sequence[Refusals],
    found: Sequence[Found],
    known: Enrolled,
    now_unix_s: float,
    when: When,
) -> Devices:
    """All of it, from what the store holds and the authority gave out; `when` writes a time."""
    changed: dict[str, list[str]] = {}
    for each in found:
        changed.setdefault(each.device, []).append(drift_words.sentence(each))
    by_device = _by_device(refusals)
    devices = [
        _device(row, known, now_unix_s, by_device.get(row.device, []), changed.get(row.device, ()), when)
        for row in rows
    ]
    return Devices(devices=devices, refusals=by_device.get("", []))


def shown_of(telemetry: Telemetry) -> Shown | None:
    """The last row of a record; None: it has none."""
    sample = sample_of(telemetry)
    if sample is None:
        return None
    began_s = series.unpack_times(telemetry.time)[0] * 1e-9
    unix_s = telemetry.started_unix_s + sample.time_s - began_s
    return Shown(sample, power_w(sample, sample_of(telemetry, before_last=1)), unix_s)


def outbox_of(count: EpochCount) -> Outbox:
    """An outbox as it is shown."""
    fields = {field: getattr(count, field) for field in Outbox.__struct_fields__}
    return Outbox(**fields)


def _by_device(found: Sequence[Refusals]) -> dict[str, list[Refusal]]:
    by_device: dict[str, list[Refusal]] = {}
    for each in found:
        refusal = Refusal(**{field: getattr(each, field) for field in Refusal.__struct_fields__})
        by_device.setdefault(each.device, []).append(refusal)
    return by_device


def _remarks(row: DeviceRow, now_unix_s: float, refusals: Sequence[Refusal], when: When) -> list[str]:
    remarks = list(presence.remarks(row, now_unix_s, when))
    if refusals:
        most = refusals[0]
        remarks.append(f"{row.quarantined} refused, most often ({most.occurrences}): {printable(most.reason)}")
    return remarks


def _device(
    row: DeviceRow,
    known: Enrolled,
    now_unix_s: float,
    refusals: list[Refusal],
    changed: Sequence[str],
    when: When,
) -> Device:
    status = row.status
    given = known.current(row.device, now_unix_s)
    way_in = enrolled.remark(known, row.device, now_unix_s, when)
    return Device(
        device=row.device,
        model=row.facts.model if row.facts else None,
        module=row.facts.module if row.facts else None,
        carrier=row.facts.carrier if row.facts else None,
        presence=status.presence.value if status else None,
        first_seen_unix_s=row.first_seen_unix_s,
        last_seen_unix_s=row.last_seen_unix_s,
        trials=row.trials,
        pending=status.pending if status else None,
        dropped=status.dropped if status else None,
        quarantined=row.quarantined,
        key_conflicts=row.key_conflicts,
        missing=sum(count.missing for count in row.epochs),
        withheld=sum(count.withheld for count in row.epochs),
        silent_since_unix_s=presence.silent_since_unix_s(row, now_unix_s),
        contenders=[_contender(life) for life in presence.contenders(row, now_unix_s)],
        clock=None if row.clock is None else _clock(row.clock),
        certificate_ends_unix_s=None if given is None else given.expires_unix_s,
        epochs=[outbox_of(count) for count in row.epochs],
        remarks=[*_remarks(row, now_unix_s, refusals, when), *([] if way_in is None else [way_in]), *changed],
        refusals=refusals,
        labels=row.facts.labels if row.facts else (),
        telemetry_interval_s=status.telemetry_interval_s if status else None,
    )


def _contender(life: Life) -> Contender:
    return Contender(life.epoch, life.boot_id, life.session, life.returned_unix_s)


def _clock(clock: BatchClock) -> Clock:
    return Clock(clock.synchronised, clock.offset_bound_s, clock.sent_unix_s, clock.received_unix_s)
