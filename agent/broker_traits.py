"""What is known of a broker over all connections to it: which MQTT it speaks, and which refusals were told."""

from __future__ import annotations

import time
from collections.abc import Callable

from paho.mqtt.enums import MQTTProtocolVersion

V5, V311 = MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311
_REMEMBERED_S = 86_400.0  # that a broker speaks 3.1.1 alone: it may be upgraded, or be another by then


class BrokerTraits:
    """Of one broker, for as long as the process runs."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._older_until_s = float("-inf")
        self._spoke_newer = False
        self._told: set[str] = set()

    def version(self) -> MQTTProtocolVersion:
        """The MQTT to ask for first."""
        older = self._clock() < self._older_until_s
        return V311 if older else V5

    @property
    def is_known(self) -> bool:
        """Whether it spoke that MQTT before."""
        return self._spoke_newer or self.version() is V311

    def speaks(self, version: MQTTProtocolVersion) -> None:
        """Note what the broker accepted."""
        self._spoke_newer = version is V5
        if version is V311 and self.version() is V5:
            self._older_until_s = self._clock() + _REMEMBERED_S

    def is_news(self, refusal: str) -> bool:
        """Whether this was not told yet; from now on it was."""
        news = refusal not in self._told
        self._told.add(refusal)
        return news
