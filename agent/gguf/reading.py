"""What a GGUF file holds, proven by its tensors: the same weights have the digest that torch gives them."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from agent.gguf import DTYPE_KEY, WEIGHTS_KEY, names
from phasewatt.errors import EngineFailed
from phasewatt.work import Architecture

try:
    import gguf
    import numpy
except ImportError as error:
    raise EngineFailed(f"reading a server's GGUF file needs {error.name}: pip install 'phasewatt[gguf]'") from error

_WHOLE = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_TIES = "output.weight"

Matrix = Any  # a numpy array


class Held(NamedTuple):
    """A file's weights."""

    digest: str  # of the parameters where they are whole numbers of one dtype, else of the tensors as they are stored
    parameters: int
    dtype: str | None  # None: quantized, and not said of what
    quantization: str | None
    source: str | None  # as the file says; None: it does not


def held(path: Path, shape: Architecture) -> Held:
    """The weights in a GGUF file, which must be of that shape.

    Raises:
        EngineFailed: no GGUF file, damaged, or a model of another shape.
    """
    try:
        reader = gguf.GGUFReader(path)
    except (OSError, ValueError, KeyError, IndexError, struct.error) as error:
        raise EngineFailed(f"{path.name} cannot be read as a GGUF file: {error}") from error
    _check_shape(reader, shape, path.name)
    kinds = sorted({tensor.tensor_type.name for tensor in reader.tensors if len(tensor.shape) > 1})
    parameters = sum(int(tensor.n_elements) for tensor in reader.tensors)
    source = _text(reader, WEIGHTS_KEY)
    whole = _WHOLE.get(kinds[0]) if len(kinds) == 1 else None
    if whole is not None and (digest := _parameters_digest(reader, shape, whole)) is not None:
        return Held(digest, parameters, whole, None, source)
    return Held(_stored_digest(reader), parameters, _text(reader, DTYPE_KEY), f"gguf {'+'.join(kinds)}", source)


def _check_shape(reader: gguf.GGUFReader, shape: Architecture, name: str) -> None:
    told = _text(reader, "general.architecture")
    wanted: Mapping[str, int] = {
        "block_count": shape.layers,
        "embedding_length": shape.hidden_size,
        "feed_forward_length": shape.intermediate_size,
        "attention.head_count": shape.heads,
        "attention.head_count_kv": shape.kv_heads,
    }
    if told != shape.family:
        raise EngineFailed(f"the server's file {name} is of family {told!r}, {shape.name} is of {shape.family!r}")
    for key, expected in wanted.items():
        field = reader.get_field(f"{told}.{key}")
        found = None if field is None else field.contents()
        if found != expected:
            raise EngineFailed(f"the server's file {name} is no {shape.name}: {key} is {found}, expected {expected}")


def _parameters_digest(reader: gguf.GGUFReader, shape: Architecture, dtype: str) -> str | None:
    """The digest that `agent.engines.weights` gives these parameters; None where they are not all of `dtype`."""
    tensors = {names.parameter_name(tensor.name): tensor for tensor in reader.tensors}
    if shape.tied_embeddings:
        tensors.pop(names.parameter_name(_TIES), None)
    if None in tensors:
        return None
    total = hashlib.sha256()
    for name, tensor in sorted((str(name), tensor) for name, tensor in tensors.items()):
        values = _in_dtype(tensor, dtype)
        if values is None:
            return None
        heads = names.rotary_heads(name, shape)
        size = tuple(int(length) for length in reversed(tensor.shape))
        total.update(f"{name} {size} torch.{dtype}\n".encode())
        total.update(numpy.ascontiguousarray(values if heads is None else _halved(values, heads)).data)
    return total.hexdigest()


def _in_dtype(tensor: gguf.ReaderTensor, dtype: str) -> Matrix | None:
    """The tensor's numbers as `dtype` keeps them, rows by bytes; None where some are not of it."""
    rows = tensor.data
    if _WHOLE.get(tensor.tensor_type.name) == dtype:
        return rows
    if tensor.tensor_type.name != "F32":
        return None
    kept, back = _NARROWED[dtype](rows)
    return kept if numpy.array_equal(back, rows) else None


def _to_float16(rows: Matrix) -> tuple[Matrix, Matrix]:
    kept = rows.astype(numpy.float16)
    return kept, kept.astype(numpy.float32)


def _to_bfloat16(rows: Matrix) -> tuple[Matrix, Matrix]:
    """The upper half of each 32-bit number, which is all of it where the lower one is zero."""
    kept = (rows.view(numpy.uint32) >> 16).astype("<u2")
    return kept, (kept.astype(numpy.uint32) << 16).view(numpy.float32)


_NARROWED: Mapping[str, Callable[[Matrix], tuple[Matrix, Matrix]]] = {
    "float16": _to_float16,
    "bfloat16": _to_bfloat16,
}


def _halved(rows: Matrix, heads: int) -> Matrix:
    """Rows of rotary neighbours as rows of halves, head by head: how transformers keeps them."""
    pairs = rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:])
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def _stored_digest(reader: gguf.GGUFReader) -> str:
    """SHA-256 over names, types and bytes of all tensors, in order of name."""
    total = hashlib.sha256()
    for tensor in sorted(reader.tensors, key=lambda tensor: str(tensor.name)):
        total.update(f"{tensor.name} {tuple(int(n) for n in tensor.shape)} {tensor.tensor_type.name}\n".encode())
        total.update(numpy.ascontiguousarray(tensor.data).data)
    return total.hexdigest()


def _text(reader: gguf.GGUFReader, key: str) -> str | None:
    field = reader.get_field(key)
    value = None if field is None else field.contents()
    return value[:256] if isinstance(value, str) else None
