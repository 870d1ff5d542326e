"""The power mode: from the program, else from the files that it keeps, else a reason."""

from __future__ import annotations

import time
from pathlib import Path

from agent.jetson.modes import PowerMode, power_mode
from tests.fixtures.kernel_tree import tree

STATUS = "var/lib/nvpmodel/status"
CONF = """# comment
< POWER_MODEL ID=0 NAME=MAXN >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=2 NAME=MODE_30W >
< PM_CONFIG DEFAULT=2 >"""


def _nvpmodel(root: Path, script: str, folder: str = "usr/sbin") -> Path:
    program = tree(root, {f"{folder}/nvpmodel": f"#!/bin/sh\n{script}"}) / folder / "nvpmodel"
    program.chmod(0o755)
    return root


def test_the_program_is_asked_first(tmp_path: Path) -> None:
    """Whatever else it prints; what it kept of an earlier mode does not count."""
    script = 'echo "NVPM WARN: something"; echo "NV Fan Mode:quiet"; echo "NV Power Mode: MODE_30W"; echo 2'
    root = tree(_nvpmodel(tmp_path, script, "usr/bin"), {STATUS: "pmode:0000", "etc/nvpmodel.conf": CONF})
    assert power_mode(root) == PowerMode("MODE_30W", 2)


def test_its_own_files_tell_where_there_is_no_program(tmp_path: Path) -> None:
    root = tree(tmp_path, {STATUS: "pmode:0002", "etc/nvpmodel.conf": CONF})
    assert power_mode(root) == PowerMode("MODE_30W", 2)


def test_a_mode_without_a_name_has_its_id(tmp_path: Path) -> None:
    assert power_mode(tree(tmp_path, {STATUS: "pmode:0007", "etc/nvpmodel.conf": CONF})) == PowerMode(None, 7)


def test_a_program_that_hangs_costs_its_time_and_no_more(tmp_path: Path) -> None:
    """Also where what it started would hold the pipe for longer."""
    root = tree(_nvpmodel(tmp_path, "sleep 30"), {STATUS: "pmode:0000", "etc/nvpmodel.conf": CONF})
    began = time.monotonic()
    assert power_mode(root, limit_s=0.2) == PowerMode("MAXN", 0)
    assert time.monotonic() - began < 10


def test_without_either_the_reason_is_told(tmp_path: Path) -> None:
    found = power_mode(tmp_path)
    assert (found.name, found.id) == (None, None)
    assert found.reason == f"nvpmodel is not installed, and {tmp_path / STATUS} has none"
    refused = power_mode(_nvpmodel(tmp_path, "echo 'NVPM ERROR: must be root' >&2; exit 1"))
    assert refused.reason == f"{tmp_path}/usr/sbin/nvpmodel -q names no mode, and {tmp_path / STATUS} has none"


def test_one_that_floods_is_ended_and_takes_no_memory(tmp_path: Path) -> None:
    """What it keeps in its file says the mode all the same."""
    program = tmp_path / "usr/sbin/nvpmodel"
    tree(tmp_path, {"var/lib/nvpmodel/status": "pmode:0002", "usr/sbin/nvpmodel": "#!/bin/sh\nyes 'NV Power Mode: X'"})
    program.chmod(0o755)
    began_s = time.monotonic()
    assert power_mode(tmp_path).id == 2
    assert time.monotonic() - began_s < 1.5
