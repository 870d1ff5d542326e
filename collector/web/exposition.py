"""The fleet in Prometheus's words: one family a figure, a series left out where its value is not known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import ProcessCollector
from prometheus_client.core import CollectorRegistry, CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from collector.conditions import printable
from collector.fleet import Device, Fleet, Shown
from phasewatt import __version__
from phasewatt.errors import PhasewattError
from phasewatt.fields import Kind
from phasewatt.jobs import State
from phasewatt.messages import Presence

if TYPE_CHECKING:
    from collector.subscriber import Traffic

PREFIX = "phasewatt_"


class Serving(NamedTuple):
    """The collector that serves: its name, and what it can be asked."""

    name: str
    broker: str
    database: str
    fleet: Callable[[], Fleet]  # raises StoreUnavailable, ConfigInvalid
    traffic: Callable[[], Traffic]


class _Figure(NamedTuple):
    """A figure of a board: the end of its name, what it says, and how to get it; None: not known."""

    name: str
    help: str
    of: Callable[[Device], float | None]
    counts: bool = False  # it only rises


class _Sampled(NamedTuple):
    """A figure of the newest stored telemetry: the columns with the part of the board of each, and their unit."""

    name: str
    help: str
    columns: Mapping[str, str]
    unit: str


_OF_BOARDS = (
    _Figure(
        "online",
        "Whether the board says that it is there: 1, or 0.",
        lambda board: None if board.presence is None else float(board.presence == Presence.ONLINE.value),
    ),
    _Figure(
        "silent",
        "Whether it is online and was not heard for three of its own intervals.",
        lambda board: None if board.telemetry_interval_s is None else board.silent_since_unix_s is not None,
    ),
    _Figure(
        "last_heard_timestamp_seconds",
        "When something of it was last accepted, by this collector's clock.",
        lambda board: board.last_seen_unix_s,
    ),
    _Figure("trials", "Trials of it that are held.", lambda board: board.trials),
    _Figure(
        "records_pending", "Records that it holds without a receipt, as it said last.", lambda board: board.pending
    ),
    _Figure("records_missing", "Records that did not come though later ones did.", lambda board: board.missing),
    _Figure(
        "records_lost",
        "Records of the outbox in use that did not come and were not given up; while some wait, they may still come.",
        lambda board: board.lost,
    ),
    _Figure("records_withheld", "Records of a newer version that wait on the board.", lambda board: board.withheld),
    _Figure(
        "refusals", "Messages and records of it that were put aside.", lambda board: board.quarantined, counts=True
    ),
    _Figure(
        "key_conflicts",
        "Among the refusals, records whose key is held with another body.",
        lambda board: board.key_conflicts,
        counts=True,
    ),
    _Figure("contenders", "Boards that answer to this name, where several do.", lambda board: len(board.contenders)),
    _Figure(
        "clock_synchronised",
        "Whether its last batch said that its clock is synchronised.",
        lambda board: None if board.clock is None or board.clock.synchronised is None else board.clock.synchronised,
    ),
)
_SAMPLED = (
    _Sampled(
        "temperature_celsius",
        "Temperature.",
        {"gpu_temperature": "gpu", "temperature": "host"},
        "degC",
    ),
    _Sampled("busy_ratio", "Share of time in which it was busy.", {"gpu_busy": "gpu", "cpu_busy": "cpu"}, "1"),
    _Sampled(
        "clock_hertz",
        "Clock.",
        {"gpu_clock": "gpu", "cpu_clock": "cpu", "emc_clock": "memory"},
        "Hz",
    ),
    _Sampled(
        "available_bytes",
        "Room that is left.",
        {"memory_available": "memory", "disk_free": "disk"},
        "B",
    ),
    _Sampled("gpu_memory_used_bytes", "Memory of its GPUs that is taken.", {"gpu_memory_used": "gpu"}, "B"),
)


class _Families(Collector):
    """Asked at each scrape. What cannot be read is left out, and `store_up` says so."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    def collect(self) -> Iterable[Metric]:
        """All families."""
        serving = self._serving
        info = {"collector": serving.name, "version": __version__, "database": serving.database}
        yield _single("collector_info", "This collector.", 1.0, info)
        yield from _of_traffic(serving.traffic())
        try:
            fleet = serving.fleet()
        except PhasewattError:
            yield _single("collector_store_up", "Whether boards could be read just now, from store and authority.", 0.0)
            return
        yield _single("collector_store_up", "Whether boards could be read just now, from store and authority.", 1.0)
        yield from _of_fleet(fleet)


def page(serving: Serving, accept: str) -> tuple[bytes, str]:
    """What Prometheus reads, in the format that `accept` asks for, and that format's media type."""
    registry = CollectorRegistry()
    registry.register(_Families(serving))
    ProcessCollector(registry=registry)
    encode, media_type = _encoder(accept)
    return encode(registry), media_type


def _encoder(accept: str) -> tuple[Callable[[CollectorRegistry], bytes], str]:
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):  # what the library makes of a version that is none
        return choose_encoder("")


def _of_traffic(traffic: Traffic) -> Iterator[Metric]:
    yield _single("collector_listening", "Whether the broker lets it hear boards: 1, or 0.", float(traffic.listening))
    yield _single("collector_ingest_up", "Whether the last message could be stored.", float(traffic.trouble is None))
    yield _single("collector_messages_waiting", "Messages that are not stored yet.", float(traffic.waiting))
    received = CounterMetricFamily(f"{PREFIX}collector_messages_received", "Messages that came from the broker.")
    received.add_metric((), traffic.received)
    yield received
    dropped = CounterMetricFamily(
        f"{PREFIX}collector_messages_dropped", "Messages that found the inbox full; their boards send them again."
    )
    dropped.add_metric((), traffic.dropped)
    yield dropped


def _of_fleet(fleet: Fleet) -> Iterator[Metric]:
    boards = fleet.devices.devices
    yield _infos(boards)
    for figure in _OF_BOARDS:
        yield _figure(figure, boards)
    yield _dropped(boards)
    ends = _gauge("board_certificate_expiry_timestamp_seconds", "When its newest certificate ends.", "board")
    for board, end_unix_s in fleet.certificate_ends_unix_s.items():
        ends.add_metric((board,), end_unix_s)
    yield ends
    revoked = _gauge("board_revoked", "Whether it was shut out, and given nothing since.", "board")
    for one in boards:
        revoked.add_metric((one.device,), one.device in fleet.revoked)
    yield revoked
    changed = _gauge("board_drifts", "Series of canaries whose level changed in the last 30 days.", "board")
    for one in boards:
        changed.add_metric((one.device,), fleet.changed.get(one.device, 0))
    yield changed
    yield from _of_telemetry(fleet.shown)
    jobs = _gauge("jobs", "Jobs on boards that are not over.", "state")
    for state in State:
        if not state.is_final:
            jobs.add_metric((state.value,), fleet.jobs.get(state, 0))
    yield jobs
    nobodys = CounterMetricFamily(f"{PREFIX}refusals_of_no_board", "Messages that named no board and were put aside.")
    nobodys.add_metric((), sum(refusal.occurrences for refusal in fleet.devices.refusals))
    yield nobodys


def _infos(boards: Iterable[Device]) -> Metric:
    labels = ("board", "model", "module", "carrier")
    infos = _gauge("board_info", "What the board is.", *labels)
    for board in boards:
        infos.add_metric((board.device, *map(_label, (board.model, board.module, board.carrier))), 1.0)
    return infos


def _figure(figure: _Figure, boards: Iterable[Device]) -> Metric:
    make = CounterMetricFamily if figure.counts else GaugeMetricFamily
    family: CounterMetricFamily | GaugeMetricFamily = make(
        f"{PREFIX}board_{figure.name}", figure.help, labels=["board"]
    )
    for board in boards:
        if (value := figure.of(board)) is not None:
            family.add_metric((board.device,), float(value))
    return family


def _dropped(boards: Iterable[Device]) -> Metric:
    """Of every kind, from the first on: what only appears once it is lost was never seen to rise."""
    told = "Records that it gave up at its disk cap, in this outbox."
    dropped = CounterMetricFamily(f"{PREFIX}board_records_dropped", told, labels=["board", "kind"])
    for board in boards:
        if board.dropped is not None:
            for kind in Kind:  # and not what else a board may name
                dropped.add_metric((board.device, kind.value), board.dropped.get(kind.value, 0))
    return dropped


def _of_telemetry(shown: Mapping[str, Shown]) -> Iterator[Metric]:
    """Of boards whose newest stored telemetry is recent; what a simulated board shows is marked."""
    when = _gauge("board_telemetry_timestamp_seconds", "When that was sampled, by the board's clock.", "board")
    power = _gauge("board_power_watts", "Power by scope in its newest stored telemetry.", "board", "scope", "simulated")
    for board, each in shown.items():
        when.add_metric((board,), each.unix_s)
        for scope, power_w in each.power_w.items():
            if power_w is not None:
                power.add_metric((board, scope, _truth(each.sample.simulated)), power_w)
    yield when
    yield power
    for family in _SAMPLED:
        yield _sampled(family, shown)


def _sampled(sampled: _Sampled, shown: Mapping[str, Shown]) -> Metric:
    family = _gauge(f"board_{sampled.name}", sampled.help, "board", "part", "simulated")
    for board, each in shown.items():
        for column, part in sampled.columns.items():
            found = each.sample.values.get(column)
            if found is not None and found.value is not None and found.unit == sampled.unit:
                family.add_metric((board, part, _truth(each.sample.simulated)), found.value)
    return family


def _single(name: str, told: str, value: float, labels: Mapping[str, str] | None = None) -> Metric:
    family = _gauge(name, told, *(labels or {}))
    family.add_metric(tuple(map(_label, (labels or {}).values())), value)
    return family


def _gauge(name: str, told: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}{name}", told, labels=labels)


def _label(text: str | None) -> str:
    return printable(text or "")


def _truth(is_so: bool) -> str:
    return "true" if is_so else "false"
