"""Who else used the CPU: all of its time less our own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from agent.company import Company, host_busy_s, process_cpu_s
from tests.fixtures.receipts import wait_until

WORKER, SAMPLER = 901, 902


class Host:
    """CPU times that the test moves on."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.busy_s = 5000.0
        self.cpu_s: dict[int, float] = {os.getpid(): 3.0, WORKER: 40.0, SAMPLER: 1.0}

    def company(self, *own: int | None) -> Company:
        return Company(own, lambda: None, lambda: self.busy_s, self.cpu_s.get, lambda: self.now_s)

    def work(self, seconds: float, others_s: float = 0.0, **own: float) -> None:
        """Let time pass, in which others and, by name, our processes use the CPU."""
        pids = {"agent": os.getpid(), "worker": WORKER, "sampler": SAMPLER}
        for name, used_s in own.items():
            self.cpu_s[pids[name]] += used_s
        self.now_s += seconds
        self.busy_s += others_s + sum(own.values())


def test_our_own_processes_are_not_company() -> None:
    """Agent, worker and sampler, whatever they use; a worker has many threads."""
    host = Host()
    company = host.company(WORKER, SAMPLER)
    before = company.now()
    host.work(4.0, agent=0.5, worker=31.0, sampler=1.5)
    assert company.cores_since(before) == 0.0


def test_what_others_use_is_counted_in_cores() -> None:
    host = Host()
    company = host.company(WORKER)
    before = company.now()
    host.work(4.0, others_s=6.0, worker=4.0)
    assert company.cores_since(before) == pytest.approx(1.5)


def test_clocks_that_disagree_by_a_tick_do_not_make_less_than_nobody() -> None:
    host = Host()
    company = host.company(WORKER)
    before = company.now()
    host.work(4.0, others_s=-0.01, worker=4.0)
    assert company.cores_since(before) == 0.0


@pytest.mark.parametrize(("seconds", "cores"), [(0.0, None), (0.19, None), (0.5, 1.0)])
def test_too_short_a_time_tells_nothing(seconds: float, cores: float | None) -> None:
    """The kernel counts in steps of 10 ms."""
    host = Host()
    company = host.company()
    before = company.now()
    host.work(seconds, others_s=seconds)
    assert company.cores_since(before) == cores


def test_a_process_of_ours_that_ended_meanwhile_leaves_it_unknown() -> None:
    """All that it ever used would count as others' else."""
    host = Host()
    company = host.company(WORKER, SAMPLER)
    before = company.now()
    del host.cpu_s[WORKER]
    host.work(4.0, others_s=1.0)
    assert company.cores_since(before) is None


def test_a_process_that_was_gone_before_does_not_matter() -> None:
    """Nor does one that was never started."""
    host = Host()
    del host.cpu_s[WORKER]
    company = host.company(WORKER, None)
    before = company.now()
    host.work(4.0, others_s=1.0)
    assert company.cores_since(before) == pytest.approx(0.25)


@pytest.fixture
def busy_loop() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing but use the CPU."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        yield process
        process.kill()


def test_a_real_process_is_company_until_it_is_said_to_be_ours(busy_loop) -> None:
    """Over one stretch, the two answers differ by what that process used, whoever else is there."""
    theirs, ours = Company((), lambda: None), Company((busy_loop.pid,), lambda: None)
    began_s = process_cpu_s(busy_loop.pid)
    without, with_it = theirs.now(), ours.now()
    assert wait_until(lambda: process_cpu_s(busy_loop.pid) - began_s > 1.0, 60)
    passed_s = theirs.now().at_s - without.at_s
    differ_s = (theirs.cores_since(without) - ours.cores_since(with_it)) * passed_s
    assert 0.7 < differ_s < 3.0


def test_a_real_process_that_is_gone_has_no_cpu_time() -> None:
    """And the host's own goes on."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert process_cpu_s(process.pid) is None
    assert process_cpu_s(os.getpid()) > 0
    assert host_busy_s() >= process_cpu_s(os.getpid())
