"""Which wheels go to a board: the daemon's pins, as its Python and machine need them, and nothing heavy."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = """\
# The daemon: library and agent
msgspec==0.22.0
rich==15.0.0                        # a comment
tomli==2.5.0; python_version < "3.11"

# The model's process
torch==2.13.0
click==8.5.1                        # huggingface_hub

# The collector
amqtt==0.12.1
"""


@pytest.fixture(scope="module")
def wheelhouse() -> ModuleType:
    spec = importlib.util.spec_from_file_location("wheelhouse", ROOT / "tools/wheelhouse.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("python", "tomli"), [("3.10", ["tomli==2.5.0"]), ("3.11", [])])
def test_markers_are_asked_for_the_boards_python(wheelhouse, python, tomli):
    pins = wheelhouse.pins_of(REQUIREMENTS)
    assert wheelhouse.applying(pins, python, "aarch64") == ["msgspec==0.22.0", "rich==15.0.0", *tomli]


def test_a_collector_has_its_own_and_what_those_share(wheelhouse):
    names = [pin.name for pin in wheelhouse.pins_of(REQUIREMENTS, collector=True)]
    assert names == ["msgspec", "rich", "tomli", "amqtt", "click"]


def test_the_daemons_dependencies_are_all_pinned_there(wheelhouse):
    """As setup.py names them; torch is the board's own matter."""
    pins = {pin.name.lower() for pin in wheelhouse.pins_of((ROOT / "requirements.txt").read_text())}
    assert {"msgspec", "paho-mqtt", "psutil", "rich", "nvidia-ml-py"} <= pins
    assert not pins & {"torch", "numpy", "sqlalchemy"}
