"""Prompts: the same token ids on every host, from a seed alone."""

from __future__ import annotations

import hashlib
import struct
from array import array

from hypothesis import given
from hypothesis import strategies as st

from phasewatt import prompt

SIZES = st.integers(0, 50)


def test_ids_of_today_stay():
    """Golden: the digest is part of every task id."""
    ids = prompt.token_ids(seed=7, batch=2, tokens=3, vocab_size=1000)
    assert list(ids) == [320, 603, 450, 710, 63, 982]
    assert prompt.digest(ids) == "30c2b76624ef98dc273d866b2aee8380e2afa6c9fa1feca6e3a79e592b6a4ced"


def test_ids_are_little_endian_words_of_shake_128():
    """The definition, written a second time."""
    stream = hashlib.shake_128(b"phasewatt prompt 3").digest(5 * 4)
    expected = [word % 32_000 for word in struct.unpack("<5I", stream)]
    assert list(prompt.token_ids(seed=3, batch=1, tokens=5, vocab_size=32_000)) == expected


def test_digest_is_of_little_endian_32_bit_integers():
    assert prompt.digest(array("i", [1, -2, 70_000])) == hashlib.sha256(struct.pack("<3i", 1, -2, 70_000)).hexdigest()


@given(st.integers(0, 2**63), SIZES, SIZES, st.integers(1, 2**31 - 1))
def test_ids_fit_the_vocabulary_and_the_shape(seed, batch, tokens, vocab_size):
    ids = prompt.token_ids(seed, batch, tokens, vocab_size)
    assert len(ids) == batch * tokens
    assert all(0 <= token < vocab_size for token in ids)


def test_a_longer_prompt_begins_with_the_shorter_one():
    short = prompt.token_ids(seed=1, batch=1, tokens=4, vocab_size=100)
    assert prompt.token_ids(seed=1, batch=1, tokens=9, vocab_size=100)[:4] == short


def test_seeds_differ():
    drawn = {tuple(prompt.token_ids(seed, 1, 8, 32_000)) for seed in range(50)}
    assert len(drawn) == 50


def test_digest_leaves_the_ids_as_they_are():
    ids = array("i", [1, 2, 3])
    prompt.digest(ids)
    assert ids == array("i", [1, 2, 3])
