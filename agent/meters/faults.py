"""What happens to a source while it is read: each fault is said once when it begins, and once when it is over."""

from __future__ import annotations

import logging
from collections import Counter, deque

logger = logging.getLogger(__name__)

_TELLING = 5  # times that one part's fault is told; then that it comes and goes
_MOST = 32  # notes that nobody asks for; a source that fails in ever new ways must not fill the memory


class Faults:
    """Faults of the parts of a source, such as the calls of one GPU or the rails of one board.

    One thread may tell of them while another takes the notes.
    """

    def __init__(self) -> None:
        self._failing: dict[tuple[str, str], tuple[str, str]] = {}  # (source, part) -> (source, why)
        self._begun: Counter[tuple[str, str]] = Counter()
        self._notes: deque[str] = deque()

    def failed(self, source: str, part: str, why: str) -> None:
        """A part did not answer."""
        if (source, why) not in self._failing.values():
            self._begun[source, why] += 1
            if self._begun[source, why] < _TELLING:
                self.note(f"{source}: {why}: {part} reads as missing from now on")
            elif self._begun[source, why] == _TELLING:
                self.note(f"{source}: {why}: {part} comes and goes; this is not told again")
        self._failing[source, part] = (source, why)

    def answered(self, source: str, part: str) -> None:
        """A part did answer."""
        fault = self._failing.pop((source, part), None)
        if fault is not None and fault not in self._failing.values() and self._begun[fault] < _TELLING:
            self.note(f"{fault[0]} answers again, after: {fault[1]}")

    def note(self, text: str) -> None:
        """Something else happened that whoever reads the figures must know."""
        logger.warning("%s", text)
        if len(self._notes) < _MOST:
            self._notes.append(text)

    def taken(self) -> tuple[str, ...]:
        """What happened since this was last asked."""
        return tuple(self._notes.popleft() for _ in range(len(self._notes)))
