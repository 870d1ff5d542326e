"""What the collector's ingest costs, layer by layer, for a stated mix of messages, in one run.

    python -m benchmarks.ingest_rate [--messages 4000]

Of five messages four hold a telemetry record of two minutes at 1 Hz with twelve columns (1,440 values), and one a trial
with three phases of 100 repetitions (600 values: starts and durations). They come from 20 boards, over mosquitto, into
SQLite with full sync. Beside the real collector: a bare paho subscriber that only counts, and the store alone, fed with
decoded batches by one thread. CPU time is that of the receiving process. Needs mosquitto.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from collector.store import open_store
from phasewatt import codec, series, topics
from phasewatt.codec import SentRecord
from phasewatt.fields import Phase
from phasewatt.messages import Batch, Receipt
from phasewatt.traces import Telemetry
from tests.faults import seeded
from tests.faults.field import Collector, Field, field
from tests.fixtures import records, wire

_BOARDS = 20
_SAMPLES = 120
_COLUMNS = 12
_REPETITIONS = 100
_PHASES = (Phase.PREFILL, Phase.DECODE, Phase.REQUEST)
_TRIAL_EVERY = 5
_UNRECEIPTED = 320  # at most, all boards together: the window of 16 messages of each
_LIMIT_S = 600.0
_POOL = [seeded.board_columns(str(number)) for number in range(40)]
_BARE = """
import sys
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
wanted, seen = int(sys.argv[2]), 0
def count(client, *_):
    global seen
    seen += 1
    if seen == wanted:
        client.disconnect()
client = paho.Client(CallbackAPIVersion.VERSION2, client_id="bare")
client.on_connect = lambda client, *_: client.subscribe("phasewatt/v1/+/batch/+", qos=1)
client.on_subscribe = lambda *_: print("ready", flush=True)
client.on_message = count
client.connect("127.0.0.1", int(sys.argv[1]))
client.loop_forever()
print(sum(__import__("os").times()[:2]), flush=True)
"""


class Cost(NamedTuple):
    """What a layer took for all messages."""

    wall_s: float
    cpu_s: float


class Sender:
    """Publishes what boards would, at most `_UNRECEIPTED` messages ahead of the receipts."""

    def __init__(self, port: int) -> None:
        self._room = threading.Semaphore(_UNRECEIPTED)
        self._subscribed = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="sender")
        self._client.max_inflight_messages_set(_UNRECEIPTED)
        self._client.on_connect = lambda client, *_: client.subscribe(topics.receipt("+"), qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._heard
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._subscribed.wait(10)

    def send(self, messages: Sequence[tuple[str, bytes]], paced: bool) -> None:
        """Publish all; `paced`: wait for their receipts as well."""
        for topic, payload in messages:
            if paced:
                self._room.acquire(timeout=_LIMIT_S)
            last = self._client.publish(topic, payload, qos=1)
        last.wait_for_publish(_LIMIT_S)
        for _ in range(_UNRECEIPTED if paced else 0):
            self._room.acquire(timeout=_LIMIT_S)

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def _heard(self, _client: Any, _userdata: Any, message: paho.MQTTMessage) -> None:
        receipt = codec.decode(codec.unpack(bytes(message.payload)), Receipt)
        for _ in receipt.ranges:  # a receipt may answer several messages of one board
            self._room.release()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=4000)
    args = parser.parse_args()
    batches = list(itertools.islice(_batches(), args.messages))
    messages = [(topics.batch(batch.device, batch.kind), codec.pack(codec.encode(batch))) for batch in batches]
    values = sum(_values(number) for number in range(len(batches)))
    size_mb = sum(len(payload) for _, payload in messages) / 1e6
    print(f"{len(messages)} messages, {values / 1e6:.2f} million values, {size_mb:.1f} MB on the wire")
    print(f"{'':18}{'values/s':>12}{'messages/s':>12}{'CPU s / million values':>24}")
    with tempfile.TemporaryDirectory() as scratch:
        lines = ("max_queued_messages 0", "max_inflight_messages 0")
        with field(Path(scratch), "ingest rate", *lines) as fleet:
            costs = {
                "bare subscriber": _bare(fleet, messages),
                "collector": _collector(fleet, messages),
                "store alone": _store(Path(scratch), batches),
            }
    for layer, cost in costs.items():
        rates = f"{values / cost.wall_s:12,.0f}{len(messages) / cost.wall_s:12,.0f}{cost.cpu_s / values * 1e6:24.3f}"
        print(f"{layer:18}{rates}")


def _batches() -> Iterator[Batch]:
    for number in itertools.count():
        device = f"board-{number % _BOARDS}"
        yield wire.batch_of(_record(number, device), first_seq=2 * number + 1, device=device)


def _record(number: int, device: str) -> SentRecord:
    if number % _TRIAL_EVERY == 0:
        runs = tuple(records.phase_run(phase, [1e-3 * (number + 1)] * _REPETITIONS) for phase in _PHASES)
        return records.trial(device=device, campaign=str(number), runs=runs)
    columns = _POOL[number % len(_POOL)]
    times = series.pack_times([at * 1_000_000_000 for at in range(_SAMPLES)])
    return Telemetry(device=device, boot_id=str(number), started_unix_s=1.7e9 + number, time=times, values=columns)


def _values(number: int) -> int:
    return 2 * _REPETITIONS * len(_PHASES) if number % _TRIAL_EVERY == 0 else _SAMPLES * _COLUMNS


def _bare(fleet: Field, messages: Sequence[tuple[str, bytes]]) -> Cost:
    command = [sys.executable, "-c", _BARE, str(fleet.broker.port), str(len(messages))]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process,
        closing(Sender(fleet.broker.port)) as sender,
    ):
        assert process.stdout is not None
        process.stdout.readline()
        began_s = time.monotonic()
        sender.send(messages, paced=False)
        cpu_s = float(process.stdout.readline())
        return Cost(time.monotonic() - began_s, cpu_s)


def _collector(fleet: Field, messages: Sequence[tuple[str, bytes]]) -> Cost:
    collector: Collector = fleet.collector()
    with closing(Sender(fleet.broker.port)) as sender:
        process = psutil.Process(collector.process.pid)
        before, began_s = process.cpu_times(), time.monotonic()
        sender.send(messages, paced=True)
        wall_s, after = time.monotonic() - began_s, process.cpu_times()
    stored = len(collector.stored())
    assert stored == len(messages), f"{stored} rows stored of {len(messages)}"
    return Cost(wall_s, after.user + after.system - before.user - before.system)


def _store(scratch: Path, batches: Sequence[Batch]) -> Cost:
    with closing(open_store(f"sqlite:///{scratch / 'alone.db'}", create=True)) as store:
        before_s, began_s = time.process_time(), time.monotonic()
        for batch in batches:
            store.ingest(batch, began_s)
        return Cost(time.monotonic() - began_s, time.process_time() - before_s)


if __name__ == "__main__":
    main()
