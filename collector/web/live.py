"""Boards as they are now, for who looks at the page: they are asked to show it only while somebody does."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from collector.conditions import printable
from collector.live_figures import Sample
from collector.watched import SILENT_S, Boards, Heard
from phasewatt.errors import PhasewattError

if TYPE_CHECKING:
    from collector.watching import Watching

LOOKED_S = 15.0  # after the last look the boards are left alone
HISTORY_S = 180.0
_MOST_SAMPLES = 400  # of one board, however often it samples
_WAIT_S = 0.5
_AGAIN_S = 5.0  # after the broker did not let us watch

logger = logging.getLogger(__name__)


class Moment(NamedTuple):
    """Power of each scope at a time of this program's monotonic clock."""

    time_s: float
    power_w: Mapping[str, float | None]


class LiveBoard(NamedTuple):
    """What a board shows, and showed in the last minutes."""

    sample: Sample
    silent_s: float
    history: tuple[Moment, ...]

    @property
    def is_silent(self) -> bool:
        """Whether what it showed last says nothing of now."""
        return self.silent_s >= SILENT_S


class LiveView(NamedTuple):
    """All boards that showed anything since somebody looks."""

    boards: Mapping[str, LiveBoard]
    now_s: float
    trouble: str | None  # why nothing comes; None: it may


class LiveBoards:
    """Watches boards while `view` is called, from any thread, and for `LOOKED_S` after that."""

    def __init__(self, watch: Callable[[], Watching], clock: Callable[[], float] = time.monotonic) -> None:
        self._watch = watch
        self._clock = clock
        self._changing = threading.Lock()
        self._stopping = threading.Event()
        self._looked_s = 0.0
        self._watcher: threading.Thread | None = None
        self._boards = Boards((), clock())
        self._history: dict[str, deque[Moment]] = {}
        self._trouble: str | None = None

    def view(self) -> LiveView:
        """The boards now; the first look finds none yet."""
        with self._changing:
            self._looked_s = now_s = self._clock()
            if self._watcher is None and not self._stopping.is_set():
                self._boards, self._history = Boards((), now_s), {}
                self._watcher = threading.Thread(target=self._run, name="live page", daemon=True)
                self._watcher.start()
            return LiveView(self._shown(now_s), now_s, self._trouble)

    def stop(self) -> None:
        """Ask no board any more."""
        self._stopping.set()
        watcher = self._watcher
        if watcher is not None:
            watcher.join(_AGAIN_S)

    def _shown(self, now_s: float) -> dict[str, LiveBoard]:
        return {
            board.device: LiveBoard(
                board.last.sample, board.silent_s(now_s), tuple(self._history.get(board.device, ()))
            )
            for board in self._boards.shown()
            if board.last is not None
        }

    def _run(self) -> None:
        try:
            with contextlib.closing(self._watch()) as watching:
                while self._goes_on():
                    self._step(watching)
        except PhasewattError as error:
            logger.warning("live page: %s", error)
            with self._changing:
                self._trouble = printable(str(error))
            self._stopping.wait(_AGAIN_S)
        finally:
            with self._changing:
                if self._watcher is threading.current_thread():
                    self._watcher = None

    def _goes_on(self) -> bool:
        """Whether somebody looks; if not, the next look has another thread, while this one disconnects."""
        with self._changing:
            if not self._stopping.is_set() and self._clock() - self._looked_s < LOOKED_S:
                return True
            if not self._stopping.is_set():  # else `stop` waits for this one
                self._watcher = None
            return False

    def _step(self, watching: Watching) -> None:
        with self._changing:
            due = self._boards.due(self._clock())
        watching.ask(due)
        came = watching.next(_WAIT_S)
        with self._changing:
            self._trouble = watching.trouble
            now_s = self._clock()
            heard = None if came is None else self._boards.take(came.topic, came.payload, now_s)
            if heard is not None:
                self._keep(heard, now_s)

    def _keep(self, heard: Heard, now_s: float) -> None:
        history = self._history.setdefault(heard.device, deque(maxlen=_MOST_SAMPLES))
        history.append(Moment(now_s, heard.power_w))
        while now_s - history[0].time_s > HISTORY_S:
            history.popleft()
