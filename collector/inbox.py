"""Messages between the network's thread and the one that stores: bounded, and taken out in groups."""

from __future__ import annotations

import threading
from collections import deque
from typing import NamedTuple


class Message(NamedTuple):
    """What came on a topic; `retained`: the broker kept it, it was not said now."""

    topic: str
    payload: bytes
    retained: bool = False


class Inbox:
    """At most `messages` of together `max_bytes`; what comes beyond is not taken, and its board sends it again."""

    def __init__(self, messages: int, max_bytes: int) -> None:
        self._messages = messages
        self._max_bytes = max_bytes
        self._waiting: deque[Message] = deque()
        self._bytes = 0
        self._open = True
        self._changed = threading.Condition()

    def __len__(self) -> int:
        """Messages that wait."""
        return len(self._waiting)

    def put(self, message: Message) -> bool:
        """Whether there was room for `message`."""
        with self._changed:
            if len(self._waiting) >= self._messages or self._bytes + len(message.payload) > self._max_bytes:
                return False
            self._waiting.append(message)
            self._bytes += len(message.payload)
            self._changed.notify()
        return True

    def take(self, most: int, timeout_s: float) -> list[Message] | None:
        """The `most` oldest messages, none of them if none came in time; None: closed, and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or not self._open, timeout_s)
            if not self._waiting and not self._open:
                return None
            taken = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
            self._bytes -= sum(len(message.payload) for message in taken)
        return taken

    def close(self) -> None:
        """Let `take` end once the inbox is empty."""
        with self._changed:
            self._open = False
            self._changed.notify_all()
