"""What a service manager hears, by a socket of the kind that systemd gives."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.service_manager import ServiceManager, asked_for

_PATIENCE_S = 60.0
Hear = Callable[[], str]


@pytest.fixture(params=["path", "abstract"])
def listening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Hear]]:
    """An address, and what comes there, message by message."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@phasewatt-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(address.replace("@", "\0", 1))
        heard.settimeout(_PATIENCE_S)
        yield address, lambda: heard.recv(4096).decode()


def test_each_message_is_one_datagram(listening):
    address, hear = listening
    manager = ServiceManager(address)
    manager.ready("device a, no broker")
    manager.alive()
    manager.status("telemetry hangs")
    manager.stopping()
    assert hear() == "READY=1\nSTATUS=device a, no broker"
    assert [hear(), hear(), hear()] == ["WATCHDOG=1", "STATUS=telemetry hangs", "STOPPING=1"]


@pytest.mark.parametrize("address", [None, "", "/nowhere/at/all"])
def test_without_a_manager_nothing_is_said_and_nothing_fails(address):
    manager = ServiceManager(address)
    manager.ready("")
    manager.alive()


@pytest.mark.parametrize(
    ("environment", "watchdog_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),  # inherited, and meant for another process
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_asked_for_by_variables_that_are_for_this_process(environment, watchdog_s):
    assert asked_for(environment).watchdog_s == watchdog_s


def test_the_daemon_says_ready_when_it_works_feeds_the_watchdog_and_says_that_it_ends(listening, tmp_path):
    address, hear = listening
    environment = os.environ | {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "400000"}
    command = [sys.executable, "-m", "agent.app", "serve", "--state-dir", str(tmp_path / "s"), "--device", "a"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert hear().startswith("READY=1\nSTATUS=device a, ")
        assert hear() == "WATCHDOG=1"
        process.send_signal(signal.SIGTERM)
        said = "WATCHDOG=1"
        while said == "WATCHDOG=1":
            said = hear()
        assert said == "STOPPING=1"
        assert process.wait(_PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()
