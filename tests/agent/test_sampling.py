"""The loop that reads the meters: when it reads, how closely, and when it hands over what it read."""

from __future__ import annotations

import itertools
import math
import struct

import pytest

from agent.sampling import ATTENTION_S, FLUSH_S, Heard, sample
from phasewatt.fields import Reading
from phasewatt.traces import Channel

CHANNEL = Channel(name="c", source="s", reading=Reading.INSTANT, unit="W", scope=None)
MS = 1_000_000
ATTENTION_MS = round(ATTENTION_S * 1e3)


class Meter:
    """Two channels, of which the second is read closely only; each reading takes `cost_ms`."""

    simulated = True
    driver = mode = None
    refused = ()
    read_costs_s = (None, None)
    channels = (CHANNEL, CHANNEL)

    def __init__(self, house: House) -> None:
        self._house = house

    def read(self, closely: bool = False) -> tuple[float | None, ...]:
        self._house.now_ns += self._house.cost_ms * MS
        return 10.0, 11.0 if closely else None

    def notes(self) -> tuple[str, ...]:
        return tuple(self._house.to_note.pop((self._house.now_ns - self._house.start_ns) // MS, ()))

    def close(self) -> None:
        raise NotImplementedError


class House:
    """The loop on a clock of its own, told at `at_ms` what it hears; `late_ms` are waits that take longer."""

    def __init__(self, end_ms: int, attend_ms: tuple[int, ...] = (), cost_ms: int = 0, late_ms: int = 0) -> None:
        self.now_ns = self.start_ns = 5_000_000_000
        self.cost_ms = cost_ms
        self.to_note: dict[int, tuple[str, ...]] = {}  # by when, in ms since the start
        self.seen: list[int | str] = []  # rows by their ms, and notes, in their order
        self.rows: list[tuple[int, bool]] = []  # in ms since the start, and whether it was read closely
        self.writes: list[tuple[int, int]] = []  # when, and up to which row
        self._to_come = sorted([(at, Heard.ATTEND) for at in attend_ms] + [(end_ms, Heard.END)], key=lambda e: e[0])
        self._late = {late_ms} if late_ms else set()

    def run(self, rate_hz: float = 20.0, closely: bool = False) -> list[tuple[int, bool]]:
        sample([Meter(self)], 1 / rate_hz, closely, self._wait, self._write, lambda: self.now_ns)
        return self.rows

    def times_ms(self, start_ms: int, end_ms: int) -> list[int]:
        return [at for at, _ in self.rows if start_ms <= at < end_ms]

    def _wait(self, seconds: float) -> Heard:
        at_ms, heard = self._to_come[0]
        due_ns = self.now_ns + round(seconds * 1e9)
        for late_ms in [late for late in self._late if self.start_ns + late * MS <= due_ns]:
            self._late.remove(late_ms)
            due_ns += 150 * MS
        if due_ns < self.start_ns + at_ms * MS:
            self.now_ns = due_ns
            return Heard.NOTHING
        self.now_ns = max(self.now_ns, self.start_ns + at_ms * MS)
        self._to_come.pop(0)
        return heard

    def _write(self, rows: bytes) -> None:
        at = 0
        while at < len(rows):
            (at_ns,) = struct.unpack_from("<q", rows, at)
            at += 8
            if at_ns < 0:
                self.seen.append(rows[at : at - at_ns].decode())
                at -= at_ns
                continue
            first, second = struct.unpack_from("<2d", rows, at)
            at += 16
            assert first == 10.0
            self.rows.append(((at_ns - self.start_ns) // MS, not math.isnan(second)))
            self.seen.append(self.rows[-1][0])
        self.writes.append(((self.now_ns - self.start_ns) // MS, self.rows[-1][0]))


def test_rows_come_at_the_rate_that_was_asked_for() -> None:
    assert House(end_ms=1000).run(rate_hz=20) == [(at, False) for at in range(0, 1000, 50)]


def test_a_reading_that_takes_its_time_does_not_shift_the_ones_after_it() -> None:
    """A row's time is when its reading began."""
    assert [at for at, _ in House(end_ms=20_000, cost_ms=17).run()] == list(range(0, 20_000, 50))


def test_readings_that_take_longer_than_the_period_follow_each_other_at_once() -> None:
    """And end as soon as they are told to."""
    assert [at for at, _ in House(end_ms=400, cost_ms=80).run()] == list(range(0, 400, 80))


def test_a_late_reading_is_followed_by_one_and_not_by_all_that_were_missed() -> None:
    """From there rows go on at the rate; a burst would be no news."""
    house = House(end_ms=1000, late_ms=200)
    house.run()
    assert house.times_ms(0, 1000) == [0, 50, 100, 150, 350, *range(350, 1000, 50)]


def test_attention_gives_close_readings_for_its_time_and_no_longer() -> None:
    """At once, a hundred a second, costly channels too; then the usual rate."""
    house = House(end_ms=1000, attend_ms=(320,))
    house.run()
    over_ms = 320 + ATTENTION_MS
    assert [at for at, close in house.rows if close] == list(range(320, over_ms, 10))
    assert house.times_ms(0, 320) == list(range(0, 320, 50))
    assert house.times_ms(over_ms, 1000) == list(range(over_ms, 1000, 50))


def test_attention_at_a_low_rate_is_as_close() -> None:
    """A wait of seconds is left for it."""
    house = House(end_ms=3000, attend_ms=(320,))
    house.run(rate_hz=0.5)
    assert house.times_ms(0, 2000) == [0, *range(320, 320 + ATTENTION_MS + 1, 10)]


def test_attention_during_attention_lengthens_it() -> None:
    house = House(end_ms=1500, attend_ms=(300, 500))
    house.run()
    assert [at for at, close in house.rows if close] == list(range(300, 500 + ATTENTION_MS, 10))


def test_closely_reads_every_channel_always_at_the_same_rate() -> None:
    house = House(end_ms=1000, attend_ms=(400,))
    house.run(rate_hz=100, closely=True)
    assert house.rows == [(at, True) for at in range(0, 1000, 10)]


def test_rows_are_handed_over_once_a_second() -> None:
    """A row waits for no more than a second and a period."""
    house = House(end_ms=3500)
    house.run()
    assert [b - a for a, b in itertools.pairwise([0, *(at for at, _ in house.writes)])] == [1000, 1000, 1000, 500]
    assert FLUSH_S == 1.0


@pytest.mark.parametrize("late_ms", [0, 630, 650])
def test_rows_are_handed_over_when_attention_ends(late_ms: int) -> None:
    """All that were read closely, once; even where the process was held up just then."""
    house = House(end_ms=900, attend_ms=(300,), late_ms=late_ms)
    house.run()
    over_ms = 300 + ATTENTION_MS
    assert len(house.writes) == 2
    at_ms, last_ms = house.writes[0]
    assert over_ms <= at_ms <= over_ms + 150
    assert [at for at, close in house.rows if close][-1] <= last_ms


def test_the_end_hands_over_what_was_read() -> None:
    """At once, in the middle of a period."""
    house = House(end_ms=123)
    assert house.run() == [(0, False), (50, False), (100, False)]
    assert house.writes == [(123, 100)]


def test_what_happened_to_a_meter_stands_behind_the_row_that_met_it() -> None:
    """Several at once too, in any language; rows go on as they did."""
    house = House(end_ms=200)
    house.to_note = {50: ("VDD_IN vanished", "VDD_SOC: Zugriff verweigert, später"), 100: ("VDD_IN answers again",)}
    house.run()
    first, second, third = "VDD_IN vanished", "VDD_SOC: Zugriff verweigert, später", "VDD_IN answers again"
    assert house.seen == [0, 50, first, second, 100, third, 150]


def test_a_note_does_not_wait_for_longer_than_its_row() -> None:
    """Handed over together."""
    house = House(end_ms=2000)
    house.to_note = {950: ("late",)}
    house.run()
    assert house.writes[0][0] == 1000
    assert house.seen.index("late") == house.seen.index(950) + 1


def test_a_meter_is_asked_what_happened_after_every_reading() -> None:
    """So that a fault that came and went between two hand-overs is told."""
    house = House(end_ms=1000)
    house.to_note = {at: (f"{at}",) for at in range(0, 1000, 50)}
    house.run()
    assert [note for note in house.seen if isinstance(note, str)] == [str(at) for at in range(0, 1000, 50)]
