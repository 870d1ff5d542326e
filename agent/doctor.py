"""What this host can measure, and what stops it: one finding a question, each with its remedy."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

from agent.checks import Check, Finding, Subject, board, counting, delivery, host, identity, power, software
from agent.orders import Described, Resolve
from agent.stopping import Stop
from agent.worker_process import WorkerProcess
from phasewatt.errors import PhasewattError

logger = logging.getLogger(__name__)

_DESCRIBE_S = 300.0

CHECKS: Mapping[str, Check] = {
    "host": host.identity,
    "platform": software.platform,
    "python": software.python,
    "engine": software.engine,
    "onnxruntime": software.onnxruntime,
    "counters": counting.counters,
    "power": power.meters,
    "sensor cards": power.cards,
    "permissions": power.permissions,
    "power mode": board.power_mode,
    "clocks": board.clocks,
    "throttling": board.throttling,
    "heat": board.heat,
    "memory": host.memory,
    "disk": host.disk,
    "state": host.state,
    "clock": host.clock,
    "alone": host.alone,
    "identity": identity.identity,
    "broker": delivery.broker,
}


def examine(subject: Subject, checks: Mapping[str, Check] = CHECKS) -> Iterator[Finding]:
    """All findings, each as soon as it is known; only a False one keeps this host from measuring."""
    for question, check in checks.items():
        yield from _answers(question, check, subject)


def describe_engine() -> Described:
    """What the engine says of this host; it is asked in a process of its own, as a run would.

    Raises:
        EngineFailed: it does not work here.
    """
    worker = WorkerProcess("transformers", Stop())
    try:
        return worker.ask(Resolve(model="stories15m", weights="random:0", accelerator="auto"), Described, _DESCRIBE_S)
    finally:
        worker.close()


def _answers(question: str, check: Check, subject: Subject) -> Iterator[Finding]:
    try:
        yield from check(subject)
    except PhasewattError as error:
        yield Finding(question, None, f"could not be told: {error}")
    except Exception as error:  # what one question meets must not keep a user from the others' answers
        logger.debug("%s", question, exc_info=True)
        yield Finding(question, None, f"could not be told: {type(error).__name__}: {error}")
