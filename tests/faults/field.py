"""A fleet under test: a real broker, collectors and boards, each a process that can be killed and started again."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy

from agent.outbox import Outbox
from tests.faults import journal
from tests.faults.account import Account, Stored, account_of, stored_in
from tests.faults.board import NOT_DELIVERED, Orders, ready_line
from tests.faults.journal import Told
from tests.fixtures.broker import Mosquitto, find_mosquitto

_READY_S = 120.0  # of a program that starts on a machine with other work
_END_S = 20.0


class Program:
    """A program that runs, or that ended; what it prints is in `log`."""

    def __init__(self, log: Path, *command: str) -> None:
        self.log = log
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin another life."""
        with self.log.open("ab") as out:
            command = [sys.executable, "-m", *self._command]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The present life."""
        assert self._process is not None, "it was not started"
        return self._process

    @property
    def lives(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        """Stop it as a host does that is paused; its connections stand."""
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.send(signal.SIGCONT)

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def end(self, timeout_s: float = _END_S) -> int:
        """Tell it to end; its exit code."""
        self.send(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def died(self, timeout_s: float = _READY_S) -> int:
        """The exit code of one that ends by itself."""
        return self.process.wait(timeout_s)

    def printed(self) -> str:
        """Everything that its lives printed."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class Collector(Program):
    """A collector on a database of its own, or on the one at `url`; `flags` follow the others."""

    def __init__(
        self,
        root: Path,
        directory: Path,
        port: int,
        name: str,
        program: tuple[str, ...],
        url: str | None = None,
        flags: tuple[str, ...] = (),
    ) -> None:
        self.path = directory / f"{name}.db"
        self.url = url or f"sqlite:///{self.path}"
        config = root / f"{name}.toml"
        config.write_text(f'name = "{name}"\n')
        serve = ("serve", "--db", self.url, "--broker", f"127.0.0.1:{port}", "--config", str(config), *flags)
        super().__init__(root / f"{name}.log", *program, *serve)

    def start(self, wait: bool = True) -> None:
        """Begin another life; with `wait`, until it listens."""
        before = self.printed().count("collector ready")
        super().start()
        if wait:
            until(lambda: self.printed().count("collector ready") > before, _READY_S, self.printed)

    def keys(self) -> int:
        """How many rows its store has, cheaply."""
        engine = sqlalchemy.create_engine(self.url, poolclass=sqlalchemy.NullPool)
        with engine.connect() as connection:
            count: int = connection.exec_driver_sql("SELECT count(*) FROM ledger").scalar_one()
            return count

    def stored(self) -> Stored:
        """What its store holds."""
        return stored_in(self.url)


class BoardProcess(Program):
    """A board with its outbox and its journal; each life appends other records."""

    def __init__(
        self, root: Path, name: str, port: int, seed: str, *, device: str | None = None, state: Path | None = None
    ) -> None:
        self.device = device or name
        self.state = state or root / name
        self.journal = root / f"{name}.journal"
        self.orders = Orders(state=str(self.state), journal=str(self.journal), device=self.device, port=port, seed=seed)
        self._lives = 0
        self._present = self.orders
        super().__init__(root / f"{name}.log")

    def start(self, **orders: Any) -> None:
        """Begin another life, with these changes to what it is to do."""
        self._lives += 1
        own = {"seed": f"{self.orders.seed}/{self.log.stem}/{self._lives}", **orders}
        self._present = msgspec.structs.replace(self.orders, **own)
        self._command = ("tests.faults.board", msgspec.json.encode(self._present).decode())
        super().start()

    def tell_to_finish(self, timeout_s: float) -> None:
        """Have it append no more; a board that is off comes back to deliver."""
        if self.lives:
            until(lambda: ready_line(self._present) in self.printed(), _READY_S, self.printed)
            self.send(signal.SIGTERM)
        else:
            self.start(appends=0, drain_s=timeout_s)

    def finish(self, timeout_s: float = 60.0) -> None:
        """Have it append no more, and wait until it delivered everything."""
        self.tell_to_finish(timeout_s)
        self.expect_delivered(timeout_s)

    def expect_delivered(self, timeout_s: float = 60.0) -> None:
        """Wait for the end of a life that has nothing left to deliver."""
        code = self.process.wait(timeout_s + 10)
        assert code == 0, (
            f"{self.device}: {'not delivered in time' if code == NOT_DELIVERED else code}\n{self.printed()}"
        )

    def told(self) -> Told:
        """What it committed."""
        return journal.read(self.journal, self.device)

    def outbox(self) -> Outbox:
        """Its outbox, for reading."""
        return Outbox.read(self.state)

    def dropped(self) -> dict[str, int]:
        """What it gave up, as it counted itself."""
        with contextlib.closing(self.outbox()) as outbox:
            return outbox.dropped()


class Field:
    """All processes of one test, under one directory."""

    def __init__(self, root: Path, seed: str, *broker_lines: str) -> None:
        self.root = root
        self.seed = seed
        self.broker = Mosquitto(find_mosquitto(), root, *broker_lines)
        self.broker.start()
        self._programs: list[Program] = []

    def collector(
        self,
        name: str = "centre",
        port: int | None = None,
        program: tuple[str, ...] = ("collector.app",),
        directory: Path | None = None,
    ) -> Collector:
        """A collector, started and listening."""
        made = Collector(self.root, directory or self.root, port or self.broker.port, name, program)
        self._programs.append(made)
        made.start()
        return made

    def member(self, name: str, url: str, program: tuple[str, ...] = ("collector.app",)) -> Collector:
        """One of the collectors that share what boards send; not started yet."""
        made = Collector(self.root, self.root, self.broker.port, name, program, url, ("--share", "centres"))
        self._programs.append(made)
        return made

    def board(self, name: str = "board-1", port: int | None = None, **where: Any) -> BoardProcess:
        """A board that was not started yet; its device and state may be called otherwise."""
        made = BoardProcess(self.root, name, port or self.broker.port, self.seed, **where)
        self._programs.append(made)
        return made

    def boards(self, count: int, port: int | None = None) -> list[BoardProcess]:
        """Several boards that were not started yet."""
        return [self.board(f"board-{number}", port) for number in range(1, count + 1)]

    def program(self, name: str, *command: str) -> Program:
        """Any program, not started yet."""
        made = Program(self.root / f"{name}.log", *command)
        self._programs.append(made)
        return made

    def broker_log(self) -> str:
        """What the broker has to say."""
        return (self.root / "mosquitto.log").read_text(errors="replace")

    def close(self) -> None:
        """End everything."""
        for program in self._programs:
            program.kill()
        self.broker.stop()


def finish(*boards: BoardProcess, timeout_s: float = 60.0) -> None:
    """Have boards append no more, all at once, and deliver everything."""
    for board in boards:
        board.tell_to_finish(timeout_s)
    for board in boards:
        board.expect_delivered(timeout_s)


def account(collector: Collector, *boards: BoardProcess) -> Account:
    """What boards committed against what a collector stored."""
    return account_of([board.told() for board in boards], collector.stored())


@contextmanager
def field(root: Path, seed: str, *broker_lines: str) -> Iterator[Field]:
    """A fleet that ends with the block."""
    made = Field(root, seed, *broker_lines)
    try:
        yield made
    finally:
        made.close()


def until(condition: Callable[[], bool], timeout_s: float, explain: Callable[[], str] = str) -> None:
    """Wait for `condition`; an AssertionError if it does not come true."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not within {timeout_s:.0f} s\n{explain()}"
        time.sleep(0.02)
