"""The boards that are watched: what each showed last, and which have to be asked again. No I/O, no clock of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from collector.conditions import printable
from collector.live_figures import Sample, power_w, sample_of
from phasewatt import codec, topics
from phasewatt.errors import RecordRejected
from phasewatt.messages import Live, Presence, Status, Watch
from phasewatt.topics import Topic

MOST_BOARDS = 500  # of those that announce themselves; more than a table can show, and a bound for who invents names
MOST_BYTES = 64 * 1024  # of one message; a row of telemetry takes a tenth of it
ASK_EVERY_S = 20.0
FOR_S = 45.0  # of one wish to watch: the loss of one does not interrupt the picture
SILENT_S = 5.0  # a board that samples once a second and was silent so long does not answer


class Heard(NamedTuple):
    """A sample that just came, and the total power of each scope in W."""

    device: str
    sample: Sample
    power_w: dict[str, float | None]


class Board:
    """What is known of one board since it is watched."""

    def __init__(self, device: str, since_s: float) -> None:
        self.device = device
        self.presence: Presence | None = None  # None: it never announced itself
        self.last: Heard | None = None
        self._since_s = since_s
        self._heard_s: float | None = None
        self._asked_s: float | None = None

    def silent_s(self, now_s: float) -> float:
        """How long nothing was shown by it, or since it was asked first."""
        return now_s - (self._since_s if self._heard_s is None else self._heard_s)

    def show(self, sample: Sample, now_s: float) -> Heard:
        """Take in a sample."""
        before = None if self.last is None else self.last.sample
        self.last = Heard(self.device, sample, power_w(sample, before))
        self._heard_s = now_s
        return self.last

    def meet(self, presence: Presence, now_s: float) -> None:
        """Take in whether it is there; one that just came is asked at once, and showed nothing yet."""
        if presence is Presence.ONLINE and self.presence is not Presence.ONLINE:
            self._asked_s = None
            if self.presence is not None:
                self._since_s, self._heard_s, self.last = now_s, None, None
        self.presence = presence

    def ask(self, now_s: float) -> bool:
        """Whether it has to be asked now; then it counts as asked."""
        due = self.presence is not Presence.OFFLINE and (self._asked_s is None or now_s - self._asked_s >= ASK_EVERY_S)
        self._asked_s = now_s if due else self._asked_s
        return due


class Boards:
    """The boards named, or all that say they are online. Hostile input is counted in `refused`; it raises nothing."""

    def __init__(self, named: Sequence[str], now_s: float) -> None:
        self.refused = 0
        self.last_refusal: str | None = None
        self._named = bool(named)
        self._boards = {device: Board(device, now_s) for device in named}

    def shown(self) -> list[Board]:
        """In the order of their names."""
        return [self._boards[device] for device in sorted(self._boards)]

    def due(self, now_s: float) -> list[str]:
        """The boards to ask for their telemetry now; they count as asked."""
        return [board.device for board in self.shown() if board.ask(now_s)]

    def take(self, topic: str, payload: bytes, now_s: float) -> Heard | None:
        """What a message on that topic showed; None: no sample of a board that is watched."""
        try:
            return self._take(topics.parse(topic), payload, now_s)
        except RecordRejected as error:
            self.refused += 1
            self.last_refusal = printable(str(error))[:200]
            return None

    def _take(self, topic: Topic, payload: bytes, now_s: float) -> Heard | None:
        if len(payload) > MOST_BYTES:
            raise RecordRejected(f"a payload of more than {MOST_BYTES} bytes")
        body = codec.unpack(payload, codec.MAX_PAYLOAD_BYTES)
        if topic.leaf == "live":
            return self._take_live(topic.device, codec.decode(body, Live), now_s)
        if topic.leaf == "status":
            self._take_status(topic.device, codec.decode(body, Status), now_s)
        return None

    def _take_live(self, device: str, live: Live, now_s: float) -> Heard | None:
        if live.telemetry.device != device:
            raise RecordRejected(f"telemetry of device {live.telemetry.device} on the topic of another")
        board = self._boards.get(device)
        sample = sample_of(live.telemetry)
        return None if board is None or sample is None else board.show(sample, now_s)

    def _take_status(self, device: str, status: Status, now_s: float) -> None:
        if status.device != device:
            raise RecordRejected(f"the status of device {status.device} on the topic of another")
        if device not in self._boards and not self._named and status.presence is Presence.ONLINE:
            if len(self._boards) >= MOST_BOARDS:
                raise RecordRejected(f"more than {MOST_BOARDS} boards are online: name those to watch")
            self._boards[device] = Board(device, now_s)
        if device in self._boards:
            self._boards[device].meet(status.presence, now_s)


def wish(watcher: str) -> bytes:
    """What asks a board for its live telemetry."""
    return codec.encode(Watch(watcher=watcher, for_s=FOR_S))
