"""Claim 10: where the bottleneck of retrieval-augmented generation is. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from collector.findings.checks import unmeasured
from collector.findings.families import Family
from collector.findings.finding import Each, Judged
from collector.findings.wanted import from_none

NUMBER = 10
SENTENCE = "RAG: as the knowledge base grows the bottleneck moves from GPU inference to CPU retrieval and memory."
EACH = Each.DEVICE
RULE = (
    "Retrieval takes a smaller part of a request than inference with the smallest knowledge base and a larger one "
    "with the largest. This version has no trials with retrieval in them, so it cannot be decided."
)
_WANTED = from_none("requests with retrieval over knowledge bases of growing size")


def judge(families: Sequence[Family]) -> Judged:
    """Open, whatever the trials."""
    return Judged(
        (unmeasured("retrieval's share of a request, largest over smallest knowledge base"),), missing=(_WANTED,)
    )
