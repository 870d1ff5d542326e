"""What this host can measure, and what stops it: one finding a question, each with its remedy."""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from agent.connection import BrokerSettings
from agent.host import Host, busy_cores
from agent.orders import Described, Resolve
from agent.stopping import Stop
from agent.surveying import Surveyed, facts_of
from agent.worker_process import WorkerProcess
from phasewatt.doubts import ALONE_CORES
from phasewatt.errors import PhasewattError
from phasewatt.records import HostFacts

_DESCRIBE_S = 300.0
_LOW_DISK_BYTES = 2 * 10**9


class Finding(Struct, frozen=True):
    """An answer. `ok` None: it does not hinder measuring, but a figure will be missing or doubtful."""

    question: str
    ok: bool | None
    verdict: str
    remedy: str | None = None


def examine(
    host: Host, found: Sequence[Surveyed], named: bool, state: Path, broker: BrokerSettings | None
) -> Iterator[Finding]:
    """All findings, each as soon as it is known; only a False one keeps this host from measuring.

    `named`: the meters are those that the settings name, and must answer.
    """
    facts = host.facts(facts_of(found))
    yield Finding(
        "host", True, f"{facts.model or facts.architecture}, {facts.cpu_count} CPUs, {facts.operating_system}"
    )
    yield _python()
    yield _engine()
    yield from _power(facts, named)
    yield from (card_finding(meter) for meter in found if meter.reason is None and not meter.simulated)
    yield _memory(facts)
    yield _disk(state)
    yield _clock(host)
    yield _alone(host)
    yield _broker(broker)


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if (3, 10) <= sys.version_info < (3, 14):
        return Finding("python", True, version)
    return Finding("python", None, f"{version} is not tested", "use 3.10 to 3.13")


def _engine() -> Finding:
    """torch is asked in a process of its own, as a run would."""
    worker = WorkerProcess("transformers", Stop())
    try:
        order = Resolve(model="stories15m", weights="random:0", accelerator="auto")
        found = worker.ask(order, Described, _DESCRIBE_S)
    except PhasewattError as error:
        return Finding(
            "engine", False, str(error), "pip install 'phasewatt[torch]', on a Jetson the platform's own torch"
        )
    finally:
        worker.close()
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    verdict = f"{versions} on {found.processor or found.accelerator} ({found.accelerator})"
    if found.accelerator == "cpu" and _has_nvidia_device():
        remedy = "install the torch build of this platform; a CUDA 13 wheel does not run on JetPack 6 or older drivers"
        return Finding("engine", None, f"{verdict}, although there is an NVIDIA GPU", remedy)
    return Finding("engine", True, verdict)


def _power(facts: HostFacts, named: bool) -> Iterator[Finding]:
    for sensor in facts.sensors:
        missing = False if named else None
        remedy = "take it out of the settings, or mend it" if named and not sensor.usable else None
        yield Finding(f"power: {sensor.meter}", sensor.usable or missing, sensor.reason, remedy)
    if not named and not any(sensor.usable for sensor in facts.sensors):
        yield Finding("power", None, "no power sensor answers: time and memory are measured, energy is not")


def card_finding(meter: Surveyed) -> Finding:
    """Whether every power channel of a meter has a card that holds."""
    question = f"sensor cards: {meter.meter}"
    if not meter.uncalibrated:
        return Finding(question, True, "every power channel has one")
    names = ", ".join(dict.fromkeys(f"{channel.name} ({channel.source})" for channel in meter.uncalibrated))
    verdict = f"{names}: none for this driver and mode, so that short phases are doubtful"
    return Finding(question, None, verdict, "phasewatt-agent meters --calibrate")


def _memory(facts: HostFacts) -> Finding:
    return Finding("memory", True, f"{facts.memory_bytes / 1e9:.1f} GB")


def _disk(state: Path) -> Finding:
    nearest = next(path for path in (state, *state.parents) if path.exists())
    free = shutil.disk_usage(nearest).free
    verdict = f"{free / 1e9:.1f} GB free for {state}"
    return (
        Finding("disk", True, verdict) if free > _LOW_DISK_BYTES else Finding("disk", None, verdict, "free some space")
    )


def _clock(host: Host) -> Finding:
    synchronised = host.clock().synchronised
    if synchronised:
        return Finding("clock", True, "synchronised")
    verdict = "not synchronised" if synchronised is False else "the kernel does not tell"
    return Finding(
        "clock", None, f"{verdict}: dates are labels only; durations are not concerned", "run chrony or ntpd"
    )


def _alone(host: Host) -> Finding:
    cores, others = busy_cores(1.0), host.gpus.processes()
    verdict = f"{cores:.1f} CPU cores busy" + ("" if others is None else f", {others} processes on the GPUs")
    if cores <= ALONE_CORES and not others:
        return Finding("alone", True, verdict)
    return Finding("alone", None, verdict, "end other work before measuring, or expect marked trials")


def _broker(broker: BrokerSettings | None) -> Finding:
    if broker is None:
        return Finding("broker", None, "none is set: records wait in the outbox", "--broker HOST:PORT, or export")
    try:
        socket.create_connection((broker.host, broker.port), timeout=3.0).close()
    except OSError as error:
        return Finding("broker", None, f"{broker}: {error.strerror or error}: records wait in the outbox", "start it")
    return Finding("broker", True, f"{broker} answers")


def _has_nvidia_device() -> bool:
    return any(Path(path).exists() for path in ("/dev/nvidia0", "/dev/nvhost-gpu", "/dev/nvgpu"))
