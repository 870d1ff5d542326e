"""The service units: what they must say, what each leaves open and why, and that systemd understands them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).resolve().parents[2] / "deploy/systemd"
AGENT, COLLECTOR = UNITS / "phasewatt-agent.service", UNITS / "phasewatt-collector.service"
HARDENED = {
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectKernelModules": "yes",
    "ProtectControlGroups": "yes",
    "RestrictNamespaces": "yes",
    "RestrictSUIDSGID": "yes",
}
RELAXABLE = ("PrivateDevices", "ProtectClock", "ProtectProc", "MemoryDenyWriteExecute", "PrivateUsers", "IPAddressDeny")


def said(unit: Path) -> dict[str, str]:
    """The settings of a unit; of those that are given twice, the last."""
    lines = (line.strip() for line in unit.read_text().splitlines())
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def test_the_agent_is_watched_by_its_progress():
    found = said(AGENT)
    assert (found["Type"], found["NotifyAccess"], found["Restart"]) == ("notify", "main", "always")
    assert int(found["WatchdogSec"]) > 0
    assert found["RestartPreventExitStatus"] == "2"  # a wrong setting is not mended by trying again


def test_a_model_that_does_not_fit_costs_no_daemon():
    found = said(AGENT)
    assert "MemoryMax" in found and "CPUWeight" in found and found["OOMPolicy"] == "continue"


@pytest.mark.parametrize("unit", [AGENT, COLLECTOR], ids=lambda unit: unit.stem)
def test_units_are_hardened(unit):
    assert {name: said(unit).get(name) for name in HARDENED} == HARDENED
    assert said(unit)["User"] not in {"", "root"}


@pytest.mark.parametrize("unit", [AGENT, COLLECTOR], ids=lambda unit: unit.stem)
def test_each_relaxation_has_its_reason(unit):
    """What is not set is named in a comment of the unit."""
    comments = "\n".join(line for line in unit.read_text().splitlines() if line.startswith("#"))
    assert [name for name in RELAXABLE if name not in said(unit) and name not in comments] == []


def test_nothing_is_set_that_closes_the_gpus_devices():
    """ProtectClock and PrivateDevices would, without a word."""
    assert not {"PrivateDevices", "ProtectClock", "DevicePolicy", "DeviceAllow"} & said(AGENT).keys()


@pytest.mark.parametrize("unit", [AGENT, COLLECTOR], ids=lambda unit: unit.stem)
def test_systemd_understands_the_units(unit, tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: apt-get install systemd")
    there = tmp_path / unit.name
    start = f"ExecStart={said(unit)['ExecStart']}"
    there.write_text(unit.read_text().replace(start, "ExecStart=/bin/true").replace("Documentation", "#"))
    command = ["systemd-analyze", "verify", "--man=no", str(there)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert unit.name not in done.stderr, done.stderr
