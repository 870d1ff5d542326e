"""Receipts that are cut say together what the whole one said."""

from __future__ import annotations

import secrets

import pytest

from collector.answers import bodies
from phasewatt import codec
from phasewatt.messages import Receipt, Rejection


def receipt(ranges: int = 0, rejected: int = 0) -> Receipt:
    return Receipt(
        device="board-1",
        epoch="e-1",
        generation="g-1",
        ranges=tuple((4 * n + 1, 4 * n + 1) for n in range(ranges)),
        rejected=tuple(Rejection(seq=4 * n + 3, reason=secrets.token_hex(90)) for n in range(rejected)),
        high_water=40_000,
    )


def read(parts: list[bytes]) -> list[Receipt]:
    """As a board reads them."""
    return [codec.decode(codec.unpack(part, codec.MAX_PAYLOAD_BYTES), Receipt) for part in parts]


@pytest.mark.parametrize(("ranges", "rejected"), [(500, 0), (0, 500), (400, 400), (1, 1), (10_000, 0), (0, 10_000)])
def test_parts_fit_and_none_is_a_greeting(ranges, rejected):
    whole = receipt(ranges, rejected)
    parts = list(bodies(whole, 1000))
    assert all(len(part) <= 1000 for part in parts)
    told = read(parts)
    assert all(part.ranges or part.rejected for part in told)
    assert tuple(one for part in told for one in part.ranges) == whole.ranges
    assert tuple(one for part in told for one in part.rejected) == whole.rejected
    assert {part.high_water for part in told} == {whole.high_water}


def test_what_fits_is_one_message():
    assert len(list(bodies(receipt(300, 2)))) == 1
    assert len(list(bodies(receipt()))) == 1


def test_one_row_that_does_not_fit_is_given_as_it_is():
    assert len(list(bodies(receipt(0, 1), 50))) == 1
