"""The house of docs/architecture.md: who may know whom. Each rule is shown to fail on a tree that breaks it."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.house import Rule, Source, calls, read, violations, within

ROOT = Path(__file__).parent.parent
PACKAGES = ("phasewatt", "agent", "collector")
PURE = (
    "phasewatt",
    "collector.pairing",
    "collector.stats",
    "collector.compare",
    "collector.findings",
    "collector.fitting",
    "collector.prediction",
    "collector.counted",
    *("collector.measured_points", "collector.held_out", "collector.noise"),
    *("collector.transfer", "collector.machine_ceilings", "collector.rooflines"),
    *("collector.drift", "collector.drift_words", "collector.schedules", "collector.job_spec"),
    *("collector.presence", "collector.watched", "collector.live_figures"),
)
DAEMON = (
    *("agent.app", "agent.commands", "agent.station", "agent.link", "agent.outbox", "agent.telemetry"),
    *("agent.sampler", "agent.meters", "agent.runner"),
)
HEAVY = ("torch", "numpy", "transformers", "onnxruntime")
ENTRY_POINTS = ("agent.app", "agent.commands", "agent.screen", "collector.app", "collector.commands")
SQL = ("sqlalchemy", "alembic", "sqlite3", "psycopg", "collector.store")
IO = (
    *("os", "io", "pathlib", "shutil", "tempfile", "glob", "socket", "ssl", "select", "subprocess", "multiprocessing"),
    *("threading", "asyncio", "http", "urllib", "sqlite3", "sqlalchemy", "psycopg", "paho", "amqtt", "rich"),
    *("matplotlib", "jinja2", "psutil", "pynvml", "logging", "signal"),
)
RULES = (
    Rule("the library knows neither program", ("phasewatt",), ("agent", "collector")),
    Rule("the agent does not know the collector", ("agent",), ("collector",)),
    Rule("the collector does not know the agent", ("collector",), ("agent",)),
    Rule("what computes does no I/O", PURE, IO),
    Rule("the runner never sees MQTT", ("agent.runner",), ("paho", "agent.link", "agent.connection")),
    Rule("what shows never sees SQL", ("collector.report", "collector.web"), SQL),
    Rule("the daemon loads neither torch nor numpy", DAEMON, HEAVY, late=False),
)

BREAKS = {
    "the library knows neither program": {"phasewatt/energy.py": "from agent import outbox", "agent/outbox.py": ""},
    "the agent does not know the collector": {"agent/app.py": "def f():\n    import collector.store.sql"},
    "the collector does not know the agent": {"collector/app.py": "from agent.outbox import Outbox"},
    "what computes does no I/O": {
        "collector/compare.py": "from collector import tables",
        "collector/tables.py": "from pathlib import Path",
    },
    "the runner never sees MQTT": {
        "agent/runner.py": "from . import cells",
        "agent/cells.py": "def publish():\n    from agent.telemetry import send",
        "agent/telemetry.py": "import paho.mqtt.client",
    },
    "what shows never sees SQL": {
        "collector/report/html.py": "from ..store import open_store",
        "collector/store/__init__.py": "",
    },
    "the daemon loads neither torch nor numpy": {
        "agent/meters/nvml.py": "from agent import gpus",
        "agent/gpus.py": "try:\n    import numpy as np\nexcept ImportError:\n    np = None",
    },
}
KEEPS = {
    "agent/__init__.py": "",
    "agent/meters/jtop.py": "def late():\n    import numpy",
    "agent/sampler.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\nelse:\n    import json",
    "agent/runner.py": "import pahonix, agent.linker\nfrom agent.sampler import link",
    "agent/linker.py": "import paho_stub",
    "collector/report/html.py": "from collector.stored import StoredTrial",
    "collector/stored.py": "from phasewatt import records",
    "phasewatt/records.py": "import osmium\nTEXT = 'import os'",
}


@functools.cache
def ours() -> dict[str, Source]:
    """The modules of this tree."""
    return read(ROOT, PACKAGES)


def tree(root: Path, files: dict[str, str]) -> Path:
    """A source tree of the given files."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_rule_holds(rule):
    assert violations(rule, ours()) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_rule_can_fail(rule, tmp_path):
    (chain,) = violations(rule, read(tree(tmp_path, BREAKS[rule.name]), PACKAGES))
    assert within(rule.subjects, [chain.split(" -> ")[0]])
    assert within(rule.forbidden, [chain.split(" -> ")[-1]])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_rule_lets_pass_what_keeps_it(rule, tmp_path):
    assert violations(rule, read(tree(tmp_path, KEEPS), PACKAGES)) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_rule_is_about_something(rule):
    """A module that was renamed must not slip out of its rule."""
    sources = ours()
    assert [subject for subject in rule.subjects if not within([subject], sources)] == []


def test_what_computes_opens_and_prints_nothing():
    sources = ours()
    assert calls(("open", "print", "input"), within(PURE, sources), sources) == []


def test_only_entry_points_print():
    sources = ours()
    others = sources.keys() - within(ENTRY_POINTS, sources)
    assert calls(("print", "input"), others, sources) == []


def test_a_call_is_found_wherever_it_stands(tmp_path):
    files = {"phasewatt/energy.py": "def f():\n    return [print(x) for x in open('f')]"}
    found = calls(("open", "print"), ["phasewatt.energy"], read(tree(tmp_path, files), PACKAGES))
    assert found == ["phasewatt.energy:2 print()", "phasewatt.energy:2 open()"]


# The same promise kept by a real interpreter: an import that syntax does not show, such as importlib's, counts too.
ASKS = """
import importlib, sys
for name in sys.argv[2:]:
    importlib.import_module(name)
print(*set(sys.argv[1].split(",")) & set(sys.modules))
"""


def loaded(root: Path, modules: list[str]) -> list[str]:
    """Which of the heavy packages a fresh interpreter has loaded after importing some modules of the tree at `root`."""
    command = [sys.executable, "-c", ASKS, ",".join(HEAVY), *modules]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_daemon_loads_neither_torch_nor_numpy_for_real():
    assert loaded(ROOT, within(DAEMON, ours())) == []


def test_a_hidden_import_is_seen(tmp_path):
    hidden = {"agent/app.py": "__import__('numpy')", "numpy.py": "", "agent/__init__.py": ""}
    assert loaded(tree(tmp_path, hidden), ["agent.app"]) == ["numpy"]
    assert violations(RULES[-1], read(tmp_path, PACKAGES)) == []
