"""The sampler's process: what it sees, how it ends, and what is kept when it does not end well."""

from __future__ import annotations

import itertools
import math
import os
import re
import signal
import statistics
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import sampler as sampler_module
from agent.cards import CardStore
from agent.sampler import Recording, Sampler
from agent.sampling import ATTENTION_S
from phasewatt import codec
from phasewatt.errors import MeterUnavailable
from phasewatt.fields import Phase, Reading, Scope
from phasewatt.records import Span
from phasewatt.traces import Channel
from phasewatt.updates import samples_of
from phasewatt.window_energy import energy_j
from tests.fixtures.hwmon import orin_nx
from tests.fixtures.receipts import wait_until
from tests.fixtures.sensors import recording
from tests.fixtures.waveforms import sensor_card


def test_samples_arrive_at_the_stated_rate(tmp_path: Path) -> None:
    """At 50 Hz, a row every 20 ms, in order, with the recorded values."""
    sampler = Sampler([f"replay:{recording(tmp_path / 'r', [10.0])}"], 50.0)
    sampler.start()
    assert wait_until(lambda: len(sampler.so_far().rows) > 20)
    seen = sampler.stop()
    times_ns = [at for at, _ in seen.rows]
    spacings_ns = [after - before for before, after in itertools.pairwise(times_ns)]
    assert statistics.median(spacings_ns) == pytest.approx(20_000_000, rel=0.25)
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
    assert wait_until(lambda: len(sampler.so_far().rows) > 0)
    _kill(sampler)
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


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Sampler]:
    """A sampler that reads twice a second, of a recording with new values all the time."""
    file = recording(tmp_path / "a file", [10.0 + index * 0.001 for index in range(1000)], period_s=0.01)
    sampler = Sampler([f"replay:{file}"], 2.0)
    sampler.start()
    yield sampler
    sampler.stop()


def test_what_was_sampled_can_be_had_while_it_goes_on(running: Sampler) -> None:
    """Again and again, each time with more, and without an end of the sampling."""
    assert wait_until(lambda: len(running.so_far().rows) > 0)
    first = running.so_far()
    assert (first.simulated, first.fault) == (True, None)
    assert wait_until(lambda: len(running.so_far().rows) > len(first.rows))
    assert running.so_far().rows[: len(first.rows)] == first.rows


def test_attention_brings_close_rows_of_that_moment(running: Sampler) -> None:
    """Half a second of them at 2 Hz would be one; they are there although nothing was stopped."""
    asked_ns = time.monotonic_ns()
    running.attend()
    over_ns = asked_ns + round(ATTENTION_S * 1e9)
    assert wait_until(lambda: any(at >= over_ns - 10**8 for at, _ in running.so_far().rows))
    close = running.so_far().between(asked_ns, asked_ns + 10**9).rows
    assert len(close) > 5


def test_attention_after_the_child_died_is_no_error(running: Sampler) -> None:
    """What was sampled until then stays."""
    running.attend()
    assert wait_until(lambda: len(running.so_far().rows) > 5)
    _kill(running)
    running.attend()
    running.attend()
    assert len(running.so_far().rows) > 5
    assert running.stop().fault == "the sampler ended by itself with code -9"


def test_attention_before_the_start_is_no_error() -> None:
    """Nor is there anything yet."""
    sampler = Sampler(["replay:file"], 10.0)
    sampler.attend()
    assert (sampler.channels, sampler.so_far().rows) == ((), ())


def test_between_keeps_the_rows_of_a_stretch() -> None:
    """Both ends included, and all else as it was."""
    rows = tuple((at, (float(at),)) for at in range(0, 100, 10))
    whole = Recording(meter="m", simulated=True, channels=(), rows=rows, fault="died")
    part = whole.between(20, 45)
    assert part.rows == rows[2:5]
    assert (part.meter, part.simulated, part.fault) == ("m", True, "died")
    assert whole.between(101, 200).traces("device", "boot") == ()


def test_channels_have_the_cards_that_were_found_for_them(tmp_path: Path) -> None:
    """In what is sampled so far, at the end, and in its traces; without a store they have none."""
    meter = f"replay:{recording(tmp_path / 'r', [10.0])}"
    plain = Sampler([meter], 50.0)
    plain.start()
    (channel,) = plain.stop().channels
    cards = CardStore(tmp_path)
    card = sensor_card(lag_s=0.07)
    cards.keep(meter, channel, card)
    sampler = Sampler([meter], 50.0, cards=cards)
    sampler.start()
    assert [c.card for c in (*sampler.channels, *sampler.so_far().channels)] == [card, card]
    seen = sampler.stop()
    assert {trace.channels[0].card for trace in seen.traces("device", "boot")} == {card}
    assert channel.card is None


def test_closely_reads_at_the_rate_and_no_faster(tmp_path: Path) -> None:
    """The flag reaches the child, which still opens and reads."""
    sampler = Sampler([f"replay:{recording(tmp_path / 'r', [10.0])}"], 50.0, closely=True)
    sampler.start()
    assert wait_until(lambda: len(sampler.so_far().rows) > 10)
    seen = sampler.stop()
    spacings_ns = [after - before for (before, _), (after, _) in itertools.pairwise(seen.rows)]
    assert statistics.mean(spacings_ns) > 18_000_000


@pytest.mark.parametrize("name", ["--closely", "-x", "two words", "--"])
def test_a_name_is_a_name_whatever_it_looks_like(name: str) -> None:
    """It reaches the table of meters whole, and is no option of the child."""
    with pytest.raises(MeterUnavailable, match=f"^meter: no meter '{re.escape(name)}'"):
        Sampler([name], 10.0).start()


def test_several_meters_are_one_recording(tmp_path: Path) -> None:
    """A path may have spaces; columns are in the order of the names."""
    files = [recording(tmp_path / name, [watts]) for name, watts in (("a b", 10.0), ("-c", 20.0))]
    sampler = Sampler([f"replay:{file}" for file in files], 50.0)
    sampler.start()
    seen = sampler.stop()
    assert {values for _, values in seen.rows} == {(10.0, 20.0)}
    assert len(seen.channels) == 2


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


NOTES = ("VDD_IN vanished", "später")
ROWS = ((5_000_000_000, (1.0, None)), (5_050_000_000, (-0.4, 0.0)), (5_100_000_000, (None, 3.0)))


def _stream() -> tuple[bytes, list[int]]:
    """Three rows with a note before the second and one behind the last, and where each piece ends."""
    rows = [struct.pack("<q2d", at, *(math.nan if v is None else v for v in values)) for at, values in ROWS]
    notes = [struct.pack("<q", -len(note.encode())) + note.encode() for note in NOTES]
    pieces = [rows[0], notes[0], rows[1], rows[2], notes[1]]
    return b"".join(pieces), list(itertools.accumulate(len(piece) for piece in pieces))


def test_a_stream_cut_anywhere_gives_what_was_whole() -> None:
    """Rows and notes in their order, none of them invented, none torn."""
    stream, ends = _stream()
    for cut in range(len(stream) + 1):
        rows, notes = sampler_module.parsed(stream[:cut], 2)
        whole = sum(end <= cut for end in ends)
        assert rows == ROWS[: (0, 1, 1, 2, 3, 3)[whole]]
        assert notes == NOTES[: (0, 0, 1, 1, 1, 2)[whole]]


def test_what_happened_to_a_meter_is_in_the_recording(tmp_path: Path) -> None:
    """A rail that vanishes while it is sampled, and comes back: rows go on, the rest is said."""
    board = orin_nx(tmp_path)
    (file,) = board.glob("**/curr1_input")
    sampler = Sampler([f"ina3221:{board}"], 50.0)
    sampler.start()
    assert wait_until(lambda: len(sampler.so_far().rows) > 0)
    aside = file.rename(tmp_path / "aside")
    assert wait_until(lambda: None in [values[0] for _, values in sampler.so_far().rows])
    aside.rename(file)
    assert wait_until(lambda: len(sampler.so_far().notes) == 2)
    seen = sampler.stop()
    assert seen.notes == (
        "VDD_IN: vanished: its power reads as missing from now on",
        "VDD_IN answers again, after: vanished",
    )
    assert {values[1:] for _, values in seen.rows} == {(2.0, 0.0)}
    assert {values[0] for _, values in seen.rows} == {6.0, None}
    assert (seen.simulated, seen.fault) == (True, None)


def _kill(sampler: Sampler) -> None:
    """End its process, and wait until it has ended without taking its exit code away."""
    os.kill(sampler.pid, signal.SIGKILL)
    os.waitid(os.P_PID, sampler.pid, os.WEXITED | os.WNOWAIT)
