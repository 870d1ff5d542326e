"""How weights are quantized once they are loaded: the one table of schemes, and what each makes a pass read. Pure.

All are weight-only: activations, the cache, norms, biases and the embeddings' table stay in the trial's dtype. Every
matrix that a token is multiplied by is quantized, the language-model head included.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from phasewatt.errors import ConfigInvalid

NONE = "none"


class Scheme(NamedTuple):
    """One way to keep weights in fewer bits."""

    bits: int
    group: int | None  # weights of a row that share a scale; None: the whole row
    has_zero: bool  # a zero point, or a least value, beside each scale
    words: str  # as it stands in a trial's work, and is part of its identity
    scale_bytes: int | None = None  # None: a scale is in the trial's dtype

    def bytes_per_weight(self, element_bytes: int) -> float:
        """Of a weight with its share of scale and zero point; a scale for a whole row, 1 % or less, is left out.

        `element_bytes` are those of the trial's dtype.
        """
        scale_bytes = element_bytes if self.scale_bytes is None else self.scale_bytes
        shared = 0.0 if self.group is None else scale_bytes * (2 if self.has_zero else 1) / self.group
        return self.bits / 8 + shared


SCHEMES: Mapping[str, Scheme] = {
    "int8": Scheme(8, None, False, "int8 weight-only, head included, symmetric, a scale a row"),
    "int4": Scheme(4, 32, True, "int4 weight-only, head included, scale and zero point for 32"),
}

# Files for llama.cpp of one type throughout: blocks of 32 weights with scales in float16, as ggml-common.h has them. In
# files of several types, such as those with "K" in their names, how many weights have which is not told.
_GGUF = (
    Scheme(8, 32, False, "gguf Q8_0", 2),
    Scheme(5, 32, True, "gguf Q5_1", 2),
    Scheme(5, 32, False, "gguf Q5_0", 2),
    Scheme(4, 32, True, "gguf Q4_1", 2),
    Scheme(4, 32, False, "gguf Q4_0", 2),
)


def scheme(name: str) -> Scheme | None:
    """The scheme of that name; None for "none".

    Raises:
        ConfigInvalid: no such scheme.
    """
    if name == NONE:
        return None
    if name not in SCHEMES:
        raise ConfigInvalid(f"quantization: expected one of {', '.join((NONE, *SCHEMES))}, got {name!r}")
    return SCHEMES[name]


def by_words(words: str) -> Scheme | None:
    """The scheme that a trial names so; None: one that is not known here, such as a server's own."""
    return next((known for known in (*SCHEMES.values(), *_GGUF) if known.words == words), None)
