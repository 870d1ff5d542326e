"""Whether a sensor looked at all of a repetition, or always at the same moment of it."""

from __future__ import annotations

import random

import pytest

from phasewatt.beats import Beat, is_locked, resultant
from tests.fixtures.records import SECOND_NS

MS = SECOND_NS // 1000


def beat(length_ms: float, count: int = 200, parts: int = 1) -> Beat:
    """Repetitions of one length, back to back from 0."""
    length_ns = round(length_ms * MS)
    return Beat([index * length_ns for index in range(count)], [length_ns] * count, parts)


def looks(every_ms: float, count: int = 40, first_ms: float = 3.0) -> list[int]:
    """Moments at an even pace."""
    return [round((first_ms + index * every_ms) * MS) for index in range(count)]


@pytest.mark.parametrize("length_ms", [100, 50, 25, 20])
def test_looking_once_in_whole_repetitions_sees_one_moment(length_ms):
    assert resultant(looks(100), (), [beat(length_ms)]) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("length_ms", [200, 300])
def test_looking_two_or_three_times_in_a_repetition_sees_one_moment_of_a_part_of_it(length_ms):
    """Two looks a repetition tell a wave of twice its pace from a steady one as little as one look does."""
    assert resultant(looks(100), (), [beat(length_ms)]) == pytest.approx(1.0, abs=1e-6)


def test_looking_everywhere_alike_sees_all():
    assert resultant(looks(100, 37), (), [beat(370)]) == pytest.approx(0.0, abs=1e-6)


def test_chance_makes_no_lock():
    """Moments at random: the stated chance is 0.7 % a harmonic, so 2.1 % in all."""
    source = random.Random(5)
    locked = 0
    for _ in range(400):
        moments = sorted(source.randrange(20 * SECOND_NS) for _ in range(12))
        locked += is_locked(resultant(moments, (), [beat(100)]), 12)
    assert locked <= 16


def test_the_strongest_of_several_beats_counts():
    free, tied = beat(370), beat(100)
    moments = looks(100, 37)
    assert resultant(moments, (), [free, tied]) == resultant(moments, (), [tied]) > 0.9


def test_steps_within_a_repetition_are_beats_of_their_own():
    """A repetition of 370 ms with 37 steps: no lock on the whole, and one on the steps of 10 ms."""
    assert resultant(looks(100, 37), (), [beat(370, parts=37)]) == pytest.approx(1.0, abs=1e-6)


def test_moments_outside_of_all_repetitions_do_not_count():
    assert resultant(looks(100, first_ms=50_000), (), [beat(100, count=10)]) == 0.0


def test_without_beats_nothing_is_one_sided():
    assert resultant(looks(100), (), []) == 0.0
    assert resultant([], (), [beat(100)]) == 0.0


def test_a_mean_over_whole_repetitions_hides_no_moment():
    """A sensor that averages over the beat sees all of it, whenever it looks."""
    assert resultant(looks(100), (100 * MS,), [beat(100)]) == pytest.approx(0.0, abs=1e-6)
    assert resultant(looks(100), (25 * MS,), [beat(100)]) == pytest.approx(0.9, abs=0.01)


def test_a_moment_that_is_not_known_to_within_the_beat_tells_of_no_lock():
    assert resultant(looks(100), (25 * MS, 100 * MS), [beat(100)]) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("moments", "limit"), [(8, 0.79), (20, 0.5), (100, 0.5)])
def test_few_moments_must_be_more_one_sided(moments, limit):
    assert not is_locked(limit - 0.01, moments)
    assert is_locked(limit + 0.01, moments)
