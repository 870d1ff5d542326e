"""What an operator must know of a board: whether it is silent, whether it is one board, what did not come. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from collector.conditions import printable
from collector.stored import EpochCount, Life
from phasewatt.messages import Presence

if TYPE_CHECKING:
    from collector.store import DeviceRow

SILENT_AFTER = 3  # of its own intervals: one batch may be lost, and sent again after a while
RETURNS = 2  # of each of two lives, by which they are two boards; one may be a message that came late
RETURNED_WITHIN_S = 7 * 86400.0


def silent_since_unix_s(row: DeviceRow, now_unix_s: float) -> float | None:
    """When a board that should be sending was last heard; None: it is not silent, or never said how often it sends."""
    status = row.status
    if status is None or status.presence is Presence.OFFLINE or status.telemetry_interval_s is None:
        return None
    last_unix_s = row.last_seen_unix_s
    if last_unix_s is None:
        return row.first_seen_unix_s
    return last_unix_s if now_unix_s - last_unix_s > SILENT_AFTER * status.telemetry_interval_s else None


def contenders(row: DeviceRow, now_unix_s: float) -> tuple[Life, ...]:
    """The boards that answer to one name, each by its boot and outbox; empty: it is one board, as far as is known.

    Two lives of a device are two boards when each came online again, in the last week, after another life had, and
    that RETURNS times: a board whose outbox was set aside or whose disk was imaged anew goes from one life to the
    next and never back.
    """
    lives = tuple(
        life
        for life in row.lives
        if life.returns >= RETURNS
        and life.returned_unix_s is not None
        and now_unix_s - life.returned_unix_s < RETURNED_WITHIN_S
    )
    return lives if len(lives) > 1 else ()


def remarks(row: DeviceRow, now_unix_s: float, when: Callable[[float], str | None]) -> Iterator[str]:
    """What stands out, in words, with what to do about it; `when` writes a time."""
    if (since_unix_s := silent_since_unix_s(row, now_unix_s)) is not None and row.status is not None:
        interval_s = row.status.telemetry_interval_s
        yield f"silent since {when(since_unix_s)}: it should send every {interval_s:g} s; see to its link"
    if boards := contenders(row, now_unix_s):
        told = ", ".join(f"boot {printable(life.boot_id)} with epoch {life.epoch}" for life in boards)
        yield f"two boards answer to this name: {told}; give one of them another name and an empty state directory"
    if row.key_conflicts:
        yield (
            f"{row.key_conflicts} records came under keys that are held with another body: "
            "a copied disk, or one that lost what it had committed"
        )
    for count in row.epochs:
        if count.missing:
            yield _missing(row, count)
    if withheld := sum(count.withheld for count in row.epochs):
        yield f"{withheld} records are of a newer version and wait on the board: upgrade this collector"
    if row.clock is not None and row.clock.synchronised is False:
        yield "its clock is not synchronised: its times are labels at best"


def _missing(row: DeviceRow, count: EpochCount) -> str:
    status = row.status
    if status is None or status.epoch != count.epoch:
        pending = ""
    else:
        pending = f", {status.pending} may still come" if status.pending else ", and nothing is left to come"
    dropped = "not known how many" if count.dropped is None else count.dropped
    missing = f"epoch {count.epoch}: {count.missing} rows up to {count.top} missing"
    return f"{missing}, {dropped} given up at its disk cap{pending}"
