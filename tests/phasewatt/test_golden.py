"""Records as earlier versions wrote them: still read, and while their schema is the current one, written the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import pytest

from phasewatt import codec
from phasewatt.fields import Outcome, Phase, Reading, Scope
from phasewatt.jobs import State
from phasewatt.traces import Channel
from phasewatt.work import Architecture
from tests.fixtures import golden

SCHEMAS = range(1, codec.SCHEMA + 1)
NAMES = [*golden.KINDS, *golden.MESSAGES]

# What a reader of any later version must still find in each file of each schema.
CHOSEN: dict[int, dict[str, dict[str, object]]] = {
    1: {
        "trial_ok": {
            "device": "h200-a",
            "outcome": Outcome.OK,
            "work.task.prompt_tokens": 4,
            "work.task.architecture.experts.per_token": 2,
            "work.weights.digest": "5f1d0c2a",
            "conditions.power_limit_w": 700.0,
            "conditions.clock_hz": (345_000_000, 1_980_000_000),
            "runs.2.phase": Phase.DECODE,
            "runs.2.window.tokens": 12,
            "runs.2.window.duration_s": 0.3,
            "runs.3.first_token_ns.1": 500_000_000,
            "energy.0.energy_j": 1000.5,
            "energy.0.scope": Scope.GPU_BOARD,
            "energy.0.check.energy_j": 1020.0,
            "energy.1.energy_j": None,
            "energy.1.reason": "gap: the sensor was silent for 4.00 s of 10.00 s",
            "readings.0.mean": 1.97e9,
            "traces": ("3c59dc04", "b6d767d2"),
        },
        "trial_failed": {"outcome": Outcome.FAILED, "reason": "the worker was ended by signal 9", "work": None},
        "trace": {
            "time.steps": (5_000_000_000, 100_000_007),
            "channels.0.reading": Reading.COUNTER,
            "channels.0.card.lag_s": 0.013,
            "channels.1.parts_of_total": False,
            "values.0.steps": (None, 125_000_001),
        },
        "telemetry": {"values.0.name": "power", "values.0.steps": (9500, None, 750)},
        "event": {"name": "spool-dropped", "fields.rows": "12"},
        "batch": {"epoch": "e-7f3a", "items.0.seq": 41, "clock.offset_bound_s": 0.002},
        "receipt": {"ranges": ((1, 40), (42, 42)), "rejected.0.seq": 41, "high_water": 42},
        "status": {"pending": 17, "dropped.telemetry": 12},
        "facts": {"host.gpus.0.power_limit_w": 700.0, "host.sensors.0.channels.0.card.driver": "580.159.04"},
        "collector_state": {"generation": "g-2"},
        "export_header": {"phasewatt": "export", "device": "orin-3"},
    }
}
CHOSEN[2] = CHOSEN[1] | {
    "trial_ok": CHOSEN[1]["trial_ok"]
    | {
        "conditions.power_mode_id": 2,
        "conditions.prefill_chunk": 2048,
        "conditions.fused_weights": True,
        "conditions.cache_tokens": 7,
        "conditions.experts_by": "grouped_mm",
        "work.task.architecture.qk_norm_joint": True,
        "work.task.architecture.output_bias": True,
        "work.task.architecture.experts.norm_topk_prob": True,
        "conditions.state.0": None,
        "conditions.state.1.clocks.0.most_hz": 1_300_500_000,
        "conditions.state.1.clocks.0.locked": False,
        "conditions.state.1.temperatures_c.cv0-thermal": None,
        "conditions.state.1.over_current_events.oc1": 3,
        "meters.ina3221": "reads VDD_IN (instant, module)",
        "conditions.cooling.waited_s": 12.5,
        "conditions.slept_s": 3.5,
        "repeat": 2,
        "place": 5,
        "order_seed": 1,
        "course.temperature_c.0": 61.5,
    },
    "facts": CHOSEN[1]["facts"]
    | {
        "host.module": "Jetson AGX Orin 64GB",
        "host.carrier": "p3737-0000",
        "host.labels": ("orin", "site=lab-2"),
    },
    "job_order": {"parameters.batch": (1, 4), "held": 3, "cancel": True},
    "job_notice": {"generation": "g-2", "held": {"nightly.20251009T0200Z": 7}},
    "job_get": {"session": "s-91"},
    "job_update": {"reports.0.state": State.FAILED, "reports.0.version": 4},
    "telemetry": CHOSEN[1]["telemetry"] | {"simulated": True},
    "watch": {"watcher": "watch-5c1e", "for_s": 30.0},
    "live": {"telemetry.values.0.name": "power"},
}
WRITTEN = [(schema, name) for schema in SCHEMAS for name in CHOSEN[schema]]


def body(schema: int, name: str) -> bytes:
    """The bytes of one golden file."""
    return (golden.folder(schema) / f"{name}.json").read_bytes().rstrip(b"\n")


def decoded(schema: int, name: str) -> Any:
    """The record or message in one golden file, by today's reader."""
    if name in golden.KINDS:
        return codec.decode_record(golden.KINDS[name], schema, body(schema, name))
    return codec.decode(body(schema, name), golden.MESSAGES[name])


def at(record: Any, path: str) -> object:
    """What lies at a dotted path of fields, indices and keys."""
    for step in path.split("."):
        if isinstance(record, dict):
            record = record[step]
        else:
            record = record[int(step)] if step.isdigit() else getattr(record, step)
    return record


@pytest.mark.parametrize("schema", SCHEMAS)
def test_every_schema_has_a_file_of_each_kind(schema):
    """A raised `codec.SCHEMA` needs its own: `python -m tools.golden`."""
    assert {path.stem for path in golden.folder(schema).glob("*.json")} == set(CHOSEN[schema])
    assert set(CHOSEN[codec.SCHEMA]) == set(NAMES)


@pytest.mark.parametrize(("schema", "name"), WRITTEN)
def test_what_was_written_is_still_read(schema, name):
    record = decoded(schema, name)
    assert {path: at(record, path) for path in CHOSEN[schema][name]} == {
        path: pytest.approx(value) if isinstance(value, float) else value
        for path, value in CHOSEN[schema][name].items()
    }


def test_an_older_schema_leaves_open_what_came_later():
    """What nobody asked a board then is not told, rather than 0."""
    trial = decoded(1, "trial_ok")
    assert (trial.conditions.power_mode_id, trial.conditions.state, trial.meters) == (None, (None, None), {})
    assert (decoded(1, "facts").host.module, decoded(1, "facts").host.carrier) == (None, None)


@pytest.mark.parametrize("name", NAMES)
def test_the_current_schema_is_written_to_the_same_bytes(name):
    """A field that came, went or changed its name needs a new `codec.SCHEMA`, and a reader of the old one."""
    assert codec.encode(decoded(codec.SCHEMA, name)) == body(codec.SCHEMA, name)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_records_inside_a_batch_are_read_by_their_own_schema(schema):
    batch = decoded(schema, "batch")
    (item,) = batch.items
    assert codec.decode_record(batch.kind, item.schema, bytes(item.body)) == decoded(schema, "event")


def test_every_field_is_filled_somewhere():
    """So that no change of a field's form goes unseen."""
    parts = [part for name in NAMES for part in structs(decoded(codec.SCHEMA, name))]
    told = {(type(part), field) for part in parts for field, value in fields(part) if value not in (None, (), {}, "")}
    declared = {(kind, field) for kind in {type(part) for part in parts} for field in kind.__struct_fields__}
    assert declared - told == set()
    assert {type(part) for part in parts} > {Architecture, Channel}


def structs(value: Any) -> Iterator[msgspec.Struct]:
    """A value's records, itself included, however deep."""
    if isinstance(value, msgspec.Struct):
        yield value
        for _, inner in fields(value):
            yield from structs(inner)
    elif isinstance(value, (tuple, list)):
        for inner in value:
            yield from structs(inner)


def fields(record: msgspec.Struct) -> Iterable[tuple[str, Any]]:
    """Names and values of a record."""
    return ((name, getattr(record, name)) for name in record.__struct_fields__)
