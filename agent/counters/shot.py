"""Counting by itself: a model counted under one prompt after another, and the trials that come of it."""

from __future__ import annotations

import time
from typing import NamedTuple

import msgspec

import phasewatt
from agent.counters.run import Outcome, Workload, cut
from agent.host import Host
from phasewatt import fields, prompt, roofline
from phasewatt.conditions import Conditions
from phasewatt.records import Trial
from phasewatt.work import Architecture, Task, Weights, Work

SUITE = "counters"
_STEPS = 2  # output tokens: the prefill gives the first, the decode step that is counted the second


class Shot(NamedTuple):
    """One workload by the name that a user gave it."""

    name: str
    workload: Workload

    @property
    def label(self) -> str:
        """The cell of its trial."""
        load, asked = self.workload.load, self.workload.prompt
        shape = load.architecture
        layers = cut(shape, self.workload.layers).layers
        return (
            f"{self.name}: {shape.name} {load.weights} {load.dtype} batch={asked.batch} {asked.tokens}/{_STEPS} "
            f"{load.attention}, {layers} of {shape.layers} layers"
        )


class Begun(NamedTuple):
    """When a workload was begun."""

    unix_s: float
    ns: int

    @classmethod
    def now(cls) -> Begun:
        """This moment."""
        return cls(time.time(), time.monotonic_ns())


def trial(shot: Shot, outcome: Outcome, host: Host, campaign: str, begun: Begun) -> Trial:
    """The trial of a workload that was counted, or was not, with its reason. It has no runs: nothing was timed."""
    counted = any(profile.operators for profile in outcome.profiles)
    reason = next((profile.reason for profile in outcome.profiles if not profile.operators), None)
    return Trial(
        device=host.device,
        campaign=campaign,
        suite=SUITE,
        cell=shot.label,
        agent_version=phasewatt.__version__,
        boot_id=host.boot_id,
        started_unix_s=begun.unix_s,
        started_ns=begun.ns,
        outcome=fields.Outcome.OK if counted else fields.Outcome.FAILED,
        reason=None if counted else reason,
        work=_work(shot.workload, outcome),
        conditions=_conditions(shot.workload, outcome, host),
        energy_reason="not metered: counters were read",
        counters=outcome.profiles,
    )


def _work(workload: Workload, outcome: Outcome) -> Work:
    load, asked, counted = workload.load, workload.prompt, outcome.counted
    shape = _named(load.architecture, workload.layers)
    ids = prompt.token_ids(asked.seed, asked.batch, asked.tokens, shape.vocab_size)
    task = Task(
        architecture=shape,
        batch=asked.batch,
        prompt_tokens=asked.tokens,
        prompt_digest=prompt.digest(ids),
        output_tokens=_STEPS,
    )
    weights = Weights(
        source=load.weights,
        parameters=counted.parameters if counted else roofline.parameter_count(shape),
        digest=counted.weights_digest if counted else None,
        drawn_on=counted.drawn_on if counted else None,
    )
    return Work(task=task, weights=weights, dtype=load.dtype, quantization=counted.quantization if counted else None)


def _named(shape: Architecture, layers: int | None) -> Architecture:
    """The shape that was counted, under a name that says what it lacks."""
    kept = cut(shape, layers)
    if kept.layers == shape.layers:
        return shape
    return msgspec.structs.replace(kept, name=f"{shape.name} ({kept.layers} of {shape.layers} layers)")


def _conditions(workload: Workload, outcome: Outcome, host: Host) -> Conditions:
    load, counted = workload.load, outcome.counted
    driver = host.gpus.driver()
    versions = {**(counted.versions if counted else {}), **({"driver": driver} if driver else {})}
    return Conditions(
        engine="transformers",
        mode="eager",
        accelerator=counted.accelerator if counted else load.accelerator,
        processor=counted.processor if counted else None,
        attention=load.attention,
        tf32=load.tf32,
        fused_weights=load.fused_weights,
        experts_by=counted.experts if counted else None,
        governor=host.governor,
        versions=versions,
        marks=("counted by ncu, which runs every kernel alone and several times",),
    )
