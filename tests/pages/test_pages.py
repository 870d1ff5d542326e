"""Every page in a real browser: axe-core finds nothing serious, nothing is wider than the screen or the paper."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from tests.fixtures.browser import Browser, Look, axe_core
from tests.fixtures.pages import LOOKS, PAGES

pytestmark = pytest.mark.browser

NARROW_PX = 400
SERIOUS = {"serious", "critical"}
WIDER = """[...document.querySelectorAll("body *")]
  .filter(each => each.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)
  .filter(each => !each.closest(".skip") && getComputedStyle(each).clipPath == "none")
  .slice(0, 5).map(each => each.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="module", autouse=True)
def axe_is_installed() -> None:
    try:
        axe_core()
    except PackageNotFoundError:
        pytest.skip("axe-core is not installed: `make test` installs it")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    for name, made in PAGES.items():
        (folder / f"{name}.html").write_text(made(), encoding="utf-8")
    return folder


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: look.name)
@pytest.mark.parametrize("name", list(PAGES))
def test_a_page_is_fit_for_everybody(browser: Browser, folder: Path, name: str, look: Look) -> None:
    with browser.opened(folder / f"{name}.html", look) as page:
        assert page.pale_letters() == []
        found = page.violations(colours=look.width_px > NARROW_PX)  # a phone shows the same ones
        assert [each for each in found if each.impact in SERIOUS] == []
        assert page.ask("document.documentElement.scrollWidth") <= look.width_px, page.ask(WIDER)


def test_what_axe_core_calls_serious_would_be_seen(browser: Browser, tmp_path: Path) -> None:
    """A picture without a text, pale letters, and a table too wide for a phone."""
    bad = '<html><body><img src="data:,"><p style="color:#ccc">pale</p><table width="900"><tr><td>1</table>'
    (tmp_path / "bad.html").write_text(bad)
    with browser.opened(tmp_path / "bad.html", Look("phone", 360)) as page:
        found = {each.rule for each in page.violations() if each.impact in SERIOUS}
        assert found >= {"image-alt", "color-contrast", "html-has-lang"}
        assert page.ask("document.documentElement.scrollWidth") > 360
        assert len(page.ask(WIDER)) > 0


def test_pale_letters_of_a_drawing_would_be_seen(browser: Browser, tmp_path: Path) -> None:
    drawing = '<figure style="background:#fff"><svg><text fill="#000">ink</text><text fill="#999">pale</text></svg>'
    (tmp_path / "pale.html").write_text(drawing)
    with browser.opened(tmp_path / "pale.html", LOOKS[0]) as page:
        assert page.pale_letters() == ["pale"]


def test_a_look_is_what_the_page_sees(browser: Browser, tmp_path: Path) -> None:
    """Else the checks of dark and print would be those of light and screen."""
    (tmp_path / "any.html").write_text("<p>here")
    seen = {}
    for look in LOOKS:
        with browser.opened(tmp_path / "any.html", look) as page:
            asked = "['(prefers-color-scheme: dark)', 'print', '(max-width: 400px)'].map(q => matchMedia(q).matches)"
            seen[look.name] = page.ask(asked)
    assert seen["light"] == [False, False, False]
    assert seen["dark"] == [True, False, False]
    assert seen["phone"] == [False, False, True]
    assert seen["print"] == [False, True, False]
