"""Trees that stand for hosts, and bundles as the collector writes them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deploy.hosts import filled_wheelhouse

Enroll = Callable[..., Path]


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """The root of a host without anything."""
    (tmp_path / "root" / "etc").mkdir(parents=True)
    return tmp_path / "root"


@pytest.fixture
def wheelhouse(tmp_path: Path) -> Path:
    """What looks like one."""
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "phasewatt-1.2.3-py3-none-any.whl").write_bytes(b"")
    return tmp_path / "wheels"


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this tree, and the daemon's pins."""
    return filled_wheelhouse(tmp_path_factory.mktemp("wheelhouse"))


@pytest.fixture(scope="session")
def enroll(tmp_path_factory: pytest.TempPathFactory) -> Enroll:
    """Enrolls a board, by the collector's own command; its bundle, which holds for so many days."""
    pytest.importorskip("cryptography", reason="cryptography is not installed: pip install 'phasewatt[collector]'")
    from collector.app import main

    centre = tmp_path_factory.mktemp("centre")
    common = ["--authority", str(centre / "authority"), "--db", f"sqlite:///{centre / 'collector.db'}"]
    assert main(["broker-config", str(centre / "broker"), "--host", "collector.example", *common]) == 0

    def made(device: str, days: float = 730) -> Path:
        out = centre / f"{device}.bundle"
        assert main(["enroll", device, "--days", str(days), "--out", str(out), *common]) == 0
        return out

    return made


@pytest.fixture(scope="session")
def expired(enroll: Enroll) -> Path:
    """A bundle for board-1 whose certificate lasted a moment."""
    bundle = enroll("board-1", days=1e-5)
    time.sleep(2.0)
    return bundle
