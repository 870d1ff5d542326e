"""Prompts as token ids drawn from a seed: the same on every host, and no text needed."""

from __future__ import annotations

import hashlib
import sys
from array import array

_WORD = 4  # bytes of entropy per token id


def token_ids(seed: int, batch: int, tokens: int, vocab_size: int) -> array[int]:
    """Token ids in [0, vocab_size), row-major [batch, tokens], as 32-bit integers.

    SHAKE-128 over the seed, reduced modulo the vocabulary; with 32 bits a draw, the bias of the reduction is
    under 4e-5 for the largest vocabularies. Source: FIPS 202.
    """
    stream = hashlib.shake_128(f"phasewatt prompt {seed}".encode()).digest(batch * tokens * _WORD)
    words = array("I")
    words.frombytes(stream)
    if sys.byteorder == "big":
        words.byteswap()
    return array("i", (word % vocab_size for word in words))


def digest(ids: array[int]) -> str:
    """SHA-256 over the ids as 32-bit little-endian integers, in hexadecimal."""
    little = array("i", ids)
    if sys.byteorder == "big":
        little.byteswap()
    return hashlib.sha256(little.tobytes()).hexdigest()
