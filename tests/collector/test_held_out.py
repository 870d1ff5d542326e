"""Errors at lengths that were left out: small where the truth is simple, large where it is not, and reasons."""

from __future__ import annotations

import json

import pytest

from collector.app import main
from collector.held_out import ENERGY_GOAL, TIME_GOAL, held_out
from collector.store import open_store
from tests.collector.test_prediction import LENGTHS, fleet, measured
from tests.fixtures import trials
from tests.fixtures.wire import batch_of


def rows(stored):
    return {row.subject: row for row in held_out(stored)}


def test_every_length_is_predicted_from_the_others():
    found = rows(fleet(sensors=[trials.GPU]))
    assert list(found) == ["prefill time", "decode time", "prefill energy", "decode energy"]
    for row in found.values():
        assert set(row.errors) == {str(length) for length in LENGTHS}
        assert row.worst == max(map(abs, row.errors.values())) and row.reason is None
        assert row.within and row.goal == (TIME_GOAL if "time" in row.subject else ENERGY_GOAL)


def test_a_length_that_is_unlike_the_others_is_not_within_the_goal():
    odd = [*fleet(LENGTHS[:-1]), measured(LENGTHS[-1], slowness=1.5)]
    row = rows(odd)["prefill time"]
    assert row.within is False and row.errors[str(LENGTHS[-1])] < -0.2 and row.middle < row.worst


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
        store.ingest(batch_of(stored.trial, device="alpha", epoch=f"epoch-{index}"), 1.7e9)
    store.close()
    assert main(["predict", "--db", database, "--check"]) == 0
    told = capsys.readouterr().out
    assert "prefill time" in told and "2048: " in told and "no trial here has energy" in told
    assert main(["predict", "--db", database, "--check", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema"] == "predict-check/0" and answer["fits"][0]["errors"]["2048"]


@pytest.mark.parametrize("arguments", [[], ["--prompt-tokens", "8"]])
def test_a_workload_or_a_check_is_asked_for(arguments, tmp_path, capsys):
    assert main(["predict", "--db", f"sqlite:///{tmp_path}/none.db", *arguments]) == 2
    assert "expected --prompt-tokens and --output-tokens, or --check" in capsys.readouterr().err


def test_the_shipped_trials_are_judged_or_refused_with_the_lengths(capsys):
    assert main(["predict", "--check", "--reference", "--json"]) == 0
    for row in json.loads(capsys.readouterr().out)["fits"]:
        assert (row["worst"] is None) == bool(row["reason"])
