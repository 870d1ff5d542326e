"""Pages of `serve`: what is shown, to whom, and that a store or broker that fails is said and not guessed."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import queue
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from collector import settings
from collector.enrolled import Enrolled, Issued, save
from collector.fleet_look import KEPT_S, RECENT_S, FleetLook
from collector.settings import Address, WebSettings
from collector.subscriber import Subscriber, Traffic
from collector.watching import Came, Watching
from collector.web.exposition import Serving
from collector.web.live import HISTORY_S, LOOKED_S, LiveBoards
from collector.web.server import WebServer
from collector.web.site import Site
from phasewatt import codec, series, topics
from phasewatt.errors import BrokerUnavailable, ConfigInvalid, StoreUnavailable
from phasewatt.messages import Live, Presence
from tests.fixtures import wire
from tests.fixtures.records import changed
from tests.fixtures.wire import DEVICE, STARTED_UNIX_S

GOOD = Traffic(listening=True, received=7, waiting=2, dropped=1, trouble=None)
NOW = STARTED_UNIX_S + 60


def sampled(*rows: dict[str, float | None], units: dict[str, str], **fields: Any) -> Any:
    """Telemetry of one row a second."""
    columns = [series.pack(name, unit, 1e-3, [row.get(name) for row in rows]) for name, unit in units.items()]
    times = series.pack_times([1_000_000_000 * at for at in range(1, len(rows) + 1)])
    return wire.telemetry(time=times, values=tuple(columns), **fields)


def look(store: Any, tmp_path: Any, clock: Callable[[], float] = lambda: NOW) -> FleetLook:
    return FleetLook(store, tmp_path, str, clock)


def serving(fleet: Callable[[], Any], traffic: Traffic = GOOD) -> Serving:
    return Serving("centre", "broker.example:8884", "sqlite:///x.db", fleet, lambda: traffic)


def nobody() -> Watching:
    raise BrokerUnavailable("broker b:1: nobody there")


@contextlib.contextmanager
def site(told: Serving, password: str | None = None, live: LiveBoards | None = None) -> Iterator[WebServer]:
    live = live or LiveBoards(nobody)
    server = WebServer(Site(told, live, password), "127.0.0.1", 0)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        live.stop()


def answer(server: WebServer, path: str, method: str = "GET", **headers: str) -> tuple[int, str, Any]:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=20)
    with contextlib.closing(connection):
        connection.request(method, path, headers={name.replace("_", "-"): text for name, text in headers.items()})
        said = connection.getresponse()
        return said.status, said.read().decode(), said.headers


def samples(page: str) -> dict[tuple[str, ...], float]:
    """Each series by its name and the values of its labels."""
    return {
        (sample.name.removeprefix("phasewatt_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def scraped(told: Serving) -> dict[tuple[str, ...], float]:
    with site(told) as server:
        code, page, headers = answer(server, "/metrics")
    assert code == 200 and headers["Content-Type"].startswith("text/plain")
    return samples(page)


def test_figures_of_a_board_are_those_of_the_store(sqlite_store, tmp_path):
    sqlite_store.put_facts(wire.facts(model='a "b"\\\n'), NOW - 3)
    sqlite_store.put_status(wire.status(), NOW - 3)
    sqlite_store.ingest(wire.batch_of(*wire.events(2), first_seq=3), NOW - 2)
    sqlite_store.quarantine(DEVICE, "t", b"x", "not JSON", NOW - 1)
    sqlite_store.quarantine(None, "t", b"x", "no board", NOW - 1)
    save(tmp_path, Enrolled(boards={DEVICE: (Issued(issued_unix_s=1.0, expires_unix_s=NOW - 9, serial="1"),)}))
    found = scraped(serving(look(sqlite_store, tmp_path)))
    assert {
        ("board_online", DEVICE): 1,
        ("board_silent", DEVICE): 0,
        ("board_last_heard_timestamp_seconds", DEVICE): NOW - 2,
        ("board_records_pending", DEVICE): 3,
        ("board_records_missing", DEVICE): 2,
        ("board_records_dropped_total", DEVICE, "trace"): 2,
        ("board_records_dropped_total", DEVICE, "event"): 0,
        ("board_records_lost", DEVICE): 0,  # two did not come, and two were given up
        ("board_revoked", DEVICE): 0,
        ("board_refusals_total", DEVICE): 1,
        ("board_clock_synchronised", DEVICE): 1,
        ("board_certificate_expiry_timestamp_seconds", DEVICE): NOW - 9,  # over, and still told
        ("refusals_of_no_board_total",): 1,
        ("collector_store_up",): 1,
        ("collector_messages_received_total",): 7,
        ("collector_messages_dropped_total",): 1,
        ("jobs", "queued"): 0,
    }.items() <= found.items()
    assert [key for key in found if key[0] == "board_info"] == [("board_info", DEVICE, "", 'a "b"\\\ufffd', "")]


def test_what_is_not_known_has_no_series(sqlite_store, tmp_path):
    """A board that never announced itself is neither online nor offline, and holds nobody knows how much."""
    sqlite_store.ingest(wire.batch_of(*wire.events(1), clock=changed(wire.batch([]).clock, synchronised=None)), NOW)
    found = {key[0] for key in scraped(serving(look(sqlite_store, tmp_path)))}
    assert "board_trials" in found
    unknown = {
        "board_online",
        "board_silent",
        "board_records_lost",
        "board_records_dropped_total",
        "board_records_pending",
        "board_clock_synchronised",
        "board_power_watts",
    }
    assert not found & {*unknown, "board_certificate_expiry_timestamp_seconds", "board_telemetry_timestamp_seconds"}


def test_newest_telemetry_is_shown_with_what_it_lacks_left_out(sqlite_store, tmp_path):
    """Power by scope; that of a counter by its growth; a simulated board is marked; what is old says nothing."""
    units = {
        "cpu-package/package/counter": "J",
        "gpu-board/GPU 0/instant": "W",
        "gpu_busy": "1",
        "gpu_temperature": "degC",
    }
    rows = (
        {"cpu-package/package/counter": 100.0, "gpu-board/GPU 0/instant": 300.0, "gpu_busy": 0.5},
        {"cpu-package/package/counter": 130.0, "gpu-board/GPU 0/instant": None, "gpu_busy": 0.75},
    )
    older = wire.telemetry(started_unix_s=STARTED_UNIX_S - 10)
    newest = sampled(*rows, units=units, simulated=True)
    sqlite_store.ingest(wire.batch_of(older, newest), NOW)
    found = scraped(serving(look(sqlite_store, tmp_path)))
    assert found["board_power_watts", DEVICE, "cpu-package", "true"] == pytest.approx(30.0)
    assert found["board_busy_ratio", DEVICE, "gpu", "true"] == 0.75
    assert found["board_telemetry_timestamp_seconds", DEVICE] == STARTED_UNIX_S + 1
    assert not [key for key in found if "gpu-board" in key or key[0] == "board_temperature_celsius"]
    for asked_s, held in ((RECENT_S - 1, True), (RECENT_S + 1, False)):
        later = scraped(serving(look(sqlite_store, tmp_path, lambda asked_s=asked_s: NOW + asked_s)))
        assert any(key[0] == "board_busy_ratio" for key in later) is held


@pytest.mark.parametrize("ahead_s", [-1e9, 0.0, 3e7])
def test_a_boards_clock_does_not_decide_what_is_recent(sqlite_store, tmp_path, ahead_s):
    """What was received in three of its intervals is; a record of a clock that was ahead is not newest for ever."""
    wrong = wire.telemetry(started_unix_s=STARTED_UNIX_S + 3e7)
    sqlite_store.ingest(wire.batch_of(wrong, epoch="epoch-0"), NOW - 9000)
    shown = sampled({"cpu_busy": 0.5}, units={"cpu_busy": "1"}, started_unix_s=STARTED_UNIX_S + ahead_s)
    sqlite_store.put_status(wire.status(telemetry_interval_s=900.0), NOW - 2600)
    sqlite_store.ingest(wire.batch_of(shown), NOW - 2600)
    found = scraped(serving(look(sqlite_store, tmp_path)))
    assert found["board_busy_ratio", DEVICE, "cpu", "false"] == 0.5
    assert found["board_telemetry_timestamp_seconds", DEVICE] == STARTED_UNIX_S + ahead_s


def test_names_that_a_board_invents_make_no_series(sqlite_store, tmp_path):
    sqlite_store.put_status(wire.status(dropped={f"kind {n}": n for n in range(500)} | {"event": 7}), NOW)
    found = scraped(serving(look(sqlite_store, tmp_path)))
    assert {key[2]: value for key, value in found.items() if key[0] == "board_records_dropped_total"} == {
        "trial": 0,
        "trace": 0,
        "telemetry": 0,
        "event": 7,
    }


def test_a_failure_is_kept_for_a_while_too(sqlite_store, tmp_path, monkeypatch):
    now_s, asked = [NOW], []

    def fails() -> Any:
        asked.append(now_s[0])
        raise StoreUnavailable("database x: gone")

    monkeypatch.setattr(sqlite_store, "devices", fails)
    looking = look(sqlite_store, tmp_path, lambda: now_s[0])
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            looking()
    assert len(asked) == 1
    monkeypatch.undo()
    now_s[0] += KEPT_S
    assert looking().devices.devices == []


def test_a_store_that_fails_is_a_figure_and_costs_no_other(sqlite_store):
    def fails() -> Any:
        raise StoreUnavailable("database x: gone")

    found = scraped(serving(fails, GOOD._replace(listening=False, trouble="x")))
    assert (found["collector_store_up",], found["collector_listening",], found["collector_ingest_up",]) == (0, 0, 0)
    assert not [key for key in found if key[0].startswith("board_")]
    with site(serving(fails, GOOD._replace(listening=False, trouble="disk full"))) as server:
        told = json.loads(answer(server, "/boards.json")[1])
    assert told["boards"] == []
    gone, away, full, *_ = told["trouble"]
    assert (gone, full) == ("database x: gone", "nothing is stored: disk full")
    assert away == "not connected to broker broker.example:8884; trying again"


def test_a_look_is_shared_for_a_while(sqlite_store, tmp_path):
    now_s = [NOW]
    looking = look(sqlite_store, tmp_path, lambda: now_s[0])
    assert looking().devices.devices == []
    sqlite_store.put_status(wire.status(), NOW)
    assert looking().devices.devices == []
    now_s[0] += KEPT_S
    assert [board.device for board in looking().devices.devices] == [DEVICE]
    now_s[0] -= 3600  # a clock that was set back keeps no old look alive
    sqlite_store.put_status(wire.status(device="board-2"), NOW)
    assert len(looking().devices.devices) == 2


def test_the_format_is_the_one_that_was_asked_for(sqlite_store, tmp_path):
    with site(serving(look(sqlite_store, tmp_path))) as server:
        _, page, headers = answer(server, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
        for odd in ("application/openmetrics-text; version=abc", "text/plain; version=", ",;,", "\u00ff"):
            assert answer(server, "/metrics", Accept=odd)[0] == 200
    assert headers["Content-Type"].startswith("application/openmetrics-text") and page.endswith("# EOF\n")


def test_requests_that_are_refused(sqlite_store, tmp_path):
    with site(serving(look(sqlite_store, tmp_path))) as server:
        assert answer(server, "/", "POST")[:2] == (405, "this page is for reading\n")
        assert answer(server, "/../settings.py")[0] == 404
        assert answer(server, "/", Host="evil.example:80")[0] == 403
        assert answer(server, "/", Host="[::1")[0] == 403
        for host in ("localhost", "127.0.0.1:1", "[::1]:9"):
            assert answer(server, "/", Host=host)[0] == 200
        code, body, headers = answer(server, "/", "HEAD")
        assert (code, body) == (200, "") and int(headers["Content-Length"]) > 500
        assert "script-src 'self'" in headers["Content-Security-Policy"]


def test_a_password_is_asked_for(sqlite_store, tmp_path):
    def proof(user: str, password: str) -> str:
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    with site(serving(look(sqlite_store, tmp_path)), password="correct horse battery") as server:
        for wrong in (
            "",
            "Basic",
            "Basic !",
            "Bearer x",
            proof("phasewatt", "wrong"),
            proof("root", "correct horse battery"),
        ):
            for path in ("/", "/metrics", "/boards.json", "/page.js", "/nothing"):
                code, _, headers = answer(server, path, Authorization=wrong)
                assert (code, headers["WWW-Authenticate"].split()[0]) == (401, "Basic")
        right = proof("phasewatt", "correct horse battery")
        assert answer(server, "/metrics", Authorization=right, Host="collector:9464")[0] == 200


@pytest.mark.parametrize("address", ["9464", "127.0.0.1:http", "127.0.0.1:70000", "127.0.0.1"])
def test_an_address_of_another_form_is_refused(address):
    with pytest.raises(ConfigInvalid, match=f"web.address: expected HOST:PORT.*{address}"):
        settings.pages_of(WebSettings(address=address))


@pytest.mark.parametrize("host", ["0.0.0.0", "centre.example", "192.0.2.1"])
def test_without_a_password_nobody_on_another_host_is_shown_anything(host):
    with pytest.raises(ConfigInvalid, match=f"web.password_file: expected, since others reach {host}"):
        settings.pages_of(WebSettings(address=f"{host}:9464"))


def test_password_files_that_are_refused(tmp_path):
    file = tmp_path / "password"

    def refusal(address: str | None = "0.0.0.0:1") -> str:
        with pytest.raises(ConfigInvalid) as caught:
            settings.pages_of(WebSettings(address=address, password_file=str(file)))
        return str(caught.value)

    assert "expected a file" in refusal()
    file.write_text("a password of many letters\n")
    file.chmod(0o644)
    assert "others can read" in refusal()
    file.chmod(0o600)
    assert "web.address: expected beside" in refusal(None)
    found = settings.pages_of(WebSettings(address="0.0.0.0:1", password_file=str(file)))
    assert found == settings.Pages("0.0.0.0", 1, "a password of many letters")
    file.write_text("short")
    assert "16 letters or more" in refusal()
    file.write_bytes(b"\xff" * 20)
    assert "cannot read" in refusal()


def test_defaults_of_an_address():
    assert settings.pages_of(WebSettings()) is None
    assert settings.pages_of(WebSettings(address=":9464")) == settings.Pages("127.0.0.1", 9464, None)
    assert settings.pages_of(WebSettings(address="[::1]:0")) == settings.Pages("::1", 0, None)


def test_a_port_that_is_taken_is_said_in_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigInvalid, match=f"web: cannot listen on 127.0.0.1:{port}: Address already in use"):
            WebServer(lambda _environ, _start: [], "127.0.0.1", port)


def test_twenty_connections_that_say_nothing_keep_nobody_out(sqlite_store, tmp_path):
    with site(serving(look(sqlite_store, tmp_path))) as server, contextlib.ExitStack() as stack:
        for _ in range(20):
            idle = stack.enter_context(socket.create_connection((server.host, server.port)))
            idle.sendall(b"GET / HTTP/1.1\r\nX: ")
        assert answer(server, "/metrics")[0] == 200


class Boards:
    """A broker's end for the live page: what comes, and who was asked."""

    def __init__(self) -> None:
        self.coming: queue.Queue[Came] = queue.Queue()
        self.asked: list[str] = []
        self.open = 0
        self.trouble: str | None = None

    def watch(self) -> Any:
        self.open += 1
        return self

    def ask(self, devices: Any) -> None:
        self.asked += devices

    def next(self, _timeout_s: float) -> Came | None:
        with contextlib.suppress(queue.Empty):
            return self.coming.get(timeout=0.02)
        return None

    def close(self) -> None:
        self.open -= 1

    def come_online(self) -> None:
        self.coming.put(Came(topics.status(DEVICE), codec.encode(wire.status(presence=Presence.ONLINE))))

    def show(self, power_w: float | None) -> None:
        telemetry = sampled({"module/VDD_IN/instant": power_w}, units={"module/VDD_IN/instant": "W"})
        body = codec.encode(Live(schema=codec.SCHEMA, telemetry=telemetry))
        self.coming.put(Came(topics.live(DEVICE), codec.pack(body)))


def until(condition: Callable[[], Any]) -> Any:
    deadline_s = time.monotonic() + 20
    while not (found := condition()):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    return found


@pytest.fixture
def boards() -> Boards:
    return Boards()


@pytest.fixture
def now_s() -> list[float]:
    return [1000.0]


@pytest.fixture
def live(boards: Boards, now_s: list[float]) -> Iterator[LiveBoards]:
    made = LiveBoards(boards.watch, lambda: now_s[0])
    yield made
    made.stop()
    until(lambda: boards.open == 0)


def test_boards_are_asked_only_while_somebody_looks(boards, live, now_s):
    assert boards.open == 0
    assert live.view().boards == {}
    boards.come_online()
    until(lambda: boards.asked == [DEVICE])
    boards.show(12.5)
    seen = until(lambda: live.view().boards)[DEVICE]
    assert [moment.power_w for moment in seen.history] == [{"module": 12.5}]
    now_s[0] += LOOKED_S
    until(lambda: boards.open == 0)
    assert live.view().boards == {}  # what it showed then says nothing of now
    until(lambda: boards.open == 1)


def test_power_that_a_board_did_not_get_is_missing_and_not_zero(boards, live):
    live.view()
    boards.come_online()
    boards.show(None)
    seen = until(lambda: live.view().boards)[DEVICE]
    assert [moment.power_w for moment in seen.history] == [{"module": None}]


def test_what_was_shown_long_ago_goes(boards, live, now_s):
    live.view()
    boards.come_online()
    for power_w in (1.0, 2.0, 3.0):
        boards.show(power_w)
        until(boards.coming.empty)
        until(lambda at=now_s[0]: (seen := live.view().boards) and seen[DEVICE].history[-1].time_s == at)
        after_s = HISTORY_S / 2 - 1 if power_w < 2 else HISTORY_S / 2 + 5
        live._looked_s = now_s[0] + after_s  # it was looked at meanwhile
        now_s[0] += after_s
    history = live.view().boards[DEVICE].history
    assert [moment.power_w["module"] for moment in history] == [2.0, 3.0]


def test_a_board_that_fell_silent_shows_no_power_of_now(boards, live, now_s, sqlite_store, tmp_path):
    boards.come_online()
    boards.show(12.5)
    sqlite_store.put_status(wire.status(), NOW)
    with site(serving(look(sqlite_store, tmp_path)), live=live) as server:
        (card,) = until(lambda: [c for c in json.loads(answer(server, "/boards.json")[1])["boards"] if c["lines"]])
        assert (card["age"], card["lines"][0]["now"]) == ("now", "12.5 W")
        now_s[0] += 9.0
        (card,) = json.loads(answer(server, "/boards.json")[1])["boards"]
    assert (card["age"], card["lines"][0]["now"], card["figures"]) == ("silent 9 s", None, [])
    assert card["held"] == [["trials", "0"], ["waiting on the board", "3"], ["given up", "2"]]


def test_why_nothing_can_be_watched_is_said(sqlite_store, tmp_path):
    with site(serving(look(sqlite_store, tmp_path))) as server:
        found = until(lambda: json.loads(answer(server, "/boards.json")[1])["trouble"])
    assert found == ["broker b:1: nobody there"]


def test_a_subscriber_tells_how_its_traffic_goes(sqlite_store):
    subscriber = Subscriber(Address(False, "127.0.0.1", 1), settings.BrokerSettings(), "c", sqlite_store)
    assert subscriber.traffic == Traffic(listening=False, received=0, waiting=0, dropped=0, trouble=None)
