"""Presets as published, and a user's own config.json: read as it is, or refused by its key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent import cells, models
from phasewatt import roofline
from phasewatt.errors import ConfigInvalid
from phasewatt.work import Architecture, Experts

# Of the safetensors on each model's own page.
PUBLISHED = {
    "stories15m": 15_191_712,
    "smollm2-135m": 134_515_008,
    "qwen2.5-0.5b": 494_032_768,
    "llama-3.2-1b": 1_235_814_400,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-7b": 7_615_616_512,
    "llama-3-8b": 8_030_261_248,
    "qwen3-8b": 8_190_735_360,
    "qwen2.5-32b": 32_763_876_352,
    "olmoe-1b-7b": 6_919_161_856,
    "qwen1.5-moe-a2.7b": 14_315_784_192,
    "qwen3-30b-a3b": 30_532_122_624,
    "mixtral-8x7b": 46_702_792_704,
}
LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 256,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
}
MOE = LLAMA | {
    "model_type": "qwen3_moe",
    "head_dim": 32,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
}


def written(folder: Path, config: Any) -> Path:
    """A config.json in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder / "config.json"


@pytest.mark.parametrize("name", models.PRESETS)
def test_presets_have_the_published_number_of_parameters(name: str) -> None:
    assert roofline.parameter_count(models.preset(name)) == PUBLISHED[name]


def test_a_config_of_ones_own_is_read(tmp_path: Path) -> None:
    """The shape by its numbers, named after its folder."""
    shape = models.named(str(written(tmp_path / "mine", LLAMA)))
    assert shape == Architecture(
        name="mine", family="llama", hidden_size=64, layers=2, heads=4, kv_heads=2, head_dim=16,
        intermediate_size=128, vocab_size=256, max_position=128,
    )  # fmt: skip


def test_a_mixture_of_ones_own_is_read(tmp_path: Path) -> None:
    """With the keys of its family."""
    shape = models.named(str(written(tmp_path / "mine", MOE)))
    assert shape.experts == Experts(count=8, per_token=2, intermediate_size=32, norm_topk_prob=True)
    assert (shape.qk_norm, shape.head_dim) == (True, 32)
    mixtral = LLAMA | {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}
    assert models.named(str(written(tmp_path / "other", mixtral))).experts == Experts(
        count=4, per_token=2, intermediate_size=128, norm_topk_prob=True
    )


def test_a_cell_takes_the_path_of_a_config(tmp_path: Path) -> None:
    """In a suite as on the command line; a wrong one is refused before anything is started."""
    text = 'about = "x"\n[[cells]]\nprompt_tokens = 8\noutput_tokens = 4\n'
    path = written(tmp_path / "mine", LLAMA)
    (cell,) = cells.parse("s", text, {"model": str(path)}, "s.toml").cells
    assert str(path) in cell.label
    with pytest.raises(ConfigInvalid, match="cannot read"):
        cells.parse("s", text, {"model": str(tmp_path / "absent.json")}, "s.toml")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "gpt_neox"}, "model_type: family 'gpt_neox' is not supported; known: llama"),
        ({"hidden_act": "gelu"}, "hidden_act: 'gelu' is not supported; only the activation silu"),
        ({"mlp_bias": True}, "mlp_bias: True is not supported"),
        ({"use_sliding_window": True}, "use_sliding_window: True is not supported"),
        ({"clip_qkv": 8.0}, "clip_qkv: 8.0 is not supported"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor: 0.5 is not supported"),
        ({"quantization_config": {"bits": 4}}, "quantization_config: .* only weights that are not quantized"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types: sliding_attention is not supported"),
        ({"hidden_size": "64"}, "hidden_size: expected a whole number above 0, got '64'"),
        ({"vocab_size": 0}, "vocab_size: expected a whole number above 0, got 0"),
        ({"num_hidden_layers": True}, "num_hidden_layers: expected a whole number above 0, got True"),
        ({"num_key_value_heads": 3}, "num_attention_heads: 4 is no multiple of 3 key heads"),
        ({"head_dim": 15}, "head_dim: expected an even number"),
        ({"rope_theta": "much"}, "rope_theta"),
        ({"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 9}, "sliding_w"),
        ({"model_type": "qwen3_moe"}, "has no 'num_experts'"),
        (MOE | {"decoder_sparse_step": 2}, "decoder_sparse_step: 2 is not supported; only experts in every layer"),
        (MOE | {"mlp_only_layers": [0]}, "mlp_only_layers: .0. is not supported"),
        (MOE | {"num_experts_per_tok": 9}, "num_experts_per_tok: 9 is more than the 8 experts"),
    ],
    ids=str,
)  # fmt: skip
def test_what_would_be_another_computation_is_refused_by_its_key(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigInvalid, match=said):
        models.from_config_file(written(tmp_path, LLAMA | changes))


@pytest.mark.parametrize("text", ["[]", "null", '"llama"', "[" * 100_000], ids=["list", "null", "text", "deep"])
def test_what_is_no_config_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigInvalid, match=r"config\.json"):
        models.from_config_file(tmp_path / "config.json")
