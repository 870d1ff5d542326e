"""A model with random weights as a GGUF file, so that a server can be given the very weights that torch was given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from agent.engines.sources import DRAWN_ON_CPU_LIMIT
from agent.gguf import DTYPE_KEY, WEIGHTS_KEY, names
from phasewatt import roofline
from phasewatt.errors import ConfigInvalid, EngineFailed
from phasewatt.work import Architecture

try:
    import gguf
    import numpy
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    from agent.engines import weights
    from agent.engines.transformers import config_of
except ImportError as error:
    raise EngineFailed(
        f"writing GGUF needs {error.name}: pip install 'phasewatt[torch,gguf]', the platform's torch first"
    ) from error

# What the gguf package can quantize to by itself, without llama.cpp's own program.
TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")
_WHOLE = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
_FILE_TYPES = {"f32": "ALL_F32", "bf16": "MOSTLY_BF16"}


class Written(NamedTuple):
    """What a file holds."""

    parameters: int
    digest: str | None  # of the weights in `dtype`, before they were quantized
    dtype: str
    size_bytes: int


def write(
    shape: Architecture, source: str, kind: str, path: Path, tell: Callable[[str], None] = lambda text: None
) -> Written:
    """A model of that shape with the weights `source`, "random:SEED", as a GGUF file of type `kind`, one of `TYPES`.

    A quantized one is made of float16 weights. The file's vocabulary is of plain made-up words and has no end of text.

    Raises:
        ConfigInvalid: no such type or source.
        EngineFailed: the weights would not be the same everywhere, or do not fit the type's blocks.
    """
    if kind not in TYPES:
        raise ConfigInvalid(f"--dtype: no GGUF type {kind!r} can be written here; known: {', '.join(TYPES)}")
    if shape.experts is not None:
        raise ConfigInvalid(f"{shape.name}: mixtures of experts are not written as GGUF here; choose a dense model")
    dtype = _WHOLE.get(kind, "float16")
    tell(f"drawing {roofline.parameter_count(shape) / 1e6:.0f}M weights")
    drawn, digest = _drawn(shape, source, dtype)
    writer = gguf.GGUFWriter(path, shape.family)
    _describe(writer, shape, kind)
    writer.add_string(WEIGHTS_KEY, source)
    writer.add_string(DTYPE_KEY, dtype)
    for name, tensor in _tensors(drawn, shape):
        tell(name)
        _add(writer, name, tensor, kind)
    tell(f"writing {path}")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    parameters = sum(p.numel() for p in drawn.parameters())
    return Written(parameters, digest, dtype, path.stat().st_size)


def _drawn(shape: Architecture, source: str, dtype: str) -> tuple[Any, str | None]:
    kind, _, seed = source.partition(":")
    if kind != "random" or not seed.isdecimal():
        raise ConfigInvalid(
            f"--weights: expected random:SEED, got {source!r}; llama.cpp's convert_hf_to_gguf.py writes trained ones"
        )
    if roofline.parameter_count(shape) > DRAWN_ON_CPU_LIMIT:
        raise EngineFailed(
            f"{shape.name} is too large: random weights above 1.5B parameters are not the same everywhere"
        )
    torch.set_grad_enabled(False)
    with no_init_weights():
        config = config_of(shape)
        model: Any = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))  # type: ignore[no-untyped-call]
    model.tie_weights()
    digest, _ = weights.fill(model, int(seed))
    return model, digest


def _tensors(model: Any, shape: Architecture) -> Iterator[tuple[str, torch.Tensor]]:
    """Each tensor by its name in the file, its rows in the file's order."""
    for name, parameter in model.named_parameters():
        written = names.gguf_name(name)
        if written is None:
            raise EngineFailed(f"parameter {name} of {shape.name} has no place in a GGUF file")
        heads = names.rotary_heads(name, shape)
        yield written, parameter.data if heads is None else _paired(parameter.data, heads)


def _paired(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of rotary halves as rows of neighbours, head by head; a bias likewise."""
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return halves.transpose(1, 2).reshape(rows.shape)


def _add(writer: gguf.GGUFWriter, name: str, tensor: torch.Tensor, kind: str) -> None:
    """Vectors, which are norms and biases, stay in 32 bits: llama.cpp asks for that."""
    quantization = gguf.GGMLQuantizationType[kind.upper() if tensor.dim() > 1 else "F32"]
    if tensor.dtype == torch.bfloat16 and quantization.name == "BF16":
        values = tensor.contiguous().view(torch.uint8).numpy()
        writer.add_tensor(name, values, raw_dtype=quantization)
        return
    values = tensor.float().numpy()
    try:
        quantized = gguf.quants.quantize(values, quantization)
    except ValueError as error:
        raise EngineFailed(f"{name} cannot be {kind}: {error}") from error
    writer.add_tensor(name, numpy.ascontiguousarray(quantized), raw_dtype=quantization)


def _describe(writer: gguf.GGUFWriter, shape: Architecture, kind: str) -> None:
    writer.add_name(shape.name)
    writer.add_file_type(int(gguf.LlamaFileType[_FILE_TYPES.get(kind, f"MOSTLY_{kind.upper()}")]))
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(shape.max_position)
    writer.add_embedding_length(shape.hidden_size)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.intermediate_size)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_vocab_size(shape.vocab_size)
    _add_vocabulary(writer, shape.vocab_size)


def _add_vocabulary(writer: gguf.GGUFWriter, size: int) -> None:
    """A word for each id, in plain letters, so that no token waits for another to be printable.

    Of llama.cpp's tokenizers "rwkv" is the one that knows no special token unless it is named, so none ends the text:
    elsewhere one would be kept from being chosen, which torch does not do.
    """
    writer.add_tokenizer_model("rwkv")
    writer.add_token_list([f" t{index}" for index in range(size)])
    writer.add_token_types([gguf.TokenType.NORMAL] * size)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
