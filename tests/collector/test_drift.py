"""Drift: a change of level against a device's own history, what changed beside it, and where it is shown."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import drift_power
from collector import app, drift, drift_words, job_spec
from collector.drift_watch import DriftWatch
from collector.drift_words import Beside, Found
from collector.job_spec import JobRow
from collector.store import Store, open_store
from phasewatt import codec, topics
from phasewatt.records import Trial
from tests.fixtures import trials, wire
from tests.fixtures.records import changed

DAY_S = 86400.0
FIRST = 1.76e9
NIGHTLY = 'suite = "smoke"\n[targets]\ndevices = ["alpha"]\n[schedule]\ncron = "0 2 * * *"\n'


def nights(count: int, spread: float = 0.005, seed: int = 3) -> list[float]:
    draw = random.Random(seed)
    return [10.0 * draw.lognormvariate(0, spread) for _ in range(count)]


def test_a_change_of_level_is_found_within_three_nights_with_its_interval():
    values = nights(40)
    values[30:] = [value * 1.05 for value in values[30:]]
    (change,) = drift.changes(values)
    assert (change.first, change.nights) == (30, 30)
    assert change.found <= 32
    assert change.low < 0.05 < change.high
    assert change.low > 0


@pytest.mark.parametrize("bad", [[25], [25, 26], [20, 25, 30]])
def test_bad_nights_are_no_change(bad):
    values = nights(40)
    for night in bad:
        values[night] *= 1.5
    assert drift.changes(values) == []


def test_a_level_that_goes_and_comes_back_is_two_changes():
    values = nights(60)
    values[20:40] = [value * 0.9 for value in values[20:40]]
    assert [change.effect < 0 for change in drift.changes(values)] == [True, False]


def test_a_short_history_judges_nothing():
    values = nights(9) + [20.0] * 3
    assert drift.changes(values) == []
    level = drift.level(values[:5])
    assert (level.nights, level.spread, level.detectable) == (5, None, None)
    assert drift.level([]) == drift.Level(None, 0, None, None)


def test_small_changes_are_told_of_no_one_however_sure():
    values = nights(40, spread=0.0002)
    values[30:] = [value * 1.015 for value in values[30:]]
    assert drift.changes(values) == []


def test_noise_says_what_it_hides():
    """A spread of 3 % cannot show 5 % in three nights, and says so."""
    quiet, loud = (drift.level(nights(40, spread)).detectable for spread in (0.005, 0.03))
    assert quiet < 0.05 < loud


def test_equal_nights_have_no_spread_that_a_clock_could_see():
    assert drift.changes([10.0] * 40) == []


@pytest.mark.parametrize(("freedom", "t"), [(3, 3.1824), (9, 2.2622), (27, 2.0518), (60, 2.0003)])
def test_student_is_what_tables_say(freedom, t):
    assert drift.student(0.975, freedom) == pytest.approx(t, abs=2e-4)


@pytest.mark.parametrize("model", drift_power.MODELS)
def test_the_figures_hold_in_small(model):
    """As benchmarks/drift_power.py, with fewer cases; the full run is in docs/jobs.md."""
    noise = drift_power.MODELS[model]
    assert drift_power.found_in_time(noise, 0.008, 100, 6, random.Random(5)) >= 0.95
    assert drift_power.false_alarms(noise, 0.008, 2, 6, random.Random(6)) <= 1.0


def canaries(count: int, change_at: int, slowness: float, **after: Any) -> list[tuple[float, Trial]]:
    """A trial a night; from `change_at` on it is slower and run otherwise."""
    made = []
    for night in range(count):
        changed_now = night >= change_at
        under = trials.conditions(**after) if changed_now else trials.conditions()
        measured = trials.measured("alpha", slowness=slowness if changed_now else 1.0, under=under, seed=night)
        made.append((FIRST + night * DAY_S, measured.stored.trial))
    return made


def test_what_changed_with_a_level_is_named_beside_it():
    """A driver and a power mode are settings; heat and clocks are observed."""
    made = canaries(
        24,
        20,
        1.08,
        power_mode="15W",
        versions={"torch": "2.14.0", "transformers": "5.23.0"},
        temperature_c=(55.0, 60.0),
        clock_hz=(2_900_000_000, 2_500_000_000),
        throttled=("thermal",),
    )
    series = {each.series.metric: each for each in drift_words.watched(made)}
    assert set(series) == {"prefill_latency", "decode_step_latency"}
    (found,) = series["decode_step_latency"].changes
    assert (found.since_unix_s, found.worse) == (FIRST + 20 * DAY_S, True)
    assert found.effect == pytest.approx(0.08, abs=0.02)
    assert Beside(name="torch version", before="2.13.0", after="2.14.0") in found.beside
    assert {each.name for each in found.beside} >= {"power mode", "temperature before", "clock", "throttled"}
    told = drift_words.sentence(found)
    assert "worse" in told
    assert "torch version 2.13.0 -> 2.14.0" in told


def test_a_change_without_a_cause_says_so():
    (found, *_) = [one for each in drift_words.watched(canaries(24, 20, 0.9)) for one in each.changes]
    assert found.worse is False
    assert found.beside == ()
    assert "no known condition changed with it" in drift_words.sentence(found)


def filled(store: Store, made: Sequence[tuple[float, Trial]]) -> None:
    """A store whose nightly job brought these trials."""
    store.put_status(wire.status(device="alpha"), FIRST)
    job = JobRow("nightly", job_spec.parse(NIGHTLY, "j"), FIRST)
    store.jobs.submit(job)
    for number, (due, trial) in enumerate(made, 1):
        (execution,) = job_spec.executions_of(job, due, store.devices(), due)
        store.jobs.occur(job, due, [execution])
        record = changed(trial, campaign=execution.id)
        store.ingest(wire.batch_of(record, device="alpha", first_seq=number), due)


def test_what_is_found_is_stored_published_once_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path / 'c.db'}"
    sent: list[tuple[str, bytes]] = []
    with contextlib.closing(open_store(url, create=True)) as store:
        filled(store, canaries(18, 14, 1.08, power_mode="15W"))
        now = FIRST + 19 * DAY_S
        for _ in range(2):
            DriftWatch(store, lambda *said: sent.append(said), "centre", clock=lambda: now).look()
        found = store.jobs.drifts()
        assert store.jobs.drifts(FIRST + 15 * DAY_S) == []
    assert [topic for topic, _ in sent] == [topics.drift("centre")] * 2
    published = [codec.decode(codec.unpack(body), Found) for _, body in sent]
    assert sorted(each.series for each in published) == sorted(each.series for each in found)
    assert app.main(["drift", "--db", url]) == 0
    assert "changed with it: power mode not stated -> 15W" in capsys.readouterr().out
    assert app.main(["drift", "--json", "--db", url]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["schema"] == "drift/0"
    assert [len(each["changes"]) for each in shown["series"]] == [1, 1]


def test_a_change_stands_among_the_remarks_of_its_device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path / 'c.db'}"
    with contextlib.closing(open_store(url, create=True)) as store:
        store.put_status(wire.status(device="alpha"), FIRST)
        (found, *_) = [one for each in drift_words.watched(canaries(18, 14, 1.08)) for one in each.changes]
        recent = changed(found, since_unix_s=4e9)
        assert store.jobs.note_drift(recent, FIRST)
        assert not store.jobs.note_drift(recent, FIRST)
    assert app.main(["devices", "--json", "--db", url]) == 0
    (device,) = json.loads(capsys.readouterr().out)["devices"]
    assert any("no known condition changed with it" in remark for remark in device["remarks"])
