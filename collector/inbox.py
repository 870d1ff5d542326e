"""Messages between the network's thread and the one that stores: bounded, and taken out in groups."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import NamedTuple

from phasewatt import topics

_SHARE = 8  # one board takes at most this part of the room, so that a flood drowns nobody else
_LEAST_MESSAGES = 64  # a board that keeps to its window has 16 under way
_LEAST_BYTES = 4 * 1024 * 1024
_FLOOD = 200  # messages in that time
_UNHEARD_S = 10.0  # a board that wanted more than its share: to store even that of a flood costs the others their turn


class Message(NamedTuple):
    """What came on a topic; `retained`: the broker kept it, it was not said now."""

    topic: str
    payload: bytes
    retained: bool = False


class Inbox:
    """At most `messages` of together `max_bytes`; what comes beyond is not taken, and its board sends it again."""

    def __init__(self, messages: int, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._messages = messages
        self._max_bytes = max_bytes
        self._most_of_one = (max(_LEAST_MESSAGES, messages // _SHARE), max(_LEAST_BYTES, max_bytes // _SHARE))
        self._of_one: tuple[Counter[str], Counter[str]] = (Counter(), Counter())  # messages and bytes, by sender
        self._left_out: Counter[str] = Counter()  # of what came meanwhile
        self._unheard_until_s: dict[str, float] = {}
        self._clock = clock
        self._waiting: deque[Message] = deque()
        self._bytes = 0
        self._open = True
        self._changed = threading.Condition()

    def __len__(self) -> int:
        """Messages that wait."""
        return len(self._waiting)

    def put(self, message: Message) -> bool:
        """Whether there was room for `message`."""
        sender = sender_of(message.topic)
        if self._is_unheard(sender):
            self._left_out[sender] += 1
            return False
        with self._changed:
            if len(self._waiting) >= self._messages or self._bytes + len(message.payload) > self._max_bytes:
                return False
            if self._is_crowding(sender, len(message.payload)):
                self._unheard_until_s[sender] = self._clock() + _UNHEARD_S
                return False
            self._waiting.append(message)
            self._count(message, 1)
            self._changed.notify()
        return True

    def take(self, most: int, timeout_s: float) -> list[Message] | None:
        """The `most` oldest messages, none of them if none came in time; None: closed, and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or not self._open, timeout_s)
            if not self._waiting and not self._open:
                return None
            taken = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
            for message in taken:
                self._count(message, -1)
        return taken

    def close(self) -> None:
        """Let `take` end once the inbox is empty."""
        with self._changed:
            self._open = False
            self._changed.notify_all()

    def is_flooding(self, sender: str) -> bool:
        """Whether a sender goes on, though nothing is taken: a board without receipts sends 16 and waits."""
        return self._left_out[sender] >= _FLOOD

    def _is_unheard(self, sender: str) -> bool:
        until_s = self._unheard_until_s.get(sender)
        if until_s is None:
            return False
        if self._clock() < until_s:
            return True
        del self._unheard_until_s[sender], self._left_out[sender]
        return False

    def _is_crowding(self, sender: str, size: int) -> bool:
        """Whether a sender has its share of the room already."""
        count, held_bytes = (held[sender] for held in self._of_one)
        most, most_bytes = self._most_of_one
        return count >= most or held_bytes + size > most_bytes

    def _count(self, message: Message, sign: int) -> None:
        sender, size = sender_of(message.topic), len(message.payload)
        self._bytes += sign * size
        for held, amount in zip(self._of_one, (1, size), strict=True):
            held[sender] += sign * amount
            if not held[sender]:
                del held[sender]


def sender_of(topic: str) -> str:
    """Whose topic it is: the broker lets nobody else write there."""
    return topic.removeprefix(f"{topics.ROOT}/").partition("/")[0]
