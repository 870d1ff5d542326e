"""`models`: presets and their operators, for a person and as JSON."""

from __future__ import annotations

import json

import pytest

from agent import models
from agent.app import main


def test_every_preset_is_listed_with_its_size(capsys):
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == list(models.PRESETS)
    assert "llama-3-8b: 8,030,261,248 parameters, 16.06 GB in bfloat16" in lines
    assert next(line for line in lines if line.startswith("mixtral-8x7b")).count("12,879,925,248 met by a token") == 1


def test_a_decode_step_is_bound_by_weights_and_a_prefill_by_arithmetic(capsys):
    assert main(["models", "llama-3-8b", "--prompt-tokens", "2048", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == "model/0" and told["weight_bytes"] == 2 * told["parameters"]
    assert told["decode_step"]["ffn_up"]["intensity"] == pytest.approx(1.0, rel=0.01)
    assert told["prefill"]["ffn_up"]["intensity"] > 500
    cache_bytes = told["decode_step"]["attn_core"]["cache_bytes"]  # what is there, and the new token written and read
    assert cache_bytes == 2050 * told["kv_bytes_per_token"]


def test_the_table_ends_with_the_sum(capsys):
    assert main(["models", "smollm2-135m", "--batch", "4"]) == 0
    printed = capsys.readouterr().out
    assert "batch 4: a prefill of 2048 tokens" in printed and "a decode step with 2048 tokens" in printed
    assert printed.count("100.0%") >= 2


def test_an_unknown_model_or_dtype_is_one_line(capsys):
    assert main(["models", "gpt-5"]) == 2
    assert main(["models", "smollm2-135m", "--dtype", "int3"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and "known:" in said[0] and "int3" in said[1]
