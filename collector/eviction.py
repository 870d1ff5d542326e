"""Ends a board's living session: when it was revoked, which a broker sees at a connection alone, or when it floods.

The centre may take any client id, and a client id is of one session at a time.
"""

from __future__ import annotations

import time

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from collector import managed, mosquitto
from collector.authority import Authority, Plan
from collector.client import let_in
from collector.settings import Address, BrokerSettings

_PATIENCE_S = 5.0


class ShutOut:
    """Keeps boards that flood off a broker of our own, until its files are written anew."""

    def __init__(self, plan: Plan, authority: Authority) -> None:
        self._plan = plan
        self._authority = authority
        self._devices: set[str] = set()

    def __call__(self, device: str) -> None:
        """Shut out one more."""
        self._devices.add(device)
        mosquitto.write_who(self._plan, self._authority, shut_out=frozenset(self._devices))
        if mosquitto.tell(self._plan):
            evict(device, *managed.reached(self._plan, self._authority))


def evict(device: str, address: Address, broker: BrokerSettings) -> bool:
    """Take the session of `device`, and leave; whether the broker let that happen."""
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2,
        client_id=device,
        protocol=MQTTProtocolVersion.MQTTv311,
        reconnect_on_failure=False,
    )
    accepted: list[bool] = []
    client.on_connect = lambda _client, _data, _flags, reason, _properties: accepted.append(not reason.is_failure)
    let_in(client, broker)
    try:
        client.connect(address.host, address.port)
        deadline_s = time.monotonic() + _PATIENCE_S
        while not accepted and client.socket() is not None and time.monotonic() < deadline_s:
            client.loop(0.1)
        client.disconnect()
    except OSError:
        return False
    finally:
        if (sock := client.socket()) is not None:
            sock.close()
        client.on_connect = None  # the client would live on in a circle with it
    return accepted == [True]
