"""The live page in a real browser: what it says, on a phone and in the dark, and that nothing of a board is markup."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from collector.fleet_look import FleetLook
from collector.store import Store
from collector.subscriber import Traffic
from collector.watching import Came
from collector.web.exposition import Serving
from collector.web.live import LiveBoards
from collector.web.server import WebServer
from collector.web.site import Site
from phasewatt import codec, series, topics
from phasewatt.messages import Live
from tests.fixtures import wire
from tests.fixtures.browser import Browser, Look, Page

pytestmark = pytest.mark.browser

LOOKS = (Look("desk", 1200), Look("phone", 360), Look("dark", 1200, dark=True))
LONG = "an-exceptionally-long-but-valid-name-of-a-device-with-64-letters"
MARKUP = "<img src=x onerror=\"document.title='taken'\">"


class Showing:
    """Boards that show the same again and again, as `Watching` gives it."""

    trouble: str | None = None

    def __init__(self) -> None:
        self._turn = 0

    def ask(self, devices: Any) -> None:
        pass

    def next(self, _timeout_s: float) -> Came:
        time.sleep(0.1)
        self._turn += 1
        device = (wire.DEVICE, LONG)[self._turn % 2]
        if self._turn <= 2:
            return Came(topics.status(device), codec.encode(wire.status(device=device)))
        columns = {"module/VDD_IN/instant": ("W", 12.5), "gpu_busy": ("1", 0.5), "gpu_temperature": ("degC", 61.0)}
        values = tuple(series.pack(name, unit, 1e-3, [value]) for name, (unit, value) in columns.items())
        telemetry = wire.telemetry(
            device=device, time=series.pack_times([self._turn * 10**9]), values=values, simulated=device == LONG
        )
        return Came(topics.live(device), codec.pack(codec.encode(Live(schema=codec.SCHEMA, telemetry=telemetry))))

    def close(self) -> None:
        pass


@pytest.fixture
def server(sqlite_store: Store, tmp_path: Any) -> Iterator[WebServer]:
    now = time.time()
    for device in (wire.DEVICE, LONG):
        sqlite_store.put_facts(wire.facts(device=device, model=MARKUP), now)
        sqlite_store.put_status(wire.status(device=device), now)
    sqlite_store.quarantine(wire.DEVICE, "t", b"x", MARKUP, now)
    fleet = FleetLook(sqlite_store, tmp_path, str)
    traffic = Traffic(listening=False, received=7, waiting=2, dropped=1, trouble=None)
    live = LiveBoards(Showing)  # type: ignore[arg-type]
    server = WebServer(Site(Serving("c", "b:1", "sqlite:///x.db", fleet, lambda: traffic), live, None), "127.0.0.1", 0)
    server.start()
    yield server
    server.stop()
    live.stop()


@contextlib.contextmanager
def seen(browser: Browser, server: WebServer, look: Look) -> Iterator[Page]:
    """The page once both boards are drawn."""
    with browser.opened(server.url, look) as page:
        until(lambda: page.ask("document.querySelectorAll('#boards path').length") == 2)
        yield page


def until(condition: Callable[[], Any]) -> None:
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: look.name)
def test_boards_are_seen_and_nothing_is_wider_than_the_page(browser, server, look):
    with seen(browser, server, look) as page:
        text = page.ask("document.body.innerText")
        assert page.ask("document.documentElement.scrollWidth <= innerWidth")
        assert [found for found in page.violations() if found.impact in {"serious", "critical"}] == []
    for words in ("2 of 2 boards online.", "12.5 W", "50.0 %", "61.0 °C", f"{LONG} (simulated)", "0 to 12.5 W"):
        assert words in text
    assert "not connected to broker b:1; trying again" in text
    assert text.count(MARKUP) == 3  # two models and a refusal, letter by letter


def test_what_a_board_says_is_text(browser, server):
    with seen(browser, server, LOOKS[0]) as page:
        assert page.ask("document.title") == "phasewatt: boards now"
        assert page.ask("document.images.length") == 0


def test_what_did_not_change_stays_to_be_selected(browser, server):
    with seen(browser, server, LOOKS[0]) as page:
        page.ask("window.kept = document.querySelector('.remarks li'); window.drawn = document.querySelector('svg'); 0")
        until(lambda: page.ask("document.querySelector('svg') !== window.drawn"))
        assert page.ask("document.querySelector('.remarks li') === window.kept")


def test_a_collector_that_went_is_said_and_no_old_figure_stays(browser, server):
    with seen(browser, server, LOOKS[0]) as page:
        server.stop()
        until(
            lambda: (
                "Is the collector running?" in (text := page.ask("document.body.innerText")) and "12.5 W" not in text
            )
        )
