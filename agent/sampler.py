"""Power samples from a process of its own, so that reading sensors never runs in the process that runs the model.

This is the parent's end; `agent.sampling` is the child.
"""

from __future__ import annotations

import logging
import math
import os
import select
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from agent.cards import CardStore
from agent.sampling import Header, Opened
from phasewatt import codec, series
from phasewatt.errors import MeterUnavailable
from phasewatt.traces import Channel, Trace

logger = logging.getLogger(__name__)

_START_S = 20.0
_TRACE_BYTES = codec.MAX_PAYLOAD_BYTES // 4  # of steps at 6 characters each, before compression
_TIME = struct.Struct("<q")
_SCALE = 1e-6  # microwatts, microjoules: finer than any sensor

Row = tuple[int, tuple[float | None, ...]]


class Recording(msgspec.Struct, frozen=True):
    """What a sampler saw: rows of (time in ns, one value a channel), and what went wrong, if anything did."""

    meter: str
    simulated: bool
    channels: tuple[Channel, ...]
    rows: tuple[Row, ...]
    fault: str | None
    notes: tuple[str, ...] = ()  # what happened to the meters meanwhile

    def between(self, start_ns: int, end_ns: int) -> Recording:
        """The rows of a stretch of time."""
        return msgspec.structs.replace(self, rows=tuple(row for row in self.rows if start_ns <= row[0] <= end_ns))

    def traces(self, device: str, boot_id: str) -> tuple[Trace, ...]:
        """The recording as Trace records, each small enough for one message."""
        most = max(1, _TRACE_BYTES // (6 * (1 + len(self.channels))))
        pieces = [self.rows[at : at + most] for at in range(0, len(self.rows), most)]
        return tuple(self._trace(device, boot_id, part, len(pieces), rows) for part, rows in enumerate(pieces))

    def _trace(self, device: str, boot_id: str, part: int, parts: int, rows: Sequence[Row]) -> Trace:
        values = tuple(
            series.pack(c.name, c.unit, _SCALE, [row[1][index] for row in rows])
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


class Sampler:
    """Runs the child from `start` to `stop`; a thread empties its pipe meanwhile."""

    def __init__(
        self,
        names: Sequence[str],
        rate_hz: float,
        closely: bool = False,
        cards: CardStore | None = None,
        stop_s: float = 5.0,
    ) -> None:
        """`closely`: every channel at every reading, whatever it costs. `cards` are given to the channels."""
        self._stop_s = stop_s
        self._names = tuple(names)
        self._rate_hz = rate_hz
        self._closely = closely
        self._cards = cards
        self._child: subprocess.Popen[bytes] | None = None
        self._received = bytearray()
        self._header = Header(meters=())
        self._reader: threading.Thread | None = None

    def start(self) -> None:
        """Begin to sample.

        Raises:
            MeterUnavailable: a meter does not open, or the child does not answer in time.
        """
        closely = ["--closely"] if self._closely else []
        rate = ["--rate-hz", str(self._rate_hz)]
        command = [sys.executable, "-m", "agent.sampling", *rate, *closely, "--", *self._names]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        try:
            self._header = self._read_header()
        except MeterUnavailable:
            self._end_child()
            self._close_pipe()
            raise
        self._reader = threading.Thread(target=self._drain, name="sampler", daemon=True)
        self._reader.start()

    def attend(self) -> None:
        """Have the child read closely for `ATTENTION_S`: an edge of a window is about to come, or has just been."""
        if self._child is not None and self._child.stdin is not None:
            with suppress(OSError):
                self._child.stdin.write(b"!")

    def so_far(self) -> Recording:
        """What was sampled until about a second ago, or until the last close reading ended."""
        return self._recording(None)

    @property
    def channels(self) -> tuple[Channel, ...]:
        """What is read, with the sensor cards that hold."""
        return tuple(channel for meter in self._header.meters for channel in self._with_cards(meter))

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
        return self._recording(fault)

    def _recording(self, fault: str | None) -> Recording:
        channels = self.channels
        rows, notes = parsed(bytes(self._received), len(channels))
        return Recording(
            meter="+".join(self._names),
            simulated=any(meter.simulated for meter in self._header.meters),
            channels=channels,
            rows=rows,
            fault=fault,
            notes=notes,
        )

    def _with_cards(self, meter: Opened) -> tuple[Channel, ...]:
        if self._cards is None:
            return meter.channels
        return self._cards.with_cards(meter.name, meter.channels, meter.driver, meter.mode)

    def _read_header(self) -> Header:
        assert self._child is not None and self._child.stdout is not None
        limit_s = _START_S * len(self._names)  # they open one after the other
        ready, _, _ = select.select([self._child.stdout], [], [], limit_s)
        line = self._child.stdout.readline() if ready else b""
        if not line:
            why = "ended at once" if ready else f"did not answer in {limit_s:.0f} s"
            raise MeterUnavailable(f"the sampler of {', '.join(self._names)} {why}")
        header = msgspec.json.decode(line, type=Header)
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


def parsed(received: bytes, channels: int) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """The whole rows and notes of a stream that may be cut anywhere."""
    layout = struct.Struct(f"<q{channels}d")
    rows: list[Row] = []
    notes: list[str] = []
    at = 0
    while len(received) - at >= _TIME.size:
        (time_ns,) = _TIME.unpack_from(received, at)
        size = layout.size if time_ns >= 0 else _TIME.size - time_ns
        if len(received) - at < size:
            break
        if time_ns < 0:
            notes.append(received[at + _TIME.size : at + size].decode())
        else:
            values = layout.unpack_from(received, at)[1:]
            rows.append((time_ns, tuple(None if math.isnan(value) else value for value in values)))
        at += size
    return tuple(rows), tuple(notes)
