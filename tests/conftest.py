"""What all tests share: the plugins that ship a real broker and that keep a skip from passing unseen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest_plugins = [
    "tests.fixtures.broker",
    "tests.fixtures.browser",
    "tests.fixtures.databases",
    "tests.fixtures.skips",
    "tests.faults.options",
    "pytester",
]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch on one thread: those that wait for each other crawl where others take the processor's time."""
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'phasewatt[torch]'")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
