"""Weight-only quantization of a torch model, after its weights were drawn or read and digested.

The products are torch's own kernels for weights of 8 and 4 bits, which read the small weights and no others. (torchao
wraps the same kernels for compiled models; in eager mode its int8 widens every weight at each call, and once installed
every import of transformers imports it, which takes seconds.)
"""

from __future__ import annotations

from typing import Any

import torch

from phasewatt import quantization
from phasewatt.errors import EngineFailed
from phasewatt.quantization import Scheme

_HIGHEST = 127  # of 8 bits, symmetric
_LEVELS, _MIDDLE = 15, 8  # of 4 bits; a weight is (value - middle) x scale + zero, as the kernels compute it
_TINY = 1e-9  # a scale of 0 divides nothing
_TILES = (8, 4, 2)  # of 16 weights, that a CUDA kernel takes at a time: the most that divide a row


def quantize(model: torch.nn.Module, name: str, dtype: str) -> str | None:
    """Quantize the linear layers of `model` in place, one at a time; how, in words, or None where `name` is "none".

    Raises:
        EngineFailed: this processor, dtype or shape has no such scheme.
    """
    scheme = quantization.scheme(name)
    if scheme is None:
        return None
    layers = [(path, layer) for path, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)]
    for path, layer in layers:
        _check(path, layer, name, scheme, dtype)
    for path, layer in layers:
        model.set_submodule(path, Int8Linear(layer) if name == "int8" else Int4Linear(layer, scheme.group or 1))
    return scheme.words


class Int8Linear(torch.nn.Module):
    """A linear layer whose weights are of 8 bits, with a scale a row."""

    def __init__(self, layer: torch.nn.Linear) -> None:
        super().__init__()
        rows = layer.weight.data.float()  # [out, in]
        scales = (rows.abs().amax(1) / _HIGHEST).clamp(min=_TINY)
        self.register_buffer("values", (rows / scales[:, None]).round().to(torch.int8))
        self.register_buffer("scales", scales.to(layer.weight.dtype))
        self.bias = layer.bias

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[..., in] -> [..., out]."""
        flat = hidden.reshape(-1, hidden.shape[-1])
        product = torch.ops.aten._weight_int8pack_mm(flat, self.values, self.scales)
        return _shaped(product, hidden, self.bias)


class Int4Linear(torch.nn.Module):
    """A linear layer whose weights are of 4 bits, with a scale and a zero point for each group of a row."""

    def __init__(self, layer: torch.nn.Linear, group: int) -> None:
        super().__init__()
        values, scales = quantized_to_4_bits(layer.weight.data.float(), group)
        self._group = group
        self._on_cpu = values.device.type == "cpu"
        self.register_buffer("values", _packed_for_cpu(values) if self._on_cpu else _packed_for_cuda(values))
        self.register_buffer("scales", scales.to(layer.weight.dtype))
        self.bias = layer.bias

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[..., in] -> [..., out]."""
        flat = hidden.reshape(-1, hidden.shape[-1])
        operators = torch.ops.aten
        multiply = operators._weight_int4pack_mm_for_cpu if self._on_cpu else operators._weight_int4pack_mm
        return _shaped(multiply(flat, self.values, self._group, self.scales), hidden, self.bias)


def quantized_to_4_bits(rows: torch.Tensor, group: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Values 0 to 15, int32 [out, in], and scales beside zero points, [in / group, out, 2], of `rows`, [out, in]."""
    grouped = rows.reshape(rows.shape[0], -1, group)
    low, high = grouped.amin(-1), grouped.amax(-1)  # [out, in / group]
    scales = ((high - low) / _LEVELS).clamp(min=_TINY)
    values = ((grouped - low[..., None]) / scales[..., None]).round().clamp(0, _LEVELS).to(torch.int32)
    both = torch.stack([scales, low + scales * _MIDDLE], -1).transpose(0, 1).contiguous()
    return values.reshape(rows.shape), both


def _packed_for_cpu(values: torch.Tensor) -> Any:
    return torch.ops.aten._convert_weight_to_int4pack_for_cpu(values, 1)


def _packed_for_cuda(values: torch.Tensor) -> Any:
    pairs = (values[:, ::2] << 4 | values[:, 1::2]).to(torch.uint8)
    tiles = next(tiles for tiles in _TILES if values.shape[1] % (16 * tiles) == 0)
    return torch.ops.aten._convert_weight_to_int4pack(pairs, tiles)


def _shaped(product: torch.Tensor, hidden: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """[rows, out] -> [..., out], with the bias."""
    result = product.reshape(*hidden.shape[:-1], -1)
    return result if bias is None else result + bias


def _check(path: str, layer: torch.nn.Linear, name: str, scheme: Scheme, dtype: str) -> None:
    """Raise EngineFailed for what the kernels do not do, in words that say what would."""
    if scheme.group is not None and layer.in_features % scheme.group:
        raise EngineFailed(
            f"quantization {name} shares a scale among {scheme.group} weights; {path} has rows of "
            f"{layer.in_features}, which is no multiple"
        )
    device = layer.weight.device.type
    if name == "int4" and device != "cpu" and dtype != "bfloat16":
        raise EngineFailed(
            f"quantization int4 on {device} is for kernels that compute in bfloat16, not {dtype}: choose that dtype, "
            "or int8"
        )
