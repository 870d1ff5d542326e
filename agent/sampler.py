"""Power samples from a process of its own, so that reading sensors never runs in the process that runs the model.

Parent and child talk over pipes: the child's first line names the channels, then come packed rows (time in ns, one
double a channel, NaN for missing), flushed about once a second. The child ends when its standard input does.
"""

from __future__ import annotations

import argparse
import ctypes
import logging
import math
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import msgspec

from agent import meters
from phasewatt import codec, series
from phasewatt.errors import MeterUnavailable, PhasewattError
from phasewatt.records import Channel, Reading, Trace

logger = logging.getLogger(__name__)

_START_S = 20.0
_FLUSH_S = 1.0
_PR_SET_PDEATHSIG = 1
_TRACE_BYTES = codec.MAX_PAYLOAD_BYTES // 4  # of steps at 6 characters each, before compression
_SCALE = 1e-6  # microwatts, microjoules: finer than any sensor
_UNIT = {Reading.INSTANT: "W", Reading.AVERAGE: "W", Reading.COUNTER: "J"}

Row = tuple[int, tuple[float | None, ...]]


class Recording(msgspec.Struct, frozen=True):
    """What a sampler saw: rows of (time in ns, one value a channel), and what went wrong, if anything did."""

    meter: str
    simulated: bool
    channels: tuple[Channel, ...]
    rows: tuple[Row, ...]
    fault: str | None

    def traces(self, device: str, boot_id: str) -> tuple[Trace, ...]:
        """The recording as Trace records, each small enough for one message."""
        most = max(1, _TRACE_BYTES // (6 * (1 + len(self.channels))))
        pieces = [self.rows[at : at + most] for at in range(0, len(self.rows), most)]
        return tuple(self._trace(device, boot_id, part, len(pieces), rows) for part, rows in enumerate(pieces))

    def _trace(self, device: str, boot_id: str, part: int, parts: int, rows: Sequence[Row]) -> Trace:
        values = tuple(
            series.pack(c.name, _UNIT[c.reading], _SCALE, [row[1][index] for row in rows])
            for index, c in enumerate(self.channels)
        )
        return Trace(
            device=device,
            boot_id=boot_id,
            meter=self.meter,
            part=part,
            parts=parts,
            simulated=self.simulated,
            time=series.pack_times([row[0] for row in rows]),
            channels=self.channels,
            values=values,
        )


class _Header(msgspec.Struct, frozen=True):
    """The child's first line."""

    channels: tuple[Channel, ...]
    simulated: bool
    refusal: str | None = None


class Sampler:
    """Runs the child from `start` to `stop`; a thread empties its pipe meanwhile."""

    def __init__(self, names: Sequence[str], rate_hz: float, stop_s: float = 5.0) -> None:
        self._stop_s = stop_s
        self._names = tuple(names)
        self._rate_hz = rate_hz
        self._child: subprocess.Popen[bytes] | None = None
        self._received = bytearray()
        self._header: _Header | None = None
        self._reader: threading.Thread | None = None

    def start(self) -> None:
        """Begin to sample.

        Raises:
            MeterUnavailable: a meter does not open, or the child does not answer in time.
        """
        command = [sys.executable, "-m", "agent.sampler", "--rate-hz", str(self._rate_hz), *self._names]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        try:
            self._header = self._read_header()
        except MeterUnavailable:
            self._end_child()
            self._close_pipe()
            raise
        self._reader = threading.Thread(target=self._drain, name="sampler", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Process id of the running child."""
        assert self._child is not None
        return self._child.pid

    def stop(self) -> Recording:
        """End the child and give what it saw; a child that died or hung costs the samples after that, not before."""
        fault = self._end_child()
        if self._reader is not None:
            self._reader.join(self._stop_s)
        self._close_pipe()
        header = self._header or _Header(channels=(), simulated=False)
        return Recording(
            meter="+".join(self._names),
            simulated=header.simulated,
            channels=header.channels,
            rows=tuple(_rows(bytes(self._received), len(header.channels))),
            fault=fault,
        )

    def _read_header(self) -> _Header:
        assert self._child is not None and self._child.stdout is not None
        ready, _, _ = select.select([self._child.stdout], [], [], _START_S)
        line = self._child.stdout.readline() if ready else b""
        if not line:
            why = "ended at once" if ready else f"did not answer in {_START_S:.0f} s"
            raise MeterUnavailable(f"the sampler of {', '.join(self._names)} {why}")
        header = msgspec.json.decode(line, type=_Header)
        if header.refusal is not None:
            raise MeterUnavailable(header.refusal)
        return header

    def _drain(self) -> None:
        assert self._child is not None and self._child.stdout is not None
        while chunk := os.read(self._child.stdout.fileno(), 65536):
            self._received += chunk

    def _close_pipe(self) -> None:
        if self._child is not None and self._child.stdout is not None:
            self._child.stdout.close()

    def _end_child(self) -> str | None:
        child = self._child
        if child is None or child.stdin is None:
            return "the sampler was not started"
        died = child.poll()
        with suppress(OSError):
            child.stdin.close()
        try:
            child.wait(self._stop_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            return f"the sampler hung and was ended after {self._stop_s:.1f} s"
        return None if died is None else f"the sampler ended by itself with code {died}"


def _rows(received: bytes, channels: int) -> Iterator[Row]:
    layout = struct.Struct(f"<q{channels}d")
    whole = len(received) - len(received) % layout.size
    for time_ns, *values in layout.iter_unpack(received[:whole]):
        yield time_ns, tuple(None if math.isnan(value) else value for value in values)


def sample(
    opened: Sequence[meters.Meter],
    period_s: float,
    wait: Callable[[float], bool],
    write: Callable[[bytes], object],
    clock_ns: Callable[[], int] = time.monotonic_ns,
) -> None:
    """Write a packed row every `period_s` until `wait(seconds)` says that it is time to end."""
    layout = struct.Struct(f"<q{sum(len(meter.channels) for meter in opened)}d")
    period_ns = round(period_s * 1e9)
    due_ns = flushed_ns = clock_ns()
    buffer = bytearray()
    ended = False
    while not ended:
        now_ns = clock_ns()
        values = [value for meter in opened for value in meter.read()]
        buffer += layout.pack(now_ns, *(math.nan if value is None else value for value in values))
        due_ns = max(due_ns + period_ns, now_ns)
        ended = wait(max(0, due_ns - clock_ns()) * 1e-9)
        if ended or now_ns - flushed_ns >= _FLUSH_S * 1e9:
            write(bytes(buffer))
            buffer.clear()
            flushed_ns = now_ns


def _open_all(names: Sequence[str], period_s: float) -> tuple[list[meters.Meter], _Header]:
    opened: list[meters.Meter] = []
    try:
        opened += [meters.open_meter(name, period_s) for name in names]
    except PhasewattError as error:
        return opened, _Header(channels=(), simulated=False, refusal=str(error))
    channels = tuple(channel for meter in opened for channel in meter.channels)
    return opened, _Header(channels=channels, simulated=any(meter.simulated for meter in opened))


def main() -> int:
    """Entry point of the child: `python -m agent.sampler --rate-hz 10 METER...`."""
    for number in (signal.SIGINT, signal.SIGTERM):  # these reach the whole group; the parent decides
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate-hz", type=float, required=True)
    parser.add_argument("names", nargs="+")
    args = parser.parse_args()
    opened, header = _open_all(args.names, 1 / args.rate_hz)
    with os.fdopen(1, "wb", buffering=0) as output:
        output.write(msgspec.json.encode(header) + b"\n")
        if header.refusal is None:
            sample(opened, 1 / args.rate_hz, _stdin_ended, output.write)
    for meter in opened:
        meter.close()
    return 0 if header.refusal is None else 1


def _stdin_ended(timeout_s: float) -> bool:
    ready, _, _ = select.select([0], [], [], timeout_s)
    return bool(ready)


if __name__ == "__main__":
    sys.exit(main())
