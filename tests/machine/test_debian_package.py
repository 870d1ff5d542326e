"""The Debian package in a machine that boots: installed, running, removed, purged; and never beside the other way."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.machine import kits
from tests.machine.booted import Machine

pytestmark = [pytest.mark.nspawn, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def machine(bare: Callable[..., Machine], kit: Path, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    out = tmp_path_factory.mktemp("package")
    command = [sys.executable, "tools/debian_package.py", "--wheelhouse", str(kit / "wheelhouse"), "--out", str(out)]
    done = subprocess.run(command, cwd=kits.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    made = bare(new=kit, package=out)
    made.boot()
    return made


def test_the_package_installs_runs_and_goes(machine: Machine) -> None:
    said = machine.run("sh", "-c", "dpkg --install /kits/package/phasewatt-agent_*_all.deb")
    assert "what this host can measure" in said
    assert machine.run("systemctl", "is-active", "phasewatt-agent").strip() == "active"
    assert "phasewatt-agent" in machine.run("dpkg", "--status", "phasewatt-agent")
    refused = machine.run("sh", "/kits/new/deploy/install-agent.sh", fails=True)
    assert "the Debian package phasewatt-agent is installed here" in refused and "nothing was changed" in refused
    machine.run("dpkg", "--remove", "phasewatt-agent")
    machine.run("systemctl", "is-active", "phasewatt-agent", fails=True)
    assert "outbox.db" in machine.run("ls", "/var/lib/phasewatt-agent")
    machine.run("ls", "/opt/phasewatt", fails=True)
    machine.run("dpkg", "--purge", "phasewatt-agent")
    machine.run("id", "phasewatt", fails=True)
    assert machine.run("sh", "-c", "ls -d /var/lib/phasewatt-agent /etc/phasewatt 2>/dev/null || true").strip() == ""
