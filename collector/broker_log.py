"""What mosquitto says, line by line: what an operator must see, and no refusal of one client twice a minute."""

from __future__ import annotations

import logging
import re
from typing import NamedTuple

from collector.repeats import Repeats

_STAMP = re.compile(r"(?:\d+|[0-9T:-]{19}): ")
# Whole lines on every message, cut out of what was read before anything else looks at it: there may be very many.
_EVERY = rb"(?:Received|Sending) [A-Z]+ |No will message|Will message|\t|\S+ [0-2] phasewatt/|Saving "
CHATTER = re.compile(rb"^(?:\d+|[0-9T:-]{19}): (?:" + _EVERY + rb")[^\n]*\n", re.MULTILINE)
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
        self._repeats = Repeats()

    def heard(self, line: str, now_s: float) -> Said | None:
        """What to say of a line; None: nothing."""
        text = _STAMP.sub("", line.rstrip(), count=1)
        if not text:
            return None
        denied = _DENIED.match(text)
        if denied is None and not _REFUSALS.search(text):
            return Said(logging.INFO, text)
        more = self._repeats.due(denied[1] if denied else _VARIES.sub("", text), now_s)
        return None if more is None else Said(logging.WARNING, text + more)
