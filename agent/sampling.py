"""The process that reads the meters while a trial runs: `python -m agent.sampling --rate-hz 20 METER...`.

Its first line names the channels, then come packed rows (time in ns, one double a channel, NaN for missing), flushed
about once a second; a negative time is the length of a note that follows instead of values. A byte on its standard
input has it read closely for a moment, every channel a hundred times a second; it ends when that input does.
"""

from __future__ import annotations

import argparse
import ctypes
import enum
import math
import os
import select
import signal
import struct
import sys
import time
from collections.abc import Callable, Sequence

import msgspec

from agent import meters
from phasewatt.errors import PhasewattError
from phasewatt.traces import Channel

ATTENTION_S = 0.35  # of close reading: three updates of a sensor that has ten a second
_CLOSE_S = 0.01
FLUSH_S = 1.0
_PR_SET_PDEATHSIG = 1


class Opened(msgspec.Struct, frozen=True):
    """A meter that the child reads."""

    name: str
    channels: tuple[Channel, ...]
    simulated: bool
    driver: str | None
    mode: str | None


class Header(msgspec.Struct, frozen=True):
    """The child's first line."""

    meters: tuple[Opened, ...]
    refusal: str | None = None


class Heard(enum.Enum):
    """What the child was told while it waited."""

    NOTHING = "nothing"
    ATTEND = "attend"
    END = "end"


def sample(
    opened: Sequence[meters.Meter],
    period_s: float,
    closely: bool,
    wait: Callable[[float], Heard],
    write: Callable[[bytes], object],
    clock_ns: Callable[[], int] = time.monotonic_ns,
) -> None:
    """Write a packed row every `period_s`, and oftener after each ATTEND, until `wait(seconds)` hears END."""
    layout = struct.Struct(f"<q{sum(len(meter.channels) for meter in opened)}d")
    due_ns = flushed_ns = clock_ns()
    close_until_ns = 0
    buffer = bytearray()
    heard = Heard.NOTHING
    while heard is not Heard.END:
        now_ns = clock_ns()
        close = now_ns < close_until_ns
        values = [value for meter in opened for value in meter.read(closely or close)]
        buffer += layout.pack(now_ns, *(math.nan if value is None else value for value in values))
        buffer += b"".join(_packed(note) for meter in opened for note in meter.notes() if note)
        step_s = min(_CLOSE_S, period_s) if close else period_s
        due_ns = max(due_ns + round(step_s * 1e9), now_ns)
        heard = wait(max(0, due_ns - clock_ns()) * 1e-9)
        if heard is Heard.ATTEND:
            due_ns = clock_ns()
            close_until_ns = due_ns + round(ATTENTION_S * 1e9)
        over = flushed_ns < close_until_ns <= due_ns
        if heard is Heard.END or over or due_ns - flushed_ns >= FLUSH_S * 1e9:
            write(bytes(buffer))
            buffer.clear()
            flushed_ns = due_ns


def _packed(note: str) -> bytes:
    text = note.encode(errors="replace")
    return struct.pack("<q", -len(text)) + text


def _open_all(names: Sequence[str], period_s: float) -> tuple[list[meters.Meter], Header]:
    opened: list[meters.Meter] = []
    try:
        opened += [meters.open_meter(name, period_s) for name in names]
    except PhasewattError as error:
        return opened, Header(meters=(), refusal=str(error))
    return opened, Header(
        meters=tuple(
            Opened(name, meter.channels, meter.simulated, meter.driver, meter.mode)
            for name, meter in zip(names, opened, strict=True)
        )
    )


def main() -> int:
    """Read until standard input ends; 1 if a meter does not open."""
    for number in (signal.SIGINT, signal.SIGTERM):  # these reach the whole group; the parent decides
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate-hz", type=float, required=True)
    parser.add_argument("--closely", action="store_true")
    parser.add_argument("names", nargs="+")
    args = parser.parse_args()
    opened, header = _open_all(args.names, 1 / args.rate_hz)
    with os.fdopen(1, "wb", buffering=0) as output:
        output.write(msgspec.json.encode(header) + b"\n")
        if header.refusal is None:
            sample(opened, 1 / args.rate_hz, args.closely, _listen, output.write)
    for meter in opened:
        meter.close()
    return 0 if header.refusal is None else 1


def _listen(timeout_s: float) -> Heard:
    """What standard input says within that time: its end, or that something wants attention."""
    ready, _, _ = select.select([0], [], [], timeout_s)
    if not ready:
        return Heard.NOTHING
    return Heard.ATTEND if os.read(0, 64) else Heard.END


if __name__ == "__main__":
    sys.exit(main())
