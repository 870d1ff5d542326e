"""The real collector, which dies or dawdles at one of its commits.

python -m tests.faults.dying_collector before|after COUNT serve ...     killed at its COUNT-th commit of rows
python -m tests.faults.dying_collector slow SECONDS serve ...           every commit of rows takes so much longer
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from sqlalchemy import Connection, Engine, Pool, event
from sqlalchemy.pool import ConnectionPoolEntry

from collector.app import main

_ROWS = "INSERT INTO ledger"


class Commits:
    """Counts the transactions that store rows, seen at the database driver: no part of the collector knows of it.

    What a transaction has done is kept with its connection: other threads of
    the collector commit and check in while one that stores rows is open.
    """

    def __init__(self, where: str, figure: float) -> None:
        self._where = where
        self._figure = figure
        event.listen(Engine, "before_cursor_execute", self._executing)
        event.listen(Engine, "commit", self._committing)
        event.listen(Engine, "rollback", self._rolling_back)
        event.listen(Pool, "checkin", self._checking_in)

    def _executing(self, connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(_ROWS):
            connection.info["stores"] = True

    def _committing(self, connection: Connection) -> None:
        if not connection.info.get("stores"):
            return
        if self._where == "slow":
            time.sleep(self._figure)
        elif self._where == "before":
            self._die_in_turn()

    def _rolling_back(self, connection: Connection) -> None:
        connection.info.pop("stores", None)

    def _checking_in(self, _connection: Any, entry: ConnectionPoolEntry) -> None:
        if entry.info.pop("stores", False) and self._where == "after":
            self._die_in_turn()

    def _die_in_turn(self) -> None:
        self._figure -= 1
        if self._figure <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    Commits(sys.argv[1], float(sys.argv[2]))
    sys.exit(main(sys.argv[3:]))
