"""What all rows of the fault matrix share: a fleet of real processes that ends with the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.field import Field, field


@pytest.fixture
def fleet(request: pytest.FixtureRequest, tmp_path: Path, fault_seed: str) -> Iterator[Field]:
    """A broker, and what a test starts beside it; an indirect parameter adds lines to the broker's configuration."""
    with field(tmp_path, fault_seed, *getattr(request, "param", ())) as made:
        yield made
