"""A job under power cuts: agent, worker, broker and collector killed at random points, until the job has ended.

    python -m benchmarks.job_reboots [--kills 20] [--seed 1]

The real agent with the engine `fake`, the real collector, mosquitto. Each kill is SIGKILL to the agent and all of its
children; every second one takes broker and collector with it. Printed: how the job ended, its cells, and the trials in
the store. Exit code 1 where a cell is missing or stored twice, or the job did not succeed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from collector import job_spec
from collector.job_spec import JobRow
from collector.store import open_store
from phasewatt.jobs import State
from tests.faults.field import Collector, Field, field, until
from tests.fixtures.fake_job import stored_cells, suite

PROMPT_TOKENS, OUTPUT_TOKENS = range(16, 24), range(4, 7)
CELLS = len(PROMPT_TOKENS) * len(OUTPUT_TOKENS)
JOB = 'suite = "many"\n[targets]\ndevices = ["board-1"]\n'
_JOB_ID = "j1"
_READY_S = 90.0
_END_S = 600.0
_WITHIN_S = 4.0  # after a start, a kill comes


class Agent:
    """The real agent in a process group of its own."""

    def __init__(self, state: Path, port: int, log: Path) -> None:
        self._command = ("agent.app", "serve", "--state-dir", str(state), "--device", "board-1")
        self._broker = f"127.0.0.1:{port}"
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin another life, and wait until it is ready."""
        before = self._log.read_text().count("agent ready") if self._log.exists() else 0
        command = [sys.executable, "-m", *self._command, "--broker", self._broker]
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
        until(lambda: self._log.read_text().count("agent ready") > before, _READY_S, self._log.read_text)

    def kill(self) -> None:
        """End it and all of its children at once."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def main() -> int:
    """Run it once."""
    parser = argparse.ArgumentParser(description="Kill everything at random points of a job.")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    made = tempfile.TemporaryDirectory(prefix="phasewatt-jobs-")
    with made as directory, field(Path(directory), str(arguments.seed)) as fleet:
        return _run(fleet, arguments.kills, random.Random(arguments.seed))


def _run(fleet: Field, kills: int, draw: random.Random) -> int:
    state = fleet.root / "board"
    state.mkdir()
    (state / "many.toml").write_text(suite(PROMPT_TOKENS, OUTPUT_TOKENS))
    allowed = f'suites = ["{state / "many.toml"}"]\nunsynchronised_clock = true\nmost_restarts = 1000\n'
    (state / "agent.toml").write_text(f'meters = ["none"]\n[jobs]\n{allowed}')
    collector = fleet.collector()
    agent = Agent(state, fleet.broker.port, fleet.root / "agent.log")
    try:
        agent.start()
        _submit(collector)
        done = _strike_until_done(fleet, collector, agent, kills, draw)
        until(lambda: _state(collector).is_final, _END_S, (fleet.root / "agent.log").read_text)
        until(lambda: len(stored_cells(collector.url, _JOB_ID)) >= CELLS, _READY_S)
        return _told(done, _state(collector), stored_cells(collector.url, _JOB_ID))
    finally:
        agent.kill()


def _strike_until_done(fleet: Field, collector: Collector, agent: Agent, kills: int, draw: random.Random) -> int:
    for kill in range(kills):
        time.sleep(draw.uniform(0.0, _WITHIN_S))
        if _state(collector).is_final:
            return kill
        agent.kill()
        if kill % 2:
            collector.kill()
            fleet.broker.kill()
            fleet.broker.start()
            collector.start(wait=False)
        agent.start()
    return kills


def _told(kills: int, state: State, cells: list[str]) -> int:
    missing, twice = CELLS - len(set(cells)), len(cells) - len(set(cells))
    print(f"{kills} kills while the job ran; it {state.value}; {CELLS} cells: {missing} missing, {twice} stored twice")
    return int(state is not State.SUCCEEDED or missing != 0 or twice != 0)


def _submit(collector: Collector) -> None:
    with contextlib.closing(open_store(collector.url)) as store:
        until(lambda: bool(store.devices()), _READY_S)
        job = JobRow(_JOB_ID, job_spec.parse(JOB, "job.toml"), time.time())
        store.jobs.submit(job, job_spec.executions_of(job, None, store.devices(), time.time()))


def _state(collector: Collector) -> State:
    with contextlib.closing(open_store(collector.url)) as store:
        (execution,) = store.jobs.executions(_JOB_ID)
        return execution.standing.state


if __name__ == "__main__":
    raise SystemExit(main())
