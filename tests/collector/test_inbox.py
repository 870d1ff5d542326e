"""The inbox between the network and the store: bounded by count and bytes, first in, first out."""

from __future__ import annotations

import threading

from collector.inbox import Inbox, Message
from collector.progress import Progress


def message(number: int, size: int = 1) -> Message:
    return Message(f"topic {number}", b"x" * size)


def test_messages_come_out_in_order_and_in_groups():
    inbox = Inbox(10, 1000)
    assert all(inbox.put(message(number)) for number in range(5))
    assert inbox.take(3, 0.0) == [message(number) for number in range(3)]
    assert inbox.take(3, 0.0) == [message(number) for number in range(3, 5)]
    assert inbox.take(3, 0.0) == []


def test_what_is_beyond_the_count_is_not_taken():
    inbox = Inbox(2, 1000)
    assert [inbox.put(message(number)) for number in range(3)] == [True, True, False]
    inbox.take(1, 0.0)
    assert inbox.put(message(3))


def test_what_is_beyond_the_bytes_is_not_taken():
    inbox = Inbox(100, 1000)
    assert inbox.put(message(1, 900))
    assert not inbox.put(message(2, 101))
    assert inbox.put(message(3, 100))
    inbox.take(1, 0.0)
    assert inbox.put(message(4, 900))


def test_closed_inbox_gives_what_it_has_and_then_ends():
    inbox = Inbox(10, 1000)
    inbox.put(message(1))
    inbox.close()
    assert inbox.take(5, 10.0) == [message(1)]
    assert inbox.take(5, 10.0) is None


def test_taker_that_waits_is_woken():
    inbox = Inbox(10, 1000)
    threading.Timer(0.05, lambda: inbox.put(message(1))).start()
    assert inbox.take(5, 20.0) == [message(1)]


def test_silence_is_overdue_once_and_then_after_twice_the_time():
    now = [0.0]
    progress = Progress(10.0, lambda: now[0])
    assert not progress.is_overdue()
    now[0] = 11.0
    assert progress.is_overdue()
    progress.tried()
    now[0] = 30.0
    assert not progress.is_overdue()
    now[0] = 32.0
    assert progress.is_overdue()
    assert progress.silent_s == 32.0
    progress.heard()
    now[0] = 43.0
    assert progress.is_overdue()
