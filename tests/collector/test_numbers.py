from __future__ import annotations

import pytest

from collector import numbers
from collector.comparison import Cell


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.0123456, "s", "12.3 ms"),
        (1.0, "s", "1.00 s"),
        (0.9996, "s", "1.00 s"),
        (0.00099951, "s", "1.00 ms"),
        (4.2e-7, "J/token", "420 nJ/token"),
        (3.1e-6, "J", "3.10 µJ"),
        (812e6, "B", "812 MB"),
        (12345.0, "token/s", "12,300 token/s"),
        (0.456, "token/s", "0.456 token/s"),
        (0.4321, "1", "43.2 %"),
        (-0.0521, "J", "-52.1 mJ"),
        (0.0, "J", "0 J"),
        (1e-20, "s", "0.0000000100 ps"),
        (None, "J", "—"),
    ],
)
def test_quantities_have_three_digits_and_an_si_prefix(value: float | None, unit: str, shown: str) -> None:
    assert numbers.quantity(value, unit) == shown


def test_an_interval_stands_on_the_scale_of_its_value() -> None:
    assert numbers.interval(Cell(group="g", value=0.95, reason=None, low=0.9, high=1.02), "s") == "[900, 1,020]"


def test_no_interval_is_no_text() -> None:
    assert numbers.interval(Cell(group="g", value=0.95, reason=None), "s") == ""
