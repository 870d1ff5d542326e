"""Random weights: drawn from (seed, name), identical on every host up to `DRAWN_ON_CPU_LIMIT` parameters.

Raw PCG64 words, whose stream numpy guarantees, become 16-bit integers, and these become a uniform distribution by one
exact subtraction and one correctly rounded product. Normal variates would depend on each platform's logarithm.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import numpy
import torch

from agent.engines.sources import DRAWN_ON_CPU_LIMIT
from agent.engines.tensor_parallel import Cut

DEVIATION = 0.02  # the initializer_range of every family here
_HALF_RANGE = DEVIATION * math.sqrt(3)  # of a uniform distribution with that deviation
_LEVELS = 1 << 16
_PIECE = 1 << 22  # values; a multiple of the 4 in each 64-bit word


def are_drawn_on_cpu(model: torch.nn.Module) -> bool:
    """Whether those of the whole `model` are few enough for that."""
    return sum(parameter.numel() for parameter in model.parameters()) <= DRAWN_ON_CPU_LIMIT


def fill(model: torch.nn.Module, seed: int) -> tuple[str | None, str]:
    """Fill the whole `model` in place; its digest, and where the numbers were drawn ("cpu" or "device")."""
    if not are_drawn_on_cpu(model):
        fill_on_device(model, seed, {})
        return None, "device"
    for name, parameter in model.named_parameters():
        _fill_on_cpu(parameter.data.view(-1), name, seed)
    return digest(model), "cpu"


def digest(model: torch.nn.Module) -> str:
    """SHA-256 over the names and little-endian values of all parameters, in order of name."""
    total = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        values = parameter.data.cpu().contiguous().view(torch.uint8)
        total.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}\n".encode())
        total.update(values.reshape(-1).numpy().data)
    return total.hexdigest()


def _fill_on_cpu(values: torch.Tensor, name: str, seed: int) -> None:
    """Fill the flat `values` of one parameter piece by piece, so that boards need no second copy of it."""
    if _is_norm(name):
        values.fill_(1.0)
        return
    entropy = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    source = numpy.random.PCG64(int.from_bytes(entropy, "little"))
    for piece in values.split(_PIECE):  # type: ignore[no-untyped-call]
        words = source.random_raw(math.ceil(piece.numel() / 4)).astype("<u8", copy=False)
        levels = words.view("<u2")[: piece.numel()].astype(numpy.float32)
        levels -= (_LEVELS - 1) / 2
        levels *= numpy.float32(_HALF_RANGE / (_LEVELS / 2))
        piece.copy_(torch.from_numpy(levels))


def fill_on_device(model: torch.nn.Module, seed: int, cuts: Mapping[str, Cut]) -> None:
    """Fill `model` where it lies; of a parameter in `cuts` that part of the whole one, which is drawn aside."""
    for index, (name, parameter) in enumerate(sorted(model.named_parameters())):
        if _is_norm(name):
            parameter.data.fill_(1.0)
            continue
        cut = cuts.get(name)
        whole = parameter.data if cut is None else parameter.data.new_empty(cut.whole)
        generator = torch.Generator(parameter.device).manual_seed(seed * 1_000_003 + index)
        whole.uniform_(-_HALF_RANGE, _HALF_RANGE, generator=generator)
        if cut is not None:
            parameter.data.copy_(cut.of(whole))


def _is_norm(name: str) -> bool:
    return "norm" in name.rpartition(".")[0].rpartition(".")[2]
