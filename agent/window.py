"""Which rows are on their way to the collector, and which must wait: the back-pressure of the link.

A message that never gets a receipt must not hold up the rest: one that the broker ends the connection for, or
that the collector cannot read. So messages shrink when one fails, down to single rows, and grow slowly when they
arrive; and rows that failed three times are under suspicion: they travel alone, one at a time, after ever longer waits.
Most failures are of no row: a fleet sends more than its broker queues, which drops the rest in silence. So half as many
messages are on their way after each loss, and one more after each that arrived; and what was lost lets all else that
waits go first for a while, since the few places could be full of what never arrives.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

_PATIENCE_MAX_S = 960.0
_WAIT_MAX_S = 600.0  # of a suspect: most are innocent, and a guilty one costs no more than a connection
_DOUBLINGS_MAX = 16
_SHRINK = 8
_GROW = 16  # this part of the full size
_GREETED = 1 / 6  # of the usual wait, for what was on its way when the collector came
_ROOM_LEAST = 2  # messages: one that never gets a receipt must leave room for the others
_STRIKES = 3  # failures that make a suspect; by then messages have shrunk, so there are few
_STRIKES_KEPT = 50_000  # rows given up at the cap leave theirs behind


class _Flight(NamedTuple):
    seqs: frozenset[int]
    size_bytes: int
    sent_s: float
    deadline_s: float


class Window:
    """The unreceipted messages of one board: at most `messages`, and no new one above `max_bytes` together.

    Times are monotonic seconds. A message waits `patience_s` for its receipt, twice as long after each loss; messages
    that were on their way together are lost at once. `message_bytes` is how large the next one should be at most.
    """

    def __init__(self, messages: int, max_bytes: int, patience_s: float, message_bytes: int) -> None:
        self.message_bytes = self._full_bytes = message_bytes
        self._messages = self._room = messages
        self._max_bytes = max_bytes
        self._patience_first_s = self._patience_s = patience_s
        self._flights: list[_Flight] = []
        self._flying: set[int] = set()
        self._late: dict[int, float] = {}  # behind all others until then
        self._backed_off_s = float("-inf")
        self._strikes: Counter[int] = Counter()
        self._suspects: dict[int, float] = {}  # not to be sent again before
        self._withheld: set[int] = set()  # what this connection cannot carry
        self.last_receipt_s = float("-inf")

    def __contains__(self, seq: object) -> bool:
        """Whether a row is no part of an ordinary message now."""
        return seq in self._flying or seq in self._late or seq in self._suspects or seq in self._withheld

    def has_room(self) -> bool:
        """Whether one more message may be sent."""
        size_bytes = sum(flight.size_bytes for flight in self._flights)
        return len(self._flights) < self._room and size_bytes < self._max_bytes

    def suspect(self, now_s: float) -> int | None:
        """A row to send alone now, if one is due."""
        if self._suspects.keys() & self._flying:
            return None  # one at a time: if the connection ends, it is known for whom
        free = ((due_s, seq) for seq, due_s in self._suspects.items() if seq not in self._withheld)
        due = min((pair for pair in free if pair[0] <= now_s), default=None)
        return None if due is None else due[1]

    def another_round(self) -> bool:
        """Whether rows that let others go first may go now, since nothing else waits."""
        waited = bool(self._late)
        self._late.clear()
        return waited

    def next_s(self, now_s: float) -> float:
        """When there is something to do next, if no receipt comes before; infinite: never."""
        deadlines = (flight.deadline_s for flight in self._flights)
        dues = (due_s for due_s in self._suspects.values() if due_s > now_s)
        return min([*deadlines, *dues], default=float("inf"))

    def sent(self, seqs: frozenset[int], size_bytes: int, now_s: float) -> None:
        """Note a message that went out."""
        self._flights.append(_Flight(seqs, size_bytes, now_s, now_s + self._patience_s))
        self._flying |= seqs

    def withhold(self, seq: int) -> None:
        """Keep a row back until there is another connection."""
        self._withheld.add(seq)

    def clear(self) -> None:
        """Forget every row: they have other numbers now."""
        for known in (self._flights, self._flying, self._late, self._strikes, self._suspects, self._withheld):
            known.clear()

    def settle(self, ranges: Iterable[tuple[int, int]], now_s: float) -> None:
        """Note rows that were stored or refused: they make room."""
        self.last_receipt_s = now_s
        known = sorted(self._flying | self._late.keys() | self._suspects.keys())
        for first, last in ranges:
            for seq in known[bisect_left(known, first) : bisect_right(known, last)]:
                self.forget(seq)
        before = len(self._flights)
        self._flights = [flight for flight in self._flights if flight.seqs & self._flying]
        if arrived := before - len(self._flights):
            self._room = min(self._room + arrived, self._messages)
            self._patience_s = max(self._patience_first_s, self._patience_s / 2)
            self.message_bytes = min(self.message_bytes + self._full_bytes // _GROW, self._full_bytes)

    def forget(self, seq: int) -> None:
        """Drop all memory of a row."""
        self._flying.discard(seq)
        self._late.pop(seq, None)
        self._suspects.pop(seq, None)
        self._strikes.pop(seq, None)

    def hurry(self, now_s: float) -> None:
        """Take a collector's greeting: what it does not receipt soon, it was not there to receive."""
        self._patience_s = self._patience_first_s
        soon_s = now_s + self._patience_first_s * _GREETED
        self._flights = [
            flight._replace(sent_s=now_s, deadline_s=min(flight.deadline_s, soon_s)) for flight in self._flights
        ]

    def expire(self, now_s: float) -> None:
        """Take back what waited too long; it is under suspicion if the collector was there meanwhile."""
        self._late = {seq: due_s for seq, due_s in self._late.items() if due_s > now_s}
        expired = [flight for flight in self._flights if flight.deadline_s <= now_s]
        for flight in expired:
            missing = self._land(flight)
            self._late.update(dict.fromkeys(missing, now_s + self._patience_first_s))
            self._suspects.update((seq, now_s) for seq in missing & self._suspects.keys())  # behind the others
            if self.last_receipt_s > flight.sent_s:
                self._strike(missing, now_s)
        if any(flight.sent_s >= self._backed_off_s for flight in expired):
            self._back_off(now_s)

    def _back_off(self, now_s: float) -> None:
        self._backed_off_s = now_s
        self._patience_s = min(2 * self._patience_s, _PATIENCE_MAX_S)
        self._room = max(self._room // 2, min(_ROOM_LEAST, self._messages))
        self._shrink()

    def lose(self, now_s: float) -> None:
        """Take back everything: the connection ended, perhaps because of one of these messages."""
        self._patience_s = self._patience_first_s
        self._room = self._messages
        self._withheld.clear()
        if self._flights:
            self._shrink()
        for flight in list(self._flights):
            self._strike(self._land(flight), now_s)

    def _shrink(self) -> None:
        self.message_bytes = max(1, self.message_bytes // _SHRINK)

    def _land(self, flight: _Flight) -> frozenset[int]:
        missing = flight.seqs & self._flying
        self._flights.remove(flight)
        self._flying -= missing
        return missing

    def _strike(self, seqs: frozenset[int], now_s: float) -> None:
        if len(self._strikes) > _STRIKES_KEPT:
            self._strikes.clear()
        for seq in seqs:
            self._strikes[seq] += 1
            beyond = self._strikes[seq] - _STRIKES
            if beyond >= 0:
                doublings = min(beyond, _DOUBLINGS_MAX)
                wait_s = self._patience_first_s * 2**doublings if beyond else 0.0
                self._suspects[seq] = now_s + min(wait_s, _WAIT_MAX_S)
