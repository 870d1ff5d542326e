"""The report in a real browser, measured by a page that holds it in a frame of a phone's or a desk's width."""

from __future__ import annotations

import functools
import http.server
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.compare import compare
from collector.report import html
from collector.report.evidence import Evidence
from tests.fixtures.trials import GPU, PACKAGE, conditions, failed, measured

pytestmark = pytest.mark.browser

TIMEOUT_S = 120
LONG = "an-exceptionally-long-but-valid-name-of-a-device-with-64-letters"
FRAME = """<!doctype html><title>frame</title>
<iframe id="page" src="report.html" width="WIDTH" height="800"></iframe><pre id="seen"></pre>
<script>
document.getElementById("page").onload = function () {
  const page = this.contentWindow, root = page.document.documentElement;
  const drawn = [...page.document.querySelectorAll("svg")].map(svg => svg.getBoundingClientRect());
  document.getElementById("seen").textContent = JSON.stringify({
    width: root.clientWidth,
    needed: root.scrollWidth,
    fetched: page.performance.getEntriesByType("resource").map(entry => entry.name),
    drawings: drawn.length,
    narrowest: Math.min(...drawn.map(box => box.width)),
    highest: Math.max(...drawn.map(box => box.height)),
  });
};
</script>"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a report that has every kind of content, long names included."""
    trials = [
        measured("alpha", sensors=[GPU, PACKAGE]),
        measured("alpha", under=conditions(threads=1), slowness=1.8, sensors=[GPU, PACKAGE]),
        *(measured(f"{LONG[:-2]}-{number}", slowness=number) for number in range(1, 6)),
    ]
    comparison = compare([*(each.stored for each in trials), failed("gamma", reason="x" * 300)])
    traces = {each.stored.record_id: each.traces for each in trials}
    evidences = [
        Evidence(work.work_id, work.title, group.label, place, each.stored.trial, traces[each.stored.record_id])
        for work in comparison.works
        for place, group in enumerate(comparison.groups)
        for each in trials
        if each.stored.record_id in work.trials[group.label]
    ]
    folder = tmp_path_factory.mktemp("report")
    (folder / "report.html").write_text(html.render(comparison, evidences, 1.7e9), encoding="utf-8")
    for width in (320, 1280):
        (folder / f"{width}.html").write_text(FRAME.replace("WIDTH", str(width)))
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """Where the folder is served: frames of local files may not be looked into."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_request(self, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def browse(url: str, profile: Path) -> tuple[str, list[str]]:
    """The page as the browser has it in the end, and what it wrote to its console."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    done = subprocess.run(
        [
            *(program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--disable-background-networking", "--no-first-run", f"--user-data-dir={profile}"),
            *("--enable-logging=stderr", "--virtual-time-budget=10000", "--window-size=1400,1000", "--dump-dom", url),
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.parametrize("width", [320, 1280])
def test_the_page_fits_and_fetches_nothing(address: str, tmp_path: Path, width: int) -> None:
    page, console = browse(f"{address}/{width}.html", tmp_path)
    found = re.search(r'<pre id="seen">(.+?)</pre>', page)
    assert found is not None
    seen = json.loads(found[1])
    assert seen["needed"] <= seen["width"] <= width
    assert seen["fetched"] == []
    assert console == []
    assert seen["drawings"] >= 10
    assert seen["narrowest"] > 200
    assert seen["highest"] < 1200


def test_the_file_opened_by_itself_has_no_console_message(folder: Path, tmp_path: Path) -> None:
    page, console = browse(f"file://{folder / 'report.html'}", tmp_path)
    assert console == []
    assert "beside alpha" in page


def test_a_console_message_would_be_seen(folder: Path, tmp_path: Path) -> None:
    """The check above can fail: a picture from elsewhere is refused by the page's policy, and the browser says so."""
    whole = (folder / "report.html").read_text(encoding="utf-8")
    (tmp_path / "bad.html").write_text(whole.replace("<main>", '<main><img src="http://127.0.0.1:9/x.png">'))
    _, console = browse(f"file://{tmp_path / 'bad.html'}", tmp_path / "profile")
    assert len(console) == 1
