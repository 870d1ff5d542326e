"""Errors at lengths that were left out: small where the truth is simple, large where it is not, and reasons."""

from __future__ import annotations

import json

import msgspec
import pytest

from collector import reference
from collector.app import main
from collector.held_out import BATCH, ENERGY_GOAL, LENGTH, TIME_GOAL, held_out
from collector.prediction import Asked, forecasts
from collector.store import TrialQuery, open_store
from phasewatt.fields import Phase
from tests.collector.test_prediction import LENGTHS, fleet, measured
from tests.fixtures import trials
from tests.fixtures.wire import batch_of

TIMES = ("prefill time", "decode time")
DEVICE_TIMES = ("prefill device time", "decode device time")
ENERGIES = ("prefill energy", "decode energy")


def rows(stored, left_out=LENGTH):
    return {row.subject: row for row in held_out(stored) if row.left_out == left_out}


def busy(stored, seconds=None, odd=1.0):
    """The same trial with a profiled repetition in which the device was busy as long as `seconds` says of the run."""
    seconds = seconds or honest
    runs = tuple(
        msgspec.structs.replace(
            run,
            device_busy_ns=(round(1e9 * odd * seconds(run, stored.trial.work.task.batch)),),
            device_busy_reason=None,
        )
        if run.phase in (Phase.PREFILL, Phase.DECODE)
        else run
        for run in stored.trial.runs
    )
    return stored._replace(trial=msgspec.structs.replace(stored.trial, runs=runs))


def honest(run, batch):
    """A line with a start for a prefill, a line over batch and depth for every step of a decode."""
    if run.phase is Phase.PREFILL:
        return 0.006 + 3e-5 * batch * run.kv_end
    middle = (run.kv_start + run.kv_end - 1) / 2
    return (run.kv_end - run.kv_start) * (9e-3 + 3e-5 * batch + 1.5e-7 * batch * middle)


def test_every_length_is_predicted_from_the_others():
    found = rows([busy(each) for each in fleet(sensors=[trials.GPU])])
    assert tuple(found) == (*TIMES, *DEVICE_TIMES, *ENERGIES)
    for row in found.values():
        assert set(row.errors) == {str(length) for length in LENGTHS}
        assert row.worst == max(map(abs, row.errors.values())) and row.reason is None
        assert row.within and row.goal == (TIME_GOAL if "time" in row.subject else ENERGY_GOAL)


def test_the_shortest_and_the_longest_are_extrapolated_and_do_not_decide():
    """Only the shortest trial is unlike the others: the worst error is told, and the goal judged without it."""
    row = rows([busy(each, odd=3.0 if index == 0 else 1.0) for index, each in enumerate(fleet())])[DEVICE_TIMES[1]]
    assert set(row.interpolated) == {str(length) for length in LENGTHS[1:-1]}
    assert row.worst == abs(row.errors[str(LENGTHS[0])]) > TIME_GOAL > row.worst_interpolated
    assert row.within is True


def test_device_time_is_judged_where_the_host_is_not_steady():
    """Host times jump from length to length as those of a busy host do; what the device is busy does not."""
    jumpy = [busy(measured(length, slowness=1 + 0.9 * (index % 2))) for index, length in enumerate(LENGTHS)]
    found = rows(jumpy)
    assert found["decode time"].within is False and found["decode device time"].within is True
    assert found["decode device time"].worst_interpolated < 0.001 and found["decode device time"].note is None


def test_without_device_time_the_trials_say_why():
    for subject in DEVICE_TIMES:
        assert rows(fleet())[subject].reason == "no device-busy time: no accelerator to profile"


def test_batches_are_left_out_one_at_a_time_too():
    """Every batch has one length alone; without that length they are extrapolated, without one batch they are not."""
    several = [busy(each) for each in (*fleet(), *(measured(512, batch=batch) for batch in (2, 4, 8, 16)))]
    by_length, by_batch = rows(several)[DEVICE_TIMES[1]], rows(several, BATCH)[DEVICE_TIMES[1]]
    assert by_length.errors["512"] != by_length.interpolated["512"] == pytest.approx(0, abs=1e-6)
    assert set(by_batch.errors) == {"1", "2", "4", "8", "16"} and set(by_batch.interpolated) == {"2", "4", "8"}
    assert by_batch.within is True and by_batch.worst_interpolated < 1e-6


def test_too_few_batches_are_named_and_one_batch_has_no_row():
    assert rows(fleet(), BATCH) == {}
    two = rows([*fleet(), *fleet(batch=4)], BATCH)
    assert two["prefill time"].reason == "needs 4 batches, measured here: 1, 4"
    assert two["prefill time"].worst is two["prefill time"].within is None


def test_trials_of_one_length_as_far_apart_as_the_error_are_said_to_be_noise():
    twice = [*fleet(), measured(512, slowness=1.6)]
    row = rows(twice)["decode time"]
    assert row.spreads["512"] > 0.4 > row.spreads["1024"]
    assert row.note.startswith(f"measurements of one length lie up to {row.spreads['512']:.1%} apart (length 512)")
    assert "never settled" not in row.note


def test_windows_that_never_settled_are_counted_where_the_goal_is_missed():
    """Their repetitions count whole, so the note is there although the middle half of them is steady."""
    lasting = [measured(length, slowness=1 + 0.9 * (index % 2), steady=False) for index, length in enumerate(LENGTHS)]
    row = rows(lasting)["decode time"]
    assert row.within is False and row.note.endswith("5 of 5 windows never settled")
    settled = rows(fleet(steady=True))["decode time"]
    unsettled = rows(fleet(steady=False))["decode time"]
    assert all(unsettled.spreads[key] > settled.spreads[key] for key in settled.spreads)


def test_where_every_length_is_extrapolated_there_is_no_verdict():
    """Two are the ends, one has the largest batch and one the smallest."""
    odd = [busy(measured(length, batch=batch)) for length, batch in ((128, 2), (256, 64), (512, 1), (1024, 2))]
    row = rows(odd)[DEVICE_TIMES[1]]
    assert row.worst is not None and row.interpolated == {} and row.worst_interpolated is row.within is None


def test_a_forecast_tells_what_the_device_is_busy_of_it():
    (forecast,) = forecasts([busy(each) for each in fleet()], Asked(700, 101))
    expected = 0.006 + 3e-5 * 700 + sum(9e-3 + 3e-5 + 1.5e-7 * depth for depth in range(700, 800))
    assert forecast.device_s.value == pytest.approx(expected, rel=0.01)
    (without,) = forecasts(fleet(), Asked(700, 101))
    assert without.device_s.value is None
    assert without.device_s.reason == "prefill: no device-busy time: no accelerator to profile"


def test_a_length_that_is_unlike_the_others_is_not_within_the_goal():
    odd = [measured(length, slowness=1.5 if length == LENGTHS[2] else 1.0) for length in LENGTHS]
    row = rows(odd)["prefill time"]
    assert row.within is False and row.errors[str(LENGTHS[2])] < -0.2 and row.middle < row.worst


def test_what_cannot_be_judged_says_why():
    few = rows(fleet(LENGTHS[:3]))
    assert few["prefill time"].worst is few["prefill time"].within is None
    assert few["prefill time"].reason == "needs 4 lengths, measured here: 128, 256, 512"
    assert few["decode energy"].reason == "no trial here has energy"
    assert held_out([trials.failed()]) == ()


def test_the_command_prints_a_table_and_json(tmp_path, capsys):
    database = f"sqlite:///{tmp_path}/fleet.db"
    store = open_store(database, create=True)
    for index, stored in enumerate(fleet()):
        odd = busy(stored, odd=1.5 if index == 2 else 1.0)
        store.ingest(batch_of(odd.trial, device="alpha", epoch=f"epoch-{index}"), 1.7e9)
    store.close()
    assert main(["predict", "--db", database, "--check"]) == 0
    told = capsys.readouterr().out
    assert "prefill time" in told and "2048: " in told and "no trial here has energy" in told
    assert "prefill device time" in told and "% extrapolated" in told and "the goal is judged by the latter" in told
    assert main(["predict", "--db", database, "--check", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema"] == "predict-check/0" and answer["fits"][0]["errors"]["2048"]
    assert answer["fits"][2]["subject"] == "prefill device time" and answer["fits"][2]["within"] is False
    assert (
        set(answer["fits"][2]["interpolated"]) == {"256", "512", "1024"} and answer["fits"][2]["left_out"] == "length"
    )


@pytest.mark.parametrize("arguments", [[], ["--prompt-tokens", "8"]])
def test_a_workload_or_a_check_is_asked_for(arguments, tmp_path, capsys):
    assert main(["predict", "--db", f"sqlite:///{tmp_path}/none.db", *arguments]) == 2
    assert "expected --prompt-tokens and --output-tokens, or --check" in capsys.readouterr().err


def test_the_shipped_trials_are_judged_or_refused_with_the_lengths(capsys):
    assert main(["predict", "--check", "--reference", "--json"]) == 0
    for row in json.loads(capsys.readouterr().out)["fits"]:
        assert (row["worst"] is None) == bool(row["reason"])


def test_the_shipped_trials_of_an_h100_are_as_the_documents_say():
    """What docs/roofline.md has in bold misses the goal; the host's noise is said, and the device has none."""
    shipped = reference.load().matching(TrialQuery(device="h100", model="qwen3-8b"))
    mine = [stored for stored in shipped if stored.trial.conditions.mode == "eager"]
    eager = {(row.subject, row.left_out): row for row in held_out(mine) if row.errors}
    assert {key for key, row in eager.items() if row.left_out == LENGTH and row.within} == {
        ("decode device time", LENGTH)
    }
    assert eager["decode device time", BATCH].worst_interpolated == pytest.approx(0.042, abs=5e-4)
    bent = eager["prefill device time", LENGTH]
    assert bent.worst_interpolated == -bent.errors["512"] == pytest.approx(0.132, abs=5e-4) and bent.note is None
    assert "10 of 12 windows never settled" in eager["decode time", LENGTH].note
