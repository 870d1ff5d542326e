"""`--fault-seed`, `--fault-kills` and `--hostile-payloads`: how hard the fault tests try, and which dice they throw."""

from __future__ import annotations

import random
import sys

import pytest

_SEEDS = 2**32


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("phasewatt faults")
    group.addoption("--fault-seed", type=int, help="repeats a run of the fault tests (default: drawn, and printed)")
    group.addoption("--fault-kills", type=int, default=40, help="kills of the storm (default 40)")
    group.addoption("--hostile-payloads", type=int, default=5000, help="payloads for ingest (default 5000)")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--fault-seed") is None:
        config.option.fault_seed = random.SystemRandom().randrange(_SEEDS)


def pytest_report_header(config: pytest.Config) -> str:
    return f"fault seed: {config.getoption('--fault-seed')}"


@pytest.fixture
def fault_seed(request: pytest.FixtureRequest) -> str:
    """The seed of this test; printed, so that a failure shows how to repeat it."""
    seed = request.config.getoption("--fault-seed")
    sys.stdout.write(f"repeat with --fault-seed {seed}\n")
    return f"{seed}/{request.node.name}"
