"""What all tests share: the plugins that ship a real broker and that keep a skip from passing unseen."""

from __future__ import annotations

pytest_plugins = [
    "tests.fixtures.broker",
    "tests.fixtures.browser",
    "tests.fixtures.databases",
    "tests.fixtures.skips",
    "tests.faults.options",
    "pytester",
]
