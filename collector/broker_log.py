"""What mosquitto says, line by line: what an operator must see, and no refusal of one client twice a minute."""

from __future__ import annotations

import logging
import re
from typing import NamedTuple

_REPEATED_S = 60.0
_MOST_REMEMBERED = 1000  # of different lines: who makes up names must not fill the memory
_STAMP = re.compile(r"(?:\d+|[0-9T:-]{19}): ")
_CHATTER = re.compile(
    r"(?:Received|Sending) [A-Z]+ |No will message|Will message|\t|New connection from|\S+ [0-2] phasewatt/|Saving "
)
_DENIED = re.compile(r"(Denied [A-Z]+ from \S+)( .*)?")
_REFUSALS = re.compile(
    r"oversize|OpenSSL Error|failed: error:|not authori[sz]ed|already connected|being dropped|exceeded"
    r"|Protocol error|protocol error|malformed|Invalid|invalid|Error|Warning"
)
_VARIES = re.compile(r"127\.0\.0\.1:\d+|\b(?:\d{1,3}\.){3}\d{1,3}:\d+|m\d+,")


class Said(NamedTuple):
    """A line, and how much it matters."""

    level: int
    text: str


class BrokerLog:
    """Of one broker; the same refusal of the same client is told once a minute, with how often it came meanwhile."""

    def __init__(self) -> None:
        self._told_s: dict[str, float] = {}
        self._held_back: dict[str, int] = {}

    def heard(self, line: str, now_s: float) -> Said | None:
        """What to say of a line; None: nothing."""
        text = _STAMP.sub("", line.rstrip(), count=1)
        if not text or _CHATTER.match(text):
            return None
        if not (_DENIED.match(text) or _REFUSALS.search(text)):
            return Said(logging.INFO, text)
        return self._refusal(text, now_s)

    def _refusal(self, text: str, now_s: float) -> Said | None:
        denied = _DENIED.match(text)
        key = denied[1] if denied else _VARIES.sub("", text)
        if now_s - self._told_s.get(key, float("-inf")) < _REPEATED_S:
            self._held_back[key] = self._held_back.get(key, 0) + 1
            return None
        if len(self._told_s) >= _MOST_REMEMBERED:
            self._told_s.clear()
            self._held_back.clear()
        self._told_s[key] = now_s
        more = self._held_back.pop(key, 0)
        return Said(logging.WARNING, text + (f" ({more} more like it since)" if more else ""))
