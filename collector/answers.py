"""Receipts as they travel: cut where one would be longer than the broker, or a board, takes."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from phasewatt import codec
from phasewatt.messages import Receipt


def bodies(receipt: Receipt, most_bytes: int = codec.MAX_PAYLOAD_BYTES) -> Iterator[bytes]:
    """`receipt` in one message of at most `most_bytes`, or in several that say the same together.

    What cannot be cut is given as it is: the broker says why it does not take it, and the row is sent again.
    """
    body = codec.encode(receipt)
    packed = codec.pack(body)
    ranges, rejected = receipt.ranges, receipt.rejected
    # A board inflates no further than what it takes as a payload.
    if len(ranges) + len(rejected) < 2 or (len(packed) <= most_bytes and len(body) <= codec.MAX_PAYLOAD_BYTES):
        yield packed
        return
    # None of the parts is empty, for a receipt without rows is a greeting.
    if ranges and rejected:
        parts = (replace(receipt, rejected=()), replace(receipt, ranges=()))
    else:
        parts = (
            replace(receipt, ranges=ranges[: len(ranges) // 2], rejected=rejected[: len(rejected) // 2]),
            replace(receipt, ranges=ranges[len(ranges) // 2 :], rejected=rejected[len(rejected) // 2 :]),
        )
    for part in parts:
        yield from bodies(part, most_bytes)
