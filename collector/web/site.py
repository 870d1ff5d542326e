"""The pages, as a WSGI application: each request is answered or refused in one line."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Iterable
from http import HTTPStatus
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import msgspec

from collector.conditions import printable
from collector.settings import is_loopback
from collector.web import exposition
from collector.web.board_cards import cards_of
from collector.web.exposition import Serving
from collector.web.live import LiveBoards
from phasewatt.errors import PhasewattError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

USER = "phasewatt"
_STATIC = {
    "/": ("collector.web", "page.html", "text/html; charset=utf-8"),
    "/style.css": ("collector.report", "style.css", "text/css; charset=utf-8"),
    "/page.css": ("collector.web", "page.css", "text/css; charset=utf-8"),
    "/page.js": ("collector.web", "page.js", "text/javascript; charset=utf-8"),
}
# Nothing of another place, no script in the page itself, no frame around it, and nothing kept.
_ALWAYS = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
)


class Answer(NamedTuple):
    """What a request gets."""

    body: bytes
    media_type: str
    status: HTTPStatus = HTTPStatus.OK
    more: tuple[tuple[str, str], ...] = ()


class Site:
    """The application; with `password` it asks everybody for it, without one it answers this host alone."""

    def __init__(self, serving: Serving, live: LiveBoards, password: str | None) -> None:
        self._serving = serving
        self._live = live
        self._password = password
        self._pages: dict[str, Callable[[WSGIEnvironment], Answer]] = {
            "/metrics": self._metrics,
            "/boards.json": self._boards,
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        answer = self._refused(environ) or self._answer(environ)
        length = ("Content-Length", str(len(answer.body)))
        headers = [("Content-Type", answer.media_type), length, *_ALWAYS, *answer.more]
        start_response(f"{answer.status.value} {answer.status.phrase}", headers)
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else answer.body]

    def _refused(self, environ: WSGIEnvironment) -> Answer | None:
        if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            return _line(HTTPStatus.METHOD_NOT_ALLOWED, "this page is for reading", ("Allow", "GET, HEAD"))
        if self._password is None:
            # A page of another place could otherwise ask under a name of its own that leads here.
            if not is_loopback(_host(environ.get("HTTP_HOST", ""))):
                return _line(HTTPStatus.FORBIDDEN, "without a password this page answers to 127.0.0.1 and localhost")
        elif not self._knows(environ.get("HTTP_AUTHORIZATION", "")):
            asks = ("WWW-Authenticate", 'Basic realm="phasewatt", charset="UTF-8"')
            return _line(HTTPStatus.UNAUTHORIZED, f"user {USER}, and the password of `web.password_file`", asks)
        return None

    def _knows(self, authorization: str) -> bool:
        expected = base64.b64encode(f"{USER}:{self._password}".encode()).decode()
        scheme, _, proof = authorization.partition(" ")
        return scheme.lower() == "basic" and hmac.compare_digest(proof.strip().encode(), expected.encode())

    def _answer(self, environ: WSGIEnvironment) -> Answer:
        path = environ.get("PATH_INFO", "/")
        if path in _STATIC:
            package, name, media_type = _STATIC[path]
            return Answer(files(package).joinpath(name).read_bytes(), media_type)
        page = self._pages.get(path)
        if page is None:
            return _line(HTTPStatus.NOT_FOUND, f"there are /, /metrics and /boards.json, and no {path}")
        return page(environ)

    def _metrics(self, environ: WSGIEnvironment) -> Answer:
        return Answer(*exposition.page(self._serving, environ.get("HTTP_ACCEPT", "")))

    def _boards(self, _environ: WSGIEnvironment) -> Answer:
        troubles: list[str] = []
        fleet = None
        try:
            fleet = self._serving.fleet()
        except PhasewattError as error:
            troubles.append(printable(str(error)))
        traffic = self._serving.traffic()
        if not traffic.listening:
            troubles.append(f"not connected to broker {self._serving.broker}; trying again")
        if traffic.trouble is not None:
            troubles.append(f"nothing is stored: {traffic.trouble}")
        return Answer(msgspec.json.encode(cards_of(self._live.view(), fleet, troubles)), "application/json")


def _host(header: str) -> str:
    """The name alone; empty where that is none."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def _line(status: HTTPStatus, told: str, *more: tuple[str, str]) -> Answer:
    return Answer(f"{printable(told)}\n".encode(), "text/plain; charset=utf-8", status, more)
