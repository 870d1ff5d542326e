"""An architecture as an ONNX graph: the decoder with past and present keys and values, of any length, 0 included.

The graph is built from the architecture and the named weights, not traced from a model: it is the same whatever release
of torch or transformers is here, and weights go to the file one at a time. Dimensions in comments: batch b, new tokens
s, tokens in the cache p, all tokens t = p + s, heads h, key-value heads k, queries a key-value head g, head's size d,
hidden size c.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

from phasewatt.errors import EngineFailed
from phasewatt.work import Architecture

FUSED = "sdpa"  # one operator: com.microsoft's GroupQueryAttention
SPELLED = "eager"  # matrix products and a softmax, in standard operators alone
ATTENTIONS = (FUSED, SPELLED)
DTYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}
FAMILIES = ("llama", "qwen2", "qwen3")
MODEL_FILE, WEIGHTS_FILE = "model.onnx", "weights.bin"
_OPSET, _IR_VERSION = 18, 9  # what onnxruntime 1.23 and newer read
_PAGE = 4096  # weights begin on a page, so that they can be mapped
_SMALL = -1e4  # below every score, and within float16

Weight = Callable[[str], numpy.ndarray[Any, Any]]


def check(shape: Architecture, dtype: str, attention: str) -> None:
    """Raise EngineFailed for what no graph is made of."""
    if shape.family not in FAMILIES or shape.experts is not None:
        raise EngineFailed(f"engine onnxruntime exports {', '.join(FAMILIES)} without experts; {shape.name} is another")
    if dtype not in DTYPES:
        raise EngineFailed(f"engine onnxruntime has no dtype {dtype!r}; known: {', '.join(DTYPES)}")
    if attention not in ATTENTIONS:
        raise EngineFailed(f"engine onnxruntime has no attention {attention!r}; known: {', '.join(ATTENTIONS)}")


def cache_names(layers: int, when: str) -> list[str]:
    """Names of keys and values, "past" or "present", key and value of each layer in turn; each is [b, k, p or t, d]."""
    return [f"{when}.{layer}.{part}" for layer in range(layers) for part in ("key", "value")]


def write(folder: Path, shape: Architecture, dtype: str, attention: str, weight: Weight) -> None:
    """The graph and its weights, as files in `folder`."""
    check(shape, dtype, attention)
    with (folder / WEIGHTS_FILE).open("wb") as file:
        model = _Decoder(shape, dtype, attention, weight, file).model()
    onnx.save(model, folder / MODEL_FILE)


class _Graph:
    """Nodes and initializers as they come; each method gives the name of a result."""

    def __init__(self, weight: Weight, file: IO[bytes]) -> None:
        self._weight = weight
        self._file = file
        self._constants: dict[str, str] = {}
        self._placed: dict[tuple[str, bool], str] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[TensorProto] = []

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """The only result of a new node."""
        return self.results(operator, inputs, 1, **attributes)[0]

    def results(self, operator: str, inputs: Sequence[str], count: int, **attributes: Any) -> list[str]:
        """The first results of a new node."""
        number = len(self.nodes)
        results = [f"{operator}_{number}.{index}" for index in range(count)]
        self.nodes.append(helper.make_node(operator, inputs, results, f"{operator}_{number}", **attributes))
        return results

    def constant(self, values: Any, dtype: Any = numpy.int64) -> str:
        """A small tensor, kept in the graph itself."""
        array = numpy.asarray(values, dtype)
        key = f"{array.dtype}{array.shape}{array.tolist()}"
        if key not in self._constants:
            self._constants[key] = f"constant_{len(self._constants)}"
            self.initializers.append(numpy_helper.from_array(array, self._constants[key]))
        return self._constants[key]

    def weight(self, name: str, transposed: bool = False) -> str:
        """A weight of the model, [out, in] as it is or [in, out]."""
        if (name, transposed) not in self._placed:
            array = self._weight(name)
            placed = f"{name}.T" if transposed else name
            self._placed[name, transposed] = self.external(placed, array.T if transposed else array)
        return self._placed[name, transposed]

    def external(self, name: str, array: numpy.ndarray[Any, Any]) -> str:
        """A tensor whose values go to the file beside the graph."""
        self._file.write(bytes(-self._file.tell() % _PAGE))
        offset = self._file.tell()
        numpy.ascontiguousarray(array).tofile(self._file)
        tensor = TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(array.dtype), dims=array.shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", WEIGHTS_FILE), ("offset", offset), ("length", self._file.tell() - offset)):
            tensor.external_data.add(key=key, value=str(value))
        self.initializers.append(tensor)
        return name


class _Decoder:
    """The graph of one architecture, built once."""

    def __init__(self, shape: Architecture, dtype: str, attention: str, weight: Weight, file: IO[bytes]) -> None:
        self._shape = shape
        self._type = DTYPES[dtype]
        self._numpy = numpy.dtype(dtype)
        self._fused = attention == FUSED
        self._graph = _Graph(weight, file)
        self._lengths: list[str] = []  # of the fused operator: last position of each sequence, all tokens
        self._rotary: list[str] = []  # cosines and sines: of all positions if fused, else of the new ones
        self._mask = ""  # [s, t], spelled attention alone

    def model(self) -> onnx.ModelProto:
        """The whole graph."""
        graph, shape = self._graph, self._shape
        hidden = graph.node("Gather", graph.weight("model.embed_tokens.weight"), "input_ids")  # [b, s, c]
        self._prepare()
        for layer in range(shape.layers):
            hidden = self._layer(hidden, layer)
        last = graph.node("Gather", hidden, graph.constant(-1), axis=1)  # [b, c]
        head = "model.embed_tokens.weight" if shape.tied_embeddings else "lm_head.weight"
        normed = self._norm(last, "model.norm.weight")
        logits = graph.node("Gemm", normed, graph.weight(head), transB=1)  # [b, vocabulary]
        token = graph.node("ArgMax", logits, axis=-1, keepdims=1)  # [b, 1], the first of equals
        for result, name in ((logits, "logits"), (token, "token")):
            graph.nodes.append(helper.make_node("Identity", [result], [name], name))
        domains = [helper.make_opsetid("", _OPSET), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(
            self._whole(), opset_imports=domains, ir_version=_IR_VERSION, producer_name="phasewatt"
        )

    def _whole(self) -> onnx.GraphProto:
        shape, value = self._shape, helper.make_tensor_value_info

        def cache(when: str, length: str) -> list[onnx.ValueInfoProto]:
            sizes: list[str | int | None] = ["batch", shape.kv_heads, length, shape.head_dim]
            return [value(name, self._type, sizes) for name in cache_names(shape.layers, when)]

        inputs = [value("input_ids", TensorProto.INT64, ["batch", "new"]), *cache("past", "past")]
        outputs = [
            value("token", TensorProto.INT64, ["batch", 1]),
            value("logits", self._type, ["batch", shape.vocab_size]),
            *cache("present", "all"),
        ]
        return helper.make_graph(self._graph.nodes, shape.name, inputs, outputs, self._graph.initializers)

    def _prepare(self) -> None:
        """What every layer needs of the lengths."""
        graph = self._graph
        past = graph.node("Gather", graph.node("Shape", "past.0.key"), graph.constant(2))
        ids = graph.node("Shape", "input_ids")
        new = graph.node("Gather", ids, graph.constant(1))
        every = graph.node("Add", past, new)
        if self._fused:
            self._prepare_fused(every, graph.node("Gather", ids, graph.constant([0])))
        else:
            self._prepare_spelled(past, every)

    def _prepare_fused(self, every: str, batch: str) -> None:
        graph = self._graph
        total = graph.node("Cast", every, to=TensorProto.INT32)
        last = graph.node("Sub", total, graph.constant(1, numpy.int32))
        self._lengths = [graph.node("Expand", last, batch), total]
        angles = numpy.outer(numpy.arange(self._shape.max_position, dtype=numpy.float32), self._frequencies())
        waves = {"cosines": numpy.cos(angles), "sines": numpy.sin(angles)}  # [positions, d / 2]
        self._rotary = [graph.external(name, wave.astype(self._numpy)) for name, wave in waves.items()]

    def _prepare_spelled(self, past: str, every: str) -> None:
        graph, one = self._graph, self._graph.constant(1)
        positions = graph.node("Range", past, every, one)  # [s]
        rows = graph.node("Unsqueeze", positions, one)  # [s, 1]
        half = graph.node(
            "Mul", graph.node("Cast", rows, to=TensorProto.FLOAT), graph.constant(self._frequencies(), numpy.float32)
        )
        angles = graph.node("Concat", half, half, axis=-1)  # [s, d]
        waves = (graph.node("Cos", angles), graph.node("Sin", angles))
        self._rotary = [graph.node("Cast", wave, to=self._type) for wave in waves]
        keys = graph.node("Range", graph.constant(0), every, one)  # [t]
        later = graph.node("Greater", keys, rows)  # [s, t]
        scores = [graph.constant(number, self._numpy) for number in (_SMALL, 0)]
        self._mask = graph.node("Where", later, *scores)

    def _frequencies(self) -> numpy.ndarray[Any, Any]:
        """Angle a position, [d / 2]. Source: RoFormer (arXiv 2104.09864), as transformers computes it."""
        exponents = numpy.arange(0, self._shape.head_dim, 2, dtype=numpy.float32) / self._shape.head_dim
        frequencies: numpy.ndarray[Any, Any] = 1 / numpy.float32(self._shape.rope_theta) ** exponents
        return frequencies

    def _layer(self, hidden: str, layer: int) -> str:
        graph, name = self._graph, f"model.layers.{layer}"
        normed = self._norm(hidden, f"{name}.input_layernorm.weight")
        hidden = graph.node("Add", hidden, self._attention(normed, layer))
        normed = self._norm(hidden, f"{name}.post_attention_layernorm.weight")
        gate = self._linear(normed, f"{name}.mlp.gate_proj")
        gated = graph.node(
            "Mul", graph.node("Mul", gate, graph.node("Sigmoid", gate)), self._linear(normed, f"{name}.mlp.up_proj")
        )
        return graph.node("Add", hidden, self._linear(gated, f"{name}.mlp.down_proj"))

    def _attention(self, normed: str, layer: int) -> str:
        name = f"model.layers.{layer}.self_attn"
        biased = self._shape.qkv_bias
        query, key, value = (self._linear(normed, f"{name}.{part}_proj", biased) for part in "qkv")
        if self._shape.qk_norm:
            query = self._head_norm(query, f"{name}.q_norm.weight", self._shape.heads)
            key = self._head_norm(key, f"{name}.k_norm.weight", self._shape.kv_heads)
        attend = self._attend_fused if self._fused else self._attend_spelled
        return self._linear(attend(query, key, value, layer), f"{name}.o_proj")

    def _attend_fused(self, query: str, key: str, value: str, layer: int) -> str:
        past, present = ([f"{when}.{layer}.{part}" for part in ("key", "value")] for when in ("past", "present"))
        result = f"attended_{layer}"
        node = helper.make_node(
            "GroupQueryAttention",
            [query, key, value, *past, *self._lengths, *self._rotary],
            [result, *present],
            result,
            domain="com.microsoft",
            num_heads=self._shape.heads,
            kv_num_heads=self._shape.kv_heads,
            do_rotary=1,
        )
        self._graph.nodes.append(node)
        return result  # [b, s, h * d]

    def _attend_spelled(self, query: str, key: str, value: str, layer: int) -> str:
        graph, shape = self._graph, self._shape
        queries = self._rotated(self._by_head(query, shape.heads))  # [b, h, s, d]
        keys = self._kept(self._rotated(self._by_head(key, shape.kv_heads)), layer, "key")  # [b, k, t, d]
        values = self._kept(self._by_head(value, shape.kv_heads), layer, "value")
        groups = shape.heads // shape.kv_heads
        grouped = graph.node("Reshape", queries, graph.constant([0, shape.kv_heads, groups, -1, shape.head_dim]))
        two, scale = graph.constant([2]), graph.constant(shape.head_dim**-0.5, self._numpy)
        turned = graph.node("Unsqueeze", graph.node("Transpose", keys, perm=[0, 1, 3, 2]), two)  # [b, k, 1, d, t]
        scaled = graph.node("Mul", graph.node("MatMul", grouped, turned), scale)
        shares = self._softmax(graph.node("Add", scaled, self._mask))  # [b, k, g, s, t]
        mixed = graph.node("MatMul", shares, graph.node("Unsqueeze", values, two))  # [b, k, g, s, d]
        ordered = graph.node("Transpose", mixed, perm=[0, 3, 1, 2, 4])
        return graph.node("Reshape", ordered, graph.constant([0, 0, shape.heads * shape.head_dim]))

    def _softmax(self, scores: str) -> str:
        """In float32, as torch does it."""
        graph = self._graph
        wide = graph.node("Cast", scores, to=TensorProto.FLOAT)
        return graph.node("Cast", graph.node("Softmax", wide, axis=-1), to=self._type)

    def _by_head(self, hidden: str, heads: int) -> str:
        """[b, s, heads * d] -> [b, heads, s, d]."""
        split = self._graph.node("Reshape", hidden, self._graph.constant([0, 0, heads, self._shape.head_dim]))
        return self._graph.node("Transpose", split, perm=[0, 2, 1, 3])

    def _rotated(self, hidden: str) -> str:
        """[b, heads, s, d] turned by its positions."""
        graph, half = self._graph, self._shape.head_dim // 2
        first, second = graph.results("Split", [hidden, graph.constant([half, half])], 2, axis=-1)
        turned = graph.node("Concat", graph.node("Neg", second), first, axis=-1)
        cosines, sines = self._rotary
        return graph.node("Add", graph.node("Mul", hidden, cosines), graph.node("Mul", turned, sines))

    def _kept(self, new: str, layer: int, part: str) -> str:
        """The cache with the new tokens behind it, [b, k, t, d]."""
        present = f"present.{layer}.{part}"
        self._graph.nodes.append(helper.make_node("Concat", [f"past.{layer}.{part}", new], [present], present, axis=2))
        return present

    def _head_norm(self, hidden: str, name: str, heads: int) -> str:
        """A norm over each head's own numbers."""
        graph, size = self._graph, self._shape.head_dim
        split = graph.node("Reshape", hidden, graph.constant([0, 0, heads, size]))
        return graph.node("Reshape", self._norm(split, name), graph.constant([0, 0, heads * size]))

    def _norm(self, hidden: str, name: str) -> str:
        """RMSNorm, its mean in float32, in the operators that onnxruntime fuses."""
        graph = self._graph
        wide = graph.node("Cast", hidden, to=TensorProto.FLOAT) if self._type != TensorProto.FLOAT else hidden
        square = graph.node("Pow", wide, graph.constant(2, numpy.float32))
        mean = graph.node("ReduceMean", square, graph.constant([-1]), keepdims=1)
        root = graph.node("Sqrt", graph.node("Add", mean, graph.constant(self._shape.norm_eps, numpy.float32)))
        scaled = graph.node("Div", wide, root)
        if self._type != TensorProto.FLOAT:
            scaled = graph.node("Cast", scaled, to=self._type)
        return graph.node("Mul", scaled, graph.weight(name))

    def _linear(self, hidden: str, name: str, biased: bool = False) -> str:
        product = self._graph.node("MatMul", hidden, self._graph.weight(f"{name}.weight", transposed=True))
        return self._graph.node("Add", product, self._graph.weight(f"{name}.bias")) if biased else product
