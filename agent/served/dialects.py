"""What each server needs to be asked for the same work as anyone else: one visible table. Pure.

All take `POST /v1/completions` with the token ids of the prompt, `max_tokens`, `temperature` 0, `stream` and
`stream_options.include_usage`. What differs: how the end of text is ignored, how a prompt is kept from being found in a
cache, and whether a chunk says which tokens it holds. Only llama.cpp was run against; the rest is by its documents.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Dialect(NamedTuple):
    """One server's."""

    name: str
    owner: str | None  # what it writes as `owned_by` in /v1/models; None: it is known otherwise, or not at all
    version_path: str | None  # where it tells its version ...
    version_key: str = "version"  # ... and under which name
    fields: Mapping[str, Any] = {}  # of every request, beside those of all
    salt: str | None = None  # a field that is to be new in every request, so that no cache knows the prompt
    ids: str | None = None  # where a chunk's choice lists the ids of its tokens
    must_report_cached: bool = False  # nothing but its own count of cached tokens shows that no cache was used
    off_key: str | None = None  # under which name its version answer says that the cache is off
    off_remedy: str = ""  # how to start it without one
    refused: str | None = None  # why it cannot be asked for the same work at all
    source: str = ""


_ENDLESS = {"ignore_eos": True}

DIALECTS: tuple[Dialect, ...] = (
    Dialect(
        name="llama.cpp",
        owner="llamacpp",
        version_path="/props",
        version_key="build_info",
        fields={**_ENDLESS, "cache_prompt": False},
        must_report_cached=True,
        off_remedy="start it without --cache-reuse",
        source="ggml-org/llama.cpp, tools/server/README.md; run against, builds of 2026",
    ),
    Dialect(
        name="vllm",
        owner="vllm",
        version_path="/version",
        fields={**_ENDLESS, "return_token_ids": True},
        salt="cache_salt",
        ids="token_ids",
        off_remedy="start it with --no-enable-prefix-caching",
        source="vllm-project/vllm, vllm/entrypoints/openai/protocol.py, CompletionRequest",
    ),
    Dialect(
        name="tensorrt-llm",
        owner="tensorrt_llm",
        version_path="/version",
        fields={**_ENDLESS, "detokenize": False},
        ids="token_ids",
        must_report_cached=True,
        off_remedy="set enable_block_reuse: false under kv_cache_config",
        source="NVIDIA/TensorRT-LLM, tensorrt_llm/serve/openai_protocol.py, CompletionRequest",
    ),
    Dialect(
        name="sglang",
        owner="sglang",
        version_path="/get_server_info",
        fields=_ENDLESS,
        off_key="disable_radix_cache",
        off_remedy="start it with --disable-radix-cache",
        source="sgl-project/sglang, docs/basic_usage/native_api and srt/entrypoints/openai/protocol.py",
    ),
    Dialect(
        name="ollama",
        owner=None,
        version_path="/api/version",
        refused="it takes no token ids and always stops at the end of text; run its model file in llama.cpp's server",
        source="ollama/ollama, docs/openai.md: prompt is a string, no ignore_eos",
    ),
)

# A server of no known kind is asked in the words of most, and must prove by its counts that it understood.
UNKNOWN = Dialect(
    name="openai-compatible",
    owner=None,
    version_path=None,
    fields=_ENDLESS,
    must_report_cached=True,
    off_remedy="start it without prefix caching, and let it report cached tokens",
    source="OpenAI's completions API, with ignore_eos",
)


def by_owner(owner: str | None) -> Dialect | None:
    """The dialect of a server that says `owner` of its models; None: none is known by that."""
    return next((dialect for dialect in DIALECTS if owner and dialect.owner == owner), None)
