"""What other tools call what is measured here: one table, and the reading of their units. Pure.

Sources: llama.cpp tools/llama-bench/README.md (pp, tg, pg); AIPerf docs/metrics-reference.md and
docs/reference/json-export-schema.md; vLLM benchmarks (vllm#7242, #6531), which are not imported but often quoted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Term(NamedTuple):
    """One tool's word for something."""

    tool: str
    theirs: str
    metric: str | None  # ours; None: nothing here means the same
    meaning: str


TERMS: tuple[Term, ...] = (
    Term("llama-bench", "pp", "prefill_rate", "n_prompt / time of one pass over the prompt, at depth 0"),
    Term("llama-bench", "pp time", "prefill_latency", "time of one pass over the prompt, at depth 0"),
    Term("llama-bench", "tg", "decode_rate", "n_gen / time of n_gen decode steps from depth n_depth"),
    Term("llama-bench", "tg time", "decode_step_latency", "time of n_gen decode steps / n_gen"),
    Term("llama-bench", "pg time", "e2e_latency", "time of a prompt and n_gen steps; nothing is sampled or sent"),
    Term("llama-bench", "pp at depth", None, "a pass over n_prompt tokens behind n_depth others: not a whole prompt"),
    Term("aiperf", "time_to_first_token", "ttft", "request start to first token, over HTTP"),
    Term("aiperf", "inter_token_latency", "tpot", "(latency - TTFT) / (OSL - 1) of a request; vLLM calls it TPOT"),
    Term("aiperf", "inter_chunk_latency", "itl", "gaps between chunks; vLLM calls it ITL"),
    Term("aiperf", "request_latency", "e2e_latency", "request start to last token, over HTTP"),
    Term("aiperf", "request_throughput", "request_rate", "requests / duration of the benchmark"),
    Term("aiperf", "output_token_throughput", "output_rate", "output tokens / duration of the benchmark"),
    Term("aiperf", "goodput", "goodput", "requests within the limits that the run was given / duration"),
    Term("vllm bench", "TPOT", "tpot", "(latency - TTFT) / (OSL - 1) of a request"),
    Term("vllm bench", "ITL", "itl", "gaps between tokens"),
)

# Factors to our units, by the words that tools write.
UNITS: Mapping[str, tuple[str, float]] = {
    "ns": ("s", 1e-9),
    "us": ("s", 1e-6),
    "µs": ("s", 1e-6),
    "ms": ("s", 1e-3),
    "s": ("s", 1.0),
    "sec": ("s", 1.0),
    "requests/sec": ("request/s", 1.0),
    "tokens/sec": ("token/s", 1.0),
}


def metric_of(tool: str, theirs: str) -> str | None:
    """Our name of a tool's term; None where nothing here means the same."""
    return next((term.metric for term in TERMS if (term.tool, term.theirs) == (tool, theirs)), None)
