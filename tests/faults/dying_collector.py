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

from sqlalchemy import Engine, Pool, event

from collector.app import main

_ROWS = "INSERT INTO ledger"


class Commits:
    """Counts the transactions that store rows, seen at the database driver: no part of the collector knows of it."""

    def __init__(self, where: str, figure: float) -> None:
        self._where = where
        self._figure = figure
        self._stores = False
        event.listen(Engine, "before_cursor_execute", self._executing)
        event.listen(Engine, "commit", self._committing)
        event.listen(Pool, "checkin", self._committed)

    def _executing(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        self._stores = self._stores or statement.startswith(_ROWS)

    def _committing(self, _connection: Any) -> None:
        if self._stores and self._where == "slow":
            time.sleep(self._figure)
        elif self._stores and self._where == "before":
            self._die_in_turn()

    def _committed(self, _connection: Any, _record: Any) -> None:
        if self._stores and self._where == "after":
            self._die_in_turn()
        self._stores = False

    def _die_in_turn(self) -> None:
        self._figure -= 1
        if self._figure <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    Commits(sys.argv[1], float(sys.argv[2]))
    sys.exit(main(sys.argv[3:]))
