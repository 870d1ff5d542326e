"""One agent a directory, and a suite handed to a living daemon."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest

from agent.cells import Suite, load
from agent.control import Control, RunRequest, StateLock, hand_over
from agent.measuring import Begun, Broken, Ended, Tell
from agent.stopping import Stop
from phasewatt.errors import ConfigInvalid, StateBusy, StoreUnavailable


@pytest.fixture
def request_smoke() -> RunRequest:
    """A request for the smoke suite."""
    suite: Suite = load("smoke", {"engine": "fake"})
    return RunRequest(suite=suite, fresh=False)


def _control(state: Path, execute: object) -> Control:
    control = Control(state, execute)  # type: ignore[arg-type]
    control.start()
    return control


def test_a_second_agent_is_refused_until_the_first_lets_go(tmp_path: Path) -> None:
    """The lock is one a directory."""
    first = StateLock(tmp_path / "state")
    with pytest.raises(StateBusy, match="another agent works in"):
        StateLock(tmp_path / "state")
    first.close()
    StateLock(tmp_path / "state").close()


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    """A file in the way."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="--state-dir"):
        StateLock(tmp_path / "file" / "state")


def test_reports_reach_the_caller_in_order(tmp_path: Path, request_smoke: RunRequest) -> None:
    """What the daemon tells is what the caller hears, suite and all."""
    asked: list[RunRequest] = []

    def execute(request: RunRequest, tell: Tell, stop: Stop) -> None:
        asked.append(request)
        tell(Begun(campaign="c", cells=2, done_before=0))
        tell(Ended(campaign="c"))

    control = _control(tmp_path, execute)
    heard = list(hand_over(tmp_path, request_smoke, Stop()))
    control.stop()
    assert heard == [Begun(campaign="c", cells=2, done_before=0), Ended(campaign="c")]
    assert asked == [request_smoke]


def test_a_caller_that_hangs_up_stops_the_suite(tmp_path: Path, request_smoke: RunRequest) -> None:
    """Ctrl-C at the caller ends the work at the daemon."""
    stopped = threading.Event()

    def execute(request: RunRequest, tell: Tell, stop: Stop) -> None:
        tell(Begun(campaign="c", cells=2, done_before=0))
        if stop.wait(5):
            stopped.set()

    control = _control(tmp_path, execute)
    stop = Stop()
    for _ in hand_over(tmp_path, request_smoke, stop):
        stop.set()
    assert stopped.wait(3)
    control.stop()


def test_one_suite_at_a_time(tmp_path: Path, request_smoke: RunRequest) -> None:
    """A second caller is told so and the first goes on."""
    release = threading.Event()

    def execute(request: RunRequest, tell: Tell, stop: Stop) -> None:
        tell(Begun(campaign="c", cells=2, done_before=0))
        release.wait(5)
        tell(Ended(campaign="c"))

    control = _control(tmp_path, execute)
    first = hand_over(tmp_path, request_smoke, Stop())
    next(first)
    second = list(hand_over(tmp_path, request_smoke, Stop()))
    assert [type(report) for report in second] == [Broken]
    assert "another suite" in str(second[0])
    release.set()
    assert isinstance(list(first)[-1], Ended)
    control.stop()


def test_an_error_reaches_the_caller_with_its_exit_code(tmp_path: Path, request_smoke: RunRequest) -> None:
    """The one line and the code are those that a run without a daemon would have given."""

    def execute(request: RunRequest, tell: Tell, stop: Stop) -> None:
        raise ConfigInvalid("meter: no meter 'x'")

    control = _control(tmp_path, execute)
    assert list(hand_over(tmp_path, request_smoke, Stop())) == [Broken(message="meter: no meter 'x'", exit_code=2)]
    control.stop()


def test_garbage_is_answered_and_the_daemon_goes_on(tmp_path: Path, request_smoke: RunRequest) -> None:
    """A stranger on the socket costs nothing."""

    def execute(request: RunRequest, tell: Tell, stop: Stop) -> None:
        tell(Ended(campaign="c"))

    control = _control(tmp_path, execute)
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(tmp_path / "agent.sock"))
        stranger.sendall(b'{"suite": 3}\n')
        assert b"not a request" in stranger.recv(4096)
    assert len(list(hand_over(tmp_path, request_smoke, Stop()))) == 1
    control.stop()


def test_nobody_listening_is_said(tmp_path: Path, request_smoke: RunRequest) -> None:
    """A lock without a socket is a `run` in progress."""
    with pytest.raises(StateBusy, match="takes no work"):
        list(hand_over(tmp_path, request_smoke, Stop()))


def test_a_deep_state_directory_has_a_socket_too(tmp_path: Path, request_smoke: RunRequest) -> None:
    """A socket's address holds 107 bytes; a directory's path may be longer."""
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    control = _control(deep, lambda request, tell, stop: tell(Ended(campaign="c")))
    assert list(hand_over(deep, request_smoke, Stop())) == [Ended(campaign="c")]
    began = time.monotonic()
    control.stop()
    assert time.monotonic() - began < 1
