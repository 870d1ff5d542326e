"""Who answers to a device's name: each boot of each machine with each outbox, and how they follow each other.

One board goes from life to life and never back: a restart keeps the life, a reboot or another outbox begins a new one.
A life that speaks again after another has spoken is a machine beside another machine.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from collector.store import tables
from phasewatt.messages import Status

KEPT = 20  # of one device
FORGOTTEN_AFTER_S = 7 * 86400.0  # a return so long ago counts no more

_life = tables.life


def note(connection: Connection, status: Status, now_unix_s: float) -> None:
    """Count that a life of a device spoke; what is no later than its last word, by its own clock, came twice."""
    of_device = select(_life).where(_life.c.device == status.device).order_by(_life.c.turn.desc())
    known = connection.execute(of_device).all()
    turn = known[0].turn + 1 if known else 1
    # As it is stored, so that a boot id with a NUL is found again.
    boot_id = status.boot_id.replace("\0", "\ufffd")
    mine = next((row for row in known if (row.epoch, row.boot_id) == (status.epoch, boot_id)), None)
    said = {"session": status.session, "since_unix_s": status.since_unix_s}
    if mine is None:
        key = {"device": status.device, "epoch": status.epoch, "boot_id": boot_id}
        connection.execute(insert(_life).values(**key, **said, turn=turn, returns=0))
        forgotten = [row.turn for row in known[KEPT - 1 :]]
        if forgotten:
            connection.execute(delete(_life).where(_life.c.device == status.device, _life.c.turn.in_(forgotten)))
    elif status.since_unix_s > mine.since_unix_s:
        came_back = {} if mine.turn == known[0].turn else _returned(mine, turn, now_unix_s)
        of_life = (_life.c.device == mine.device, _life.c.epoch == mine.epoch, _life.c.boot_id == mine.boot_id)
        connection.execute(update(_life).where(*of_life).values(**said, **came_back))


def _returned(life: Any, turn: int, now_unix_s: float) -> dict[str, Any]:
    fresh = life.returned_unix_s is not None and now_unix_s - life.returned_unix_s < FORGOTTEN_AFTER_S
    return {"turn": turn, "returns": life.returns + 1 if fresh else 1, "returned_unix_s": now_unix_s}
