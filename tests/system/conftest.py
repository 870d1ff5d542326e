"""Agent and collector as their own processes, as a user starts them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_READY_S = 30.0


class Process:
    """A running program whose ready line was seen."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], _READY_S)
        self.line = self.process.stdout.readline() if ready else ""

    def kill(self) -> None:
        """End it without warning."""
        self.process.kill()
        self.process.wait()

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it as a system does; its exit code."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, number)
        self.process.communicate(timeout=_READY_S)
        return self.process.returncode


class Fleet:
    """A collector's database and boards' state directories under one temporary directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.db = f"sqlite:///{root / 'collector.db'}"
        self._processes: list[Process] = []

    def collector(self, broker: str = "embedded:0") -> tuple[Process, str]:
        """A serving collector, and the broker's address."""
        process = self.started("collector.app", "serve", "--db", self.db, "--broker", broker)
        match = re.match(r"collector ready: broker (\S+?),", process.line)
        assert match, process.line
        return process, match[1]

    def daemon(self, state: str, *arguments: str) -> Process:
        """A living agent."""
        process = self.started("agent.app", "serve", "--state-dir", str(self.root / state), *arguments)
        assert process.line.startswith("agent ready"), process.line
        return process

    def agent(self, command: str, *arguments: str, state: str = "board") -> subprocess.CompletedProcess[str]:
        """One command of the agent, run to its end."""
        return _run("agent.app", command, *arguments, "--state-dir", str(self.root / state))

    def collect(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One command of the collector on the database."""
        return _run("collector.app", command, *arguments, "--db", self.db)

    def trials(self) -> list[dict[str, Any]]:
        """The stored trials."""
        done = self.collect("trials", "--json")
        assert done.returncode == 0, done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout)["trials"]
        return found

    def close(self) -> None:
        """End what still runs."""
        for process in self._processes:
            if process.process.poll() is None:
                process.kill()
            for pipe in (process.process.stdout, process.process.stderr):
                if pipe is not None:
                    pipe.close()

    def started(self, *arguments: str) -> Process:
        """A program that goes on until it is ended, or the test is."""
        process = Process(*arguments)
        self._processes.append(process)
        return process


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """An empty one."""
    made = Fleet(tmp_path)
    yield made
    made.close()


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, timeout=240, check=False)
