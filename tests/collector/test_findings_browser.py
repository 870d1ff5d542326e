"""The page of findings in a real browser, as the report is looked at."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from collector.findings import answers, remarks
from collector.report import findings_page
from tests.collector.test_report_browser import FRAME, LONG, address, browse
from tests.fixtures import study

pytestmark = pytest.mark.browser
__all__ = ["address"]  # a fixture


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page of a device of a long name and of one with little to say."""
    several = [*study.paper(device=LONG), *study.paper(device="b", marks=("not alone " * 20,))[:4]]
    folder = tmp_path_factory.mktemp("findings")
    page = findings_page.render("x" * 200, answers(several), remarks(several), 1.7e9)
    (folder / "report.html").write_text(page, encoding="utf-8")
    for width in (320, 1280):
        (folder / f"{width}.html").write_text(FRAME.replace("WIDTH", str(width)))
    return folder


@pytest.mark.parametrize("width", [320, 1280])
def test_the_page_fits_and_fetches_nothing(address: str, tmp_path: Path, width: int) -> None:
    page, console = browse(f"{address}/{width}.html", tmp_path)
    found = re.search(r'<pre id="seen">(.+?)</pre>', page)
    assert found is not None
    seen = json.loads(found[1])
    assert seen["needed"] <= seen["width"] <= width
    assert seen["fetched"] == [] and console == []
    assert seen["drawings"] >= 8 and seen["narrowest"] > 200 and seen["highest"] < 700
