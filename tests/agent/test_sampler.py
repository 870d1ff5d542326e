"""The sampler's process: what it sees, how it ends, and what is kept when it does not end well."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from agent.sampler import Recording, Sampler
from phasewatt import codec
from phasewatt.errors import MeterUnavailable
from phasewatt.records import Channel, Phase, Reading, Scope, Span
from phasewatt.updates import samples_of
from phasewatt.window_energy import energy_j
from tests.fixtures.sensors import recording


def test_samples_arrive_at_the_stated_rate(tmp_path: Path) -> None:
    """At 50 Hz, half a second gives about 25 rows, in order, with the recorded values."""
    sampler = Sampler([f"replay:{recording(tmp_path / 'r', [10.0])}"], 50.0)
    sampler.start()
    time.sleep(0.5)
    seen = sampler.stop()
    times_ns = [at for at, _ in seen.rows]
    assert 15 <= len(seen.rows) <= 35
    assert times_ns == sorted(times_ns)
    assert {values for _, values in seen.rows} == {(10.0,)}
    assert seen.fault is None
    assert seen.simulated


def test_samples_reach_over_a_window_measured_meanwhile(tmp_path: Path) -> None:
    """The clock is the one that spans are timed with: a window inside gets its joules."""
    sampler = Sampler([f"replay:{recording(tmp_path / 'r', [10.0, 11.0] * 50, period_s=0.02)}"], 100.0)
    sampler.start()
    time.sleep(0.1)
    start_ns = time.monotonic_ns()
    time.sleep(0.5)
    span = Span(phase=Phase.PREFILL, start_ns=start_ns, end_ns=time.monotonic_ns(), tokens=1)
    time.sleep(0.1)
    found = energy_j(samples_of(sampler.stop().traces("d", "b"), 0), span, sampler.so_far().channels[0])
    assert found.reason is None
    assert found.energy_j == pytest.approx(10.5 * span.duration_s, rel=0.05)


def test_a_meter_that_does_not_open_is_unavailable_with_its_reason(tmp_path: Path) -> None:
    """The child's refusal reaches the parent as one line."""
    with pytest.raises(MeterUnavailable, match=r"replay: cannot read .*absent"):
        Sampler([f"replay:{tmp_path / 'absent'}"], 10.0).start()


def test_what_a_killed_child_sent_before_is_kept(tmp_path: Path) -> None:
    """The rows until the last flush are there, and the fault says what happened."""
    sampler = Sampler([f"replay:{recording(tmp_path / 'r', [10.0])}"], 50.0)
    sampler.start()
    time.sleep(1.5)
    os.kill(sampler.pid, signal.SIGKILL)
    time.sleep(0.2)
    seen = sampler.stop()
    assert seen.rows
    assert seen.fault == "the sampler ended by itself with code -9"


def test_a_hung_child_is_ended(tmp_path: Path) -> None:
    """A stopped process answers nothing; it is killed and the fault says so."""
    sampler = Sampler([f"replay:{recording(tmp_path / 'r', [10.0])}"], 50.0, stop_s=0.3)
    sampler.start()
    os.kill(sampler.pid, signal.SIGSTOP)
    seen = sampler.stop()
    assert seen.fault is not None
    assert "hung" in seen.fault
    with pytest.raises(ProcessLookupError):
        os.kill(sampler.pid, 0)


def test_long_recordings_are_cut_into_parts_that_fit_a_message() -> None:
    """An hour at 10 Hz: every part within the payload limit, and together the same rows."""
    channel = Channel(name="c", source="s", reading=Reading.INSTANT, unit="W", scope=Scope.MODULE)
    rows = tuple((index * 100_000_123, (10.0 + index % 977 * 0.013,)) for index in range(36_000))
    long = Recording(meter="m", simulated=True, channels=(channel,), rows=rows, fault=None)
    traces = long.traces("device", "boot")
    assert max(len(codec.encode(trace)) for trace in traces) < codec.MAX_PAYLOAD_BYTES
    assert [(t.part, t.parts) for t in traces] == [(index, len(traces)) for index in range(len(traces))]
    found = samples_of(traces, 0)
    assert [sample.time_ns for sample in found] == [at for at, _ in rows]
    assert [sample.value for sample in found] == pytest.approx([values[0] for _, values in rows])
