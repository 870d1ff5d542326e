"""The rails of a Jetson by the service of jetson-stats, for a user who names it; the INA3221 in sysfs says the same.

jetson-stats is under the AGPL-3.0: it is no part of phasewatt, and is imported only when this meter is opened. It is
slow and may hang or die, so a thread follows it and reading gives the latest values at once.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from agent.jetson import rail_channel, steps
from agent.meters.faults import Faults
from phasewatt import rails
from phasewatt.errors import MeterUnavailable

logger = logging.getLogger(__name__)

_SOCKET = "run/jtop.sock"
_LEAST_INTERVAL_S = 0.5  # Source: jetson_stats issue 414; below it the service falls behind
_STALE_INTERVALS = 3.0  # as long as jtop's own client waits for an answer
_OPENING_S = 15.0  # below the sampler's patience of 20 s
_RETRY_S, _LONGEST_RETRY_S = 1.0, 30.0
_CLOSE_S = 1.0
_SOURCE, _PART = "jtop", "every rail"
_JOIN = "join its group and log in again: sudo usermod -aG jtop USER"
_START = "start it: sudo systemctl restart jtop.service"
_REMEDIES = {  # by words of jtop's own errors
    "can't access": _JOIN,
    "not active": _START,
    "Mismatch": "install one version of jetson-stats here and for the service",
}


class Jtop:
    """See `Meter`: watts of every rail at intervals of 0.5 s or more, as they are and never jtop's running `avg`."""

    simulated = False
    refused: tuple[str, ...] = ()

    def __init__(
        self,
        period_s: float,
        argument: str = "",
        library: Any = None,
        clock: Callable[[], float] = time.monotonic,
        opening_s: float = _OPENING_S,
        retry_s: float = _RETRY_S,
    ) -> None:
        """`library` is the package jtop or what stands in for it."""
        if argument:
            raise MeterUnavailable(f"jtop: it reads this host and takes no argument, got {argument!r}")
        self._library = library or _library()
        self._clock = clock
        self._retry_s = retry_s
        self._interval_s = max(_LEAST_INTERVAL_S, period_s)
        self._stale_s = _STALE_INTERVALS * self._interval_s
        self._faults = Faults()
        self._latest: _Sample | None = None
        self._trouble: str | None = None
        self._news = threading.Event()  # a first sample, or a refusal
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="jtop", daemon=True)
        self._thread.start()
        self._names = self._opened(opening_s)
        self.channels = tuple(
            rail_channel.channel(rail, _SOURCE, steps.step_w(rail.name)) for rail in rails.rails(self._names)
        )
        self.read_costs_s = (None,) * len(self.channels)
        self.driver = f"jetson-stats {getattr(self._library, '__version__', 'of unknown version')}"
        self.mode = f"every {self._interval_s:g} s"

    def read(self, closely: bool = False) -> tuple[float | None, ...]:
        """See `Meter.read`; a value stands until three intervals brought no other."""
        latest = self._latest
        if latest is None or self._clock() - latest.at_s > self._stale_s:
            self._faults.failed(_SOURCE, _PART, self._trouble or "its service sends nothing")
            return (None,) * len(self._names)
        self._faults.answered(_SOURCE, _PART)
        return tuple(self._power_w(name, latest) for name in self._names)

    def notes(self) -> tuple[str, ...]:
        """See `Meter.notes`."""
        return self._faults.taken()

    def close(self) -> None:
        """See `Meter.close`; a thread that waits for the service ends with the process."""
        self._ended.set()
        self._thread.join(_CLOSE_S)

    def _power_w(self, name: str, latest: _Sample) -> float | None:
        power_w = latest.powers_w.get(name)
        if power_w is None:
            self._faults.failed(name, "its power", "not among what jtop shows")
        else:
            self._faults.answered(name, "its power")
        return power_w

    def _opened(self, opening_s: float) -> tuple[str, ...]:
        """The names of the rails, once they have come."""
        self._news.wait(opening_s)
        latest = self._latest
        if latest is not None and any(power_w is not None for power_w in latest.powers_w.values()):
            return tuple(latest.powers_w)
        silence = f"nothing in {opening_s:.0f} s; start it anew: sudo systemctl restart jtop.service"
        why = self._trouble or ("no rail has a value" if latest is not None else silence)
        self.close()
        raise MeterUnavailable(f"jtop: {why}")

    def _follow(self) -> None:
        pause_s = self._retry_s
        while not self._ended.is_set():
            if self._listened():
                pause_s = self._retry_s
            self._latest = None
            self._news.set()
            self._ended.wait(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_RETRY_S)

    def _listened(self) -> bool:
        """Whether anything came before the connection ended, as it always does."""
        heard = False
        try:
            client = self._connected()
            with contextlib.closing(client):
                while not self._ended.is_set() and client.ok():
                    self._take(client)
                    heard = True
            self._trouble = "its service sends nothing"
        except (Exception, SystemExit) as error:  # noqa: BLE001 - what jtop raises has no class in common
            self._trouble = _in_words(error)
            logger.debug("jtop: %s", self._trouble)
        return heard

    def _connected(self) -> Any:
        with contextlib.redirect_stdout(sys.stderr):  # the sampler's standard output carries its rows
            client = self._library.jtop(interval=self._interval_s)
            client.start()
        return client

    def _take(self, client: Any) -> None:
        self._latest = _Sample(self._clock(), _powers_w(client.power))
        self._stale_s = _STALE_INTERVALS * max(self._interval_s, client.interval)  # another client may have slowed it
        self._trouble = None
        self._news.set()


class _Sample(NamedTuple):
    """What the service showed, and when it came."""

    at_s: float
    powers_w: Mapping[str, float | None]


def standing(root: Path, find_spec: Callable[[str], object] = importlib.util.find_spec) -> str:
    """Whether jtop could be read here, in words, without importing it."""
    if find_spec("jtop") is None:
        return "jetson-stats is not installed"
    socket = root / _SOCKET
    if not os.access(socket, os.F_OK):
        return f"jetson-stats is installed, its service does not run: {_START}"
    if not os.access(socket, os.R_OK | os.W_OK):
        return f"jetson-stats is installed, {socket} is not for this user: {_JOIN}"
    return "jetson-stats is installed and its service is there: --meter jtop reads it"


def _powers_w(power: Any) -> dict[str, float | None]:
    """Watts by rail. The rail that jtop takes for the total is not among the others.

    Raises:
        TypeError: jetson-stats before version 4 gives a pair.
    """
    if not isinstance(power, Mapping):
        raise TypeError("it is older than jetson-stats 4: pip install -U jetson-stats")
    found = dict(power.get("rail") or {})
    total = power.get("tot") or {}
    if "name" in total:
        found[total["name"]] = total
    return {name: _power_w(values) for name, values in sorted(found.items())}


def _power_w(values: Mapping[str, Any]) -> float | None:
    power_mw = values.get("power")
    if not isinstance(power_mw, (int, float)) or values.get("online") is False:
        return None
    return power_mw * 1e-3


def _in_words(error: BaseException) -> str:
    words = " ".join(str(error).split()) or type(error).__name__
    remedy = next((remedy for said, remedy in _REMEDIES.items() if said in words), None)
    return f"{words}; {remedy}" if remedy else words


def _library() -> Any:
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return importlib.import_module("jtop")
    except ImportError as error:
        raise MeterUnavailable(
            "jetson-stats is not installed here (AGPL-3.0, so yours to choose): pip install 'phasewatt[jetson]'"
        ) from error
    except (Exception, SystemExit) as error:
        raise MeterUnavailable(f"jetson-stats does not load: {_in_words(error)}") from error
