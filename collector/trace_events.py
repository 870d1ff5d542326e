"""Events of the Trace Event Format: slices that are complete, counters, and names of processes and threads. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

Json = dict[str, Any]
_LONGEST_NAME = 200


class Event(NamedTuple):
    """A slice or a value of a counter, in the nanoseconds of a board."""

    process: int
    thread: int | None  # None: of a counter, which has none
    name: str
    at_ns: int
    long_ns: int
    args: Json

    def as_json(self, zero_ns: int) -> Json:
        """Its form in the file, in whole microseconds since `zero_ns`.

        Whole ones, because readers take fractions for floating point: an end that a nanosecond is lost of stands
        outside of the slice around it, and is dropped.
        """
        begin_us, end_us = ((at_ns - zero_ns) // 1000 for at_ns in (self.at_ns, self.at_ns + self.long_ns))
        shown: Json = {"name": self.name, "pid": self.process, "ts": begin_us, "args": self.args}
        if self.thread is None:
            return shown | {"ph": "C"}
        return shown | {"ph": "X", "tid": self.thread, "dur": end_us - begin_us}


def complete(process: int, thread: int, name: str, start_ns: int, end_ns: int, args: Json | None = None) -> Event:
    """A slice whose end is known."""
    return Event(process, thread, name[:_LONGEST_NAME], start_ns, end_ns - start_ns, args or {})


def counter(process: int, name: str, unit: str, at_ns: int, value: float) -> Event:
    """One value of a counter, which holds until the next one."""
    return Event(process, None, name[:_LONGEST_NAME], at_ns, 0, {unit: value})


def named_process(process: int, name: str, place: int) -> Iterator[Json]:
    """What a process is called, and its place among the others."""
    yield {"ph": "M", "name": "process_name", "pid": process, "args": {"name": name[:_LONGEST_NAME]}}
    yield {"ph": "M", "name": "process_sort_index", "pid": process, "args": {"sort_index": place}}


def named_thread(process: int, thread: int, name: str) -> Iterator[Json]:
    """What a thread is called; threads stand in the order of their ids."""
    yield {"ph": "M", "name": "thread_name", "pid": process, "tid": thread, "args": {"name": name[:_LONGEST_NAME]}}
    yield {"ph": "M", "name": "thread_sort_index", "pid": process, "tid": thread, "args": {"sort_index": thread}}
