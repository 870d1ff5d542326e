"""Numbers that flags take, in both programs."""

from __future__ import annotations

import argparse

import pytest

from agent.commands import options
from collector.commands import flags

BOTH = pytest.mark.parametrize("positive", [options.positive, flags.positive])


@BOTH
def test_a_whole_number_above_0_is_taken(positive):
    assert positive("12") == 12


@BOTH
@pytest.mark.parametrize("text", ["0", "-1", "1.5", "x", ""])
def test_anything_else_is_refused_with_what_was_expected(positive, text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected a whole number above 0, got"):
        positive(text)
