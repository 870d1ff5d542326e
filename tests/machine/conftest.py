"""Machines that boot, kits to install from, and the figures that the tests took, printed at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.machine import kits, roots
from tests.machine.booted import Machine
from tests.system.conftest import Fleet

_FIGURES: list[str] = []


@pytest.fixture(scope="session")
def figure() -> Callable[[str], None]:
    """Keeps a line for the end of the session."""
    return _FIGURES.append


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what was measured."""
    for line in _FIGURES:
        terminalreporter.write_line(f"measured: {line}")


@pytest.fixture(scope="session")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Installer and wheelhouse of this tree."""
    return kits.make(tmp_path_factory.mktemp("kits") / "new")


@pytest.fixture(scope="session")
def older_kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, under an older version's number."""
    return kits.make(tmp_path_factory.mktemp("kits") / "old", version="0.0.9")


@pytest.fixture(scope="session")
def broken_kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A newer version whose daemon ends as soon as it is started."""
    serve = (kits.ROOT / "agent/commands/serve.py").read_text()
    broken = serve.replace('    """Live until told to end."""\n', '    raise RuntimeError("this release is broken")\n')
    assert broken != serve
    changes = {"agent/commands/serve.py": broken}
    return kits.make(tmp_path_factory.mktemp("kits") / "broken", version="9.9.9", changes=changes)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Machine]]:
    """Makes machines that have Python, systemd and the kits named, and nothing else; off at first."""
    roots.need("debootstrap", "systemd-nspawn", "nsenter", "unshare")
    base = roots.debian("amd64")
    made: list[Machine] = []

    def make(**carried: Path) -> Machine:
        machine = Machine(base, tmp_path_factory.mktemp("machine") / "disk", f"phasewatt-test-{len(made)}")
        for name, source in carried.items():
            machine.carry(source, f"kits/{name}")
        made.append(machine)
        return machine

    yield make
    for machine in made:
        machine.cut_power()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A collector's database on this host, for all tests of a module."""
    made = Fleet(tmp_path_factory.mktemp("centre"))
    yield made
    made.close()
