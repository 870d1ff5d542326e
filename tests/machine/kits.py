"""What is carried to a machine: the installer and a wheelhouse, of this tree or of one that differs from it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tools import wheelhouse

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "requirements.txt", "phasewatt", "agent", "collector")
_VERSION = "phasewatt/__init__.py"
HOST, TRIALS = "this-host", "onnx.jsonl.gz"  # whose trials `add_onnx` leaves in a kit, and where
_PYTHON = "3.11"  # of Debian 12
_ONNX = ("onnxruntime", "onnx", "ml_dtypes", "flatbuffers", "protobuf", "numpy", "packaging", "typing_extensions")


def make(
    kit: Path, machine: str = "x86_64", version: str | None = None, changes: Mapping[str, str] | None = None
) -> Path:
    """A kit in a new directory; of another version, and with files that differ, where these are given."""
    source = ROOT
    if version is not None or changes:
        source = _copy(kit.with_name(f"{kit.name}-source"), version, changes or {})
    for name in ("deploy", "docs"):
        shutil.copytree(ROOT / name, kit / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "tools/wheelhouse.py", "--out", str(kit / "wheelhouse")]
    command += ["--machine", machine, "--only", _PYTHON]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return kit


def add_onnx(kit: Path, machine: str, suite: str) -> None:
    """Add what a board without PyTorch needs for engine `onnxruntime`: its wheels, and exports of a suite's models.

    The exports are made on this host by an agent that runs the suite; its trials lie beside them.
    """
    pins = [pin for pin in wheelhouse.parsed((ROOT / "requirements.txt").read_text()) if pin.name in _ONNX]
    (kit / "onnx").mkdir()
    wheelhouse.download(wheelhouse.applying(pins, _PYTHON, machine), _PYTHON, machine, kit / "onnx")
    state = kit.with_name(f"{kit.name}-state")
    state.mkdir()
    (state / "suite.toml").write_text(suite)
    command = [sys.executable, "-m", "agent.app", "run", str(state / "suite.toml"), "--state-dir", str(state)]
    command += ["--device", HOST, "--meter", "none", "--wait-s", "0", "--archive", str(kit / TRIALS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (kit / TRIALS).exists(), done.stdout + done.stderr
    shutil.copytree(state / "exports", kit / "exports")


def _copy(there: Path, version: str | None, changes: Mapping[str, str]) -> Path:
    for name in (*SOURCES, "tools"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, there / name)
    if version is not None:
        text = (there / _VERSION).read_text()
        (there / _VERSION).write_text(re.sub(r'__version__ = ".*"', f'__version__ = "{version}"', text))
    for name, text in changes.items():
        (there / name).write_text(text)
    return there
