"""Flat rows: whatever a valid trial holds, each metric has a row with numbers or with a reason."""

from __future__ import annotations

import json

import msgspec
from hypothesis import HealthCheck, given, settings

from collector.metric_rows import COLUMNS, metric_rows
from collector.stored import StoredTrial
from phasewatt.conditions import HostState
from phasewatt.fields import Phase, Scope
from phasewatt.metrics import METRICS
from phasewatt.records import Trial
from tests.fixtures import records, strategies


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(trial=strategies.of(Trial))
def test_any_trial_has_a_row_for_each_metric(trial):
    rows = list(metric_rows(StoredTrial("id", trial)))
    assert {row["metric"] for row in rows} == set(METRICS)
    assert all(set(row) == {column.name for column in COLUMNS} for row in rows)
    assert all((row["median"] is None) == (row["missing_because"] is not None) for row in rows)


def test_each_power_scope_has_its_own_row():
    energies = tuple(
        records.phase_energy(Phase.PREFILL, joules, scope=scope)
        for scope, joules in ((Scope.GPU_BOARD, 100.0), (Scope.CPU_PACKAGE, 40.0))
    )
    rows = metric_rows(StoredTrial("id", records.trial(energy=energies, energy_reason=None)))
    found = {row["scope"]: row["median"] for row in rows if row["metric"] == "prefill_energy"}
    assert found == {"gpu-board": 50.0, "cpu-package": 20.0}


def test_host_without_a_sensor_has_the_reason_and_no_number():
    rows = metric_rows(StoredTrial("id", records.trial()))
    (row,) = (row for row in rows if row["metric"] == "request_energy")
    assert (row["median"], row["values"]) == (None, 0)
    assert row["missing_because"].startswith("no power sensor")


def test_the_states_of_a_host_are_one_cell():
    """A JSON list of before and after, which a notebook can read."""
    before = HostState(throttle_alerts={"gpu": 1}, memory_available_bytes=5)
    under = msgspec.structs.replace(records.trial().conditions, state=(before, None))
    row = next(metric_rows(StoredTrial("id", records.trial(conditions=under))))
    first, second = json.loads(row["state"])
    assert (first["throttle_alerts"], first["memory_available_bytes"], second) == ({"gpu": 1}, 5, None)
