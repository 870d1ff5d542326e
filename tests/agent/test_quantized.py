"""Weight-only quantization: what is quantized, how far off it may be, what is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agent import engines, models
from agent.orders import Load
from phasewatt import prompt, quantization
from phasewatt.errors import ConfigInvalid, EngineFailed

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'phasewatt[torch]'")

SMALL = msgspec.structs.replace(
    models.preset("qwen2.5-0.5b"),
    **{"name": "small", "hidden_size": 192, "layers": 2, "heads": 6, "kv_heads": 2, "head_dim": 32},
    **{"intermediate_size": 256, "vocab_size": 1024},
)


def load(engine: Any, name: str, dtype: str = "bfloat16", shape: Any = SMALL) -> Any:
    """The model of that shape with its weights in that scheme."""
    asked = Load(
        architecture=shape,
        weights="random:7",
        dtype=dtype,
        mode="eager",
        attention="sdpa",
        accelerator="cpu",
        quantization=name,
    )
    return engine.load(asked)


@pytest.fixture
def engine() -> Any:
    return engines.create("transformers")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("name", "tolerance"), [("int8", 0.04), ("int4", 0.4)])
def test_a_quantized_model_is_near_the_whole_one(engine: Any, name: str, tolerance: float, dtype: str) -> None:
    """Biased and tied; weights, digest and parameters are told as they were before."""
    ids = torch.tensor(prompt.token_ids(1, 1, 8, SMALL.vocab_size)).reshape(1, -1)
    whole = load(engine, "none", dtype)
    expected = engine._model(input_ids=ids).logits.float()
    loaded = load(engine, name, dtype)
    found = engine._model(input_ids=ids).logits.float()
    assert (loaded.parameters, loaded.weights_digest) == (whole.parameters, whole.weights_digest)
    assert (whole.quantization, loaded.quantization) == (None, quantization.SCHEMES[name].words)
    apart = float((found - expected).abs().max() / expected.abs().max())
    assert 0 < apart < tolerance


def test_every_product_is_quantized_and_nothing_else(engine: Any) -> None:
    load(engine, "int8")
    model = engine._model
    assert [path for path, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)] == []
    assert model.lm_head.values.dtype is torch.int8
    assert model.model.embed_tokens.weight.dtype is torch.bfloat16
    assert model.model.layers[0].self_attn.q_proj.bias.dtype is torch.bfloat16


def test_values_are_off_by_half_a_step_at_most() -> None:
    from agent.engines.quantized import Int8Linear, quantized_to_4_bits

    layer = torch.nn.Linear(64, 48)
    eight = Int8Linear(layer)
    off = (eight.values * eight.scales[:, None] - layer.weight).abs()
    assert bool((off <= eight.scales[:, None] * 0.5001).all())
    values, both = quantized_to_4_bits(layer.weight.data, 32)
    scales, zeros = (both[..., part].T.repeat_interleave(32, 1) for part in (0, 1))
    assert bool((((values - 8) * scales + zeros - layer.weight).abs() <= scales * 0.5001).all())
    assert (int(values.min()), int(values.max())) == (0, 15)


def test_rows_of_zeros_divide_nothing() -> None:
    from agent.engines.quantized import Int4Linear, Int8Linear

    for make in (Int8Linear, lambda layer: Int4Linear(layer, 32)):
        layer = torch.nn.Linear(64, 32, bias=False, dtype=torch.bfloat16)
        layer.weight.data.zero_()
        assert bool((make(layer)(torch.ones(3, 64, dtype=torch.bfloat16)) == 0).all())


def test_what_the_kernels_do_not_do_is_refused(engine: Any) -> None:
    from agent.engines.quantized import quantize

    odd = msgspec.structs.replace(SMALL, intermediate_size=100)
    with pytest.raises(EngineFailed, match=r"int4 shares a scale among 32 weights; .*down_proj has rows of 100"):
        load(engine, "int4", shape=odd)
    with torch.device("meta"):
        elsewhere = torch.nn.Sequential(torch.nn.Linear(64, 64))
    with pytest.raises(EngineFailed, match="int4 on meta is for kernels that compute in bfloat16, not float16"):
        quantize(elsewhere, "int4", "float16")
    with pytest.raises(ConfigInvalid, match="expected one of none, int8, int4, got 'int3'"):
        quantize(elsewhere, "int3", "float16")


def test_the_cuda_packing_takes_rows_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two values a byte, the first in the upper half; as many tiles as divide a row. The kernel needs a GPU."""
    from agent.engines import quantized

    asked = []

    class Operators:
        @staticmethod
        def _convert_weight_to_int4pack(pairs: Any, tiles: int) -> Any:
            asked.append((pairs, tiles))
            return pairs

    monkeypatch.setattr(torch.ops, "aten", Operators)
    for width in (128, 64, 32):
        quantized._packed_for_cuda(torch.arange(width, dtype=torch.int32).remainder(16)[None])
    assert [tiles for _, tiles in asked] == [8, 4, 2]
    assert asked[0][0][0, :3].tolist() == [0x01, 0x23, 0x45]


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["int8", "int4"])
def test_a_quantized_layer_on_a_gpu_is_near_the_whole_one(name: str) -> None:
    from agent.engines.quantized import quantize

    model = torch.nn.Sequential(torch.nn.Linear(576, 1536, bias=False)).to("cuda", torch.bfloat16)
    hidden = torch.randn(4, 576, device="cuda", dtype=torch.bfloat16)
    expected = model(hidden).float()
    quantize(model, name, "bfloat16")
    assert float((model(hidden).float() - expected).abs().max() / expected.abs().max()) < 0.2
