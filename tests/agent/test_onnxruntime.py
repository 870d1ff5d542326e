"""Engine onnxruntime: the graph computes what the reference engine does, exports are whole, bad input is one line."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent import engines, models
from agent.engines import cuda_device, onnx_exports
from agent.engines.onnx_exports import MANIFEST, Export, digest_of
from agent.orders import Burn, Load, Resolve
from phasewatt import prompt
from phasewatt.errors import DoesNotFit, EngineAbsent, EngineFailed
from phasewatt.work import Architecture, Experts

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'phasewatt[torch]'")
ORT = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'phasewatt[onnx]'")
pytest.importorskip("onnx", reason="onnx is not installed: pip install 'phasewatt[onnx]'")

FLOAT32_TOLERANCE = 1e-4  # of a logit; logits here are below 5
FLOAT16_TOLERANCE = 2e-2
STEPS = 6
SMALL = msgspec.structs.replace(
    models.preset("qwen3-8b"),
    **{"name": "small", "hidden_size": 96, "layers": 2, "heads": 6, "kv_heads": 2, "head_dim": 32},
    **{"intermediate_size": 160, "vocab_size": 512, "max_position": 64},
)
SHAPES = {
    "llama, tied": msgspec.structs.replace(SMALL, family="llama", qk_norm=False, tied_embeddings=True),
    "qwen2, biased": msgspec.structs.replace(SMALL, family="qwen2", qk_norm=False, qkv_bias=True),
    "qwen3, head norms": SMALL,
}


def order(shape: Architecture = SMALL, **changed: Any) -> Load:
    """An order for that shape on the CPU."""
    asked = Load(
        architecture=shape, weights="random:7", dtype="float32", mode="eager", attention="sdpa", accelerator="cpu"
    )
    return msgspec.structs.replace(asked, **changed)


def create() -> Any:
    return engines.create("onnxruntime")


def export_here(asked: Load, folder: Path) -> Export:
    """The export in this process: a child would import torch once more."""
    from agent.engines import onnx_exporter

    return onnx_exporter.export(asked, folder)


def stand_in(asked: Load, folder: Path) -> None:
    """An export whose files hold nothing, for what happens around it."""
    for name in ("model.onnx", "weights.bin"):
        (folder / name).write_bytes(name.encode())
    sha256 = {name: digest_of(folder / name) for name in ("model.onnx", "weights.bin")}
    done = Export(parameters=1, weights_digest=None, drawn_on=None, sha256=sha256)
    (folder / MANIFEST).write_bytes(msgspec.json.encode(done))


@pytest.fixture
def engine() -> Iterator[Any]:
    made = create()
    yield made
    made.close()


def _reference(asked: Load) -> Any:
    reference: Any = engines.create("transformers")
    return reference, reference.load(msgspec.structs.replace(asked, attention="eager"))


def _onnx_logits(folder: Path, asked: Load, ids: Any, tokens: Any) -> list[Any]:
    """Logits of a prefill on an empty past and of a step for each of `tokens`."""
    import numpy

    from agent.engines.onnx_graph import cache_names

    shape = asked.architecture
    session = ORT.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    empty = numpy.empty((ids.shape[0], shape.kv_heads, 0, shape.head_dim), asked.dtype)
    past = dict.fromkeys(cache_names(shape.layers, "past"), empty)
    found = []
    for new in (ids, *tokens):
        logits, *present = session.run(["logits", *cache_names(shape.layers, "present")], {"input_ids": new, **past})
        past = dict(zip(past, present, strict=True))
        found.append(logits.astype("float32"))
    return found


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_logits_agree_with_torch(shape: Architecture, attention: str, tmp_path: Path) -> None:
    """Prefill and steps, two sequences, grouped heads, tied and untied heads, biases and head norms, at float32."""
    import numpy

    asked = order(shape, attention=attention)
    export = export_here(asked, tmp_path)
    reference, loaded = _reference(asked)
    assert (export.weights_digest, export.parameters) == (loaded.weights_digest, loaded.parameters)
    ids = numpy.array(prompt.token_ids(1, 2, 9, shape.vocab_size), numpy.int64).reshape(2, -1)
    tokens = [numpy.array([[step], [2 * step + 1]], numpy.int64) for step in range(STEPS)]
    ours = _onnx_logits(tmp_path, asked, ids, tokens)
    with torch.inference_mode():
        whole = reference._model(input_ids=torch.tensor(numpy.concatenate([ids, *tokens], axis=1))).logits.numpy()
    worst = max(abs(ours[step] - whole[:, ids.shape[1] - 1 + step]).max() for step in range(STEPS + 1))
    assert worst < FLOAT32_TOLERANCE < abs(whole).max() / 100


def test_float16_agrees_with_torch_and_is_the_same_weights(tmp_path: Path) -> None:
    """The digest is of float16 weights, so that the work is the reference engine's work at float16."""
    import numpy

    asked = order(dtype="float16")
    export = export_here(asked, tmp_path)
    reference, loaded = _reference(asked)
    assert export.weights_digest == loaded.weights_digest
    ids = numpy.array(prompt.token_ids(1, 2, 9, SMALL.vocab_size), numpy.int64).reshape(2, -1)
    (ours,) = _onnx_logits(tmp_path, asked, ids, [])
    with torch.inference_mode():
        theirs = reference._model(input_ids=torch.tensor(ids)).logits[:, -1].float().numpy()
    assert abs(ours - theirs).max() < FLOAT16_TOLERANCE


def test_a_child_exports_once_and_the_tokens_are_those_of_torch(engine: Any, tmp_path: Path) -> None:
    """The whole way through the Protocol: same digest, same tokens, and nothing is made a second time."""
    asked = order(exports=str(tmp_path))
    loaded = engine.load(asked)
    (folder,) = tmp_path.iterdir()
    made = folder.joinpath("weights.bin").stat().st_mtime_ns
    reference, expected = _reference(asked)
    assert loaded.weights_digest == expected.weights_digest
    ids = prompt.token_ids(3, 2, 9, SMALL.vocab_size)
    chosen = []
    for each in (engine, reference):
        each.set_prompt(ids, 2)
        tokens = [each.prefill()]
        for _ in range(STEPS):
            tokens.append(each.decode_one(tokens[-1]))
        chosen.append([token.numpy().tolist() for token in tokens])
    assert chosen[0] == chosen[1]
    engine.load(asked)
    assert folder.joinpath("weights.bin").stat().st_mtime_ns == made


def test_crop_to_any_depth(engine: Any, tmp_path: Path) -> None:
    """Between the end of the prefill and now, too; and deeper than what is there changes nothing."""
    asked = order(exports=str(tmp_path))
    onnx_exports.of(asked, tmp_path, make=export_here)
    engine.load(asked)
    engine.set_prompt(prompt.token_ids(3, 1, 9, SMALL.vocab_size), 1)
    tokens = [engine.prefill()]
    for _ in range(4):
        tokens.append(engine.decode_one(tokens[-1]))
    engine.crop(99)
    engine.crop(11)
    assert engine.decode_one(tokens[2]).numpy() == tokens[3].numpy()
    engine.crop(9)
    assert engine.decode_one(tokens[0]).numpy() == tokens[1].numpy()


def test_threads_are_the_sessions_own(engine: Any, tmp_path: Path) -> None:
    """Another number is another session; the same one is the same."""
    asked = order(exports=str(tmp_path))
    onnx_exports.of(asked, tmp_path, make=export_here)
    engine.load(asked)
    assert engine.set_threads(1) == 1
    session = engine._session
    assert session.get_session_options().intra_op_num_threads == 1
    assert engine.set_threads(1) == 1
    assert engine._session is session
    assert 1 <= engine.set_threads(None) <= len(os.sched_getaffinity(0))


def test_neither_engine_nor_exports_load_torch() -> None:
    """What is measured is a process with onnxruntime alone in it."""
    asks = "import sys, agent.engines.onnxruntime; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"architecture": models.preset("llama-3-8b")}, r"up to 1.5B parameters; llama-3-8b has 8.0B: choose"),
        ({"dtype": "bfloat16"}, "no dtype 'bfloat16'; known: float32, float16"),
        ({"attention": "flash"}, "no attention 'flash'; known: sdpa, eager"),
        ({"mode": "graph"}, "no mode 'graph' on cpu; known: eager"),
        ({"mode": "compiled"}, "no mode 'compiled' on cpu; known: eager"),
        ({"quantization": "int8"}, "no quantization 'int8'"),
        ({"weights": "path:/nowhere"}, "no safetensors in /nowhere"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_what_is_not_exported_is_refused(changed: dict[str, Any], message: str, engine: Any, tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match=message):
        engine.load(order(exports=str(tmp_path), **changed))
    assert list(tmp_path.iterdir()) == []


def test_a_mixture_is_refused(tmp_path: Path) -> None:
    shape = msgspec.structs.replace(SMALL, experts=Experts(count=4, per_token=2, intermediate_size=32))
    with pytest.raises(EngineFailed, match="without experts; small is another"):
        export_here(order(shape), tmp_path)


def test_weights_that_the_graph_has_no_place_for_are_refused(tmp_path: Path) -> None:
    """A model with more in it than its architecture tells would be another model in ONNX."""
    reference, loaded = _reference(order())
    reference._model.register_parameter("surprise", torch.nn.Parameter(torch.zeros(1)))

    class Given:
        _model = reference._model

        def load(self, asked: Load) -> Any:
            return loaded

    from agent.engines import onnx_exporter

    with pytest.raises(EngineFailed, match="no place for 1 weights of the model, surprise among them"):
        onnx_exporter.export(order(), tmp_path, Given())


@pytest.mark.skipif("CUDAExecutionProvider" in ORT.get_available_providers(), reason="this build has CUDA")
def test_a_provider_that_is_absent_is_named(engine: Any) -> None:
    with pytest.raises(EngineFailed, match=r"has no CUDAExecutionProvider; it has .*: install onnxruntime-gpu"):
        engine.describe(Resolve(model="stories15m", weights="random:7", accelerator="cuda"))
    with pytest.raises(EngineFailed, match="has no TensorrtExecutionProvider"):
        engine.load(order(mode="compiled", accelerator="cuda"))
    assert engine.describe(Resolve(model="stories15m", weights="random:7", accelerator="auto")).accelerator == "cpu"


def test_a_provider_that_does_not_load_is_no_silent_cpu(engine: Any, tmp_path: Path) -> None:
    """onnxruntime itself would go on with the CPU."""
    asked = order(exports=str(tmp_path))
    onnx_exports.of(asked, tmp_path, make=export_here)
    engine.load(asked)
    engine._providers = [("CUDAExecutionProvider", {}), ("CPUExecutionProvider", {})]
    if "CUDAExecutionProvider" not in ORT.get_available_providers():
        with (
            pytest.warns(UserWarning, match="CUDAExecutionProvider"),
            pytest.raises(EngineFailed, match="does not load"),
        ):
            engine._opened(1)


def test_two_builds_in_one_folder_are_named() -> None:
    from agent.engines.onnxruntime import _check_builds

    with pytest.raises(
        EngineFailed, match=r"are both installed, in one folder: .*: pip uninstall -y onnxruntime onnxruntime-gpu"
    ):
        _check_builds({"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.32.0"})
    _check_builds({"onnxruntime-gpu": "1.32.0"})


def test_an_engine_that_is_not_installed_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells are skipped with the remedy, and the others go on."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "agent.engines.onnxruntime", raising=False)
    with pytest.raises(EngineAbsent, match=r"needs onnxruntime: pip install 'phasewatt\[onnx,torch\]'"):
        create()


def test_errors_of_the_library_are_told_from_lack_of_memory(engine: Any) -> None:
    from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

    with pytest.raises(EngineFailed, match="onnxruntime: a bad feed"), engine.guarded():
        raise InvalidArgument("a bad feed\nand more")
    with pytest.raises(DoesNotFit), engine.guarded():
        raise RuntimeError("CUDA error: out of memory")
    with pytest.raises(KeyError), engine.guarded():
        raise KeyError("ours")
    with pytest.raises(EngineFailed, match="engine transformers does"):
        engine.burn(Burn(seconds=1.0, accelerator="cpu"))


def test_an_export_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """Nor what an earlier one left when it was cut off."""

    def failing(asked: Load, folder: Path) -> None:
        (folder / "weights.bin").write_bytes(b"half")
        raise EngineFailed("the export failed: no operator")

    (tmp_path / "partial-0123").mkdir()
    with pytest.raises(EngineFailed, match="no operator"):
        onnx_exports.of(order(), tmp_path, make=failing)
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match="the export failed: engine onnxruntime has no dtype 'bfloat16'"):
        onnx_exports.in_child(order(dtype="bfloat16"), tmp_path)


@pytest.mark.parametrize("broken", ["weights.bin", "model.onnx", MANIFEST])
@pytest.mark.parametrize("gone", [False, True], ids=["changed", "gone"])
def test_a_damaged_export_is_refused_once_and_made_anew(broken: str, gone: bool, tmp_path: Path) -> None:
    whole = onnx_exports.of(order(), tmp_path, make=stand_in)
    if gone:
        (whole.folder / broken).unlink()
    else:
        (whole.folder / broken).write_bytes(b"other")
    with pytest.raises(EngineFailed, match=r"was damaged .* and is removed: run again"):
        onnx_exports.of(order(), tmp_path, make=stand_in)
    assert onnx_exports.of(order(), tmp_path, make=stand_in) == whole


def test_exports_are_known_by_content(tmp_path: Path) -> None:
    """Shape, seed, dtype, attention, files; neither by the model's name nor by who asks."""
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"one")
    at = order(weights=f"path:{tmp_path}")
    keys = [
        onnx_exports.key_of(order()),
        onnx_exports.key_of(order(weights="random:8")),
        onnx_exports.key_of(order(dtype="float16")),
        onnx_exports.key_of(order(attention="eager")),
        onnx_exports.key_of(order(msgspec.structs.replace(SMALL, layers=3))),
        onnx_exports.key_of(at, [file]),
    ]
    file.write_bytes(b"two")
    assert len({*keys, onnx_exports.key_of(at, [file])}) == len(keys) + 1
    assert onnx_exports.key_of(order(msgspec.structs.replace(SMALL, name="other"), exports="x")) == keys[0]


def test_exports_are_bounded_and_the_least_used_goes(tmp_path: Path) -> None:
    found = [onnx_exports.of(order(weights=f"random:{seed}"), tmp_path, make=stand_in).folder for seed in (1, 2, 3)]
    for age, folder in enumerate(found):
        os.utime(folder, (1000 + age, 1000 + age))
    size = sum(file.stat().st_size for file in found[0].iterdir())
    onnx_exports.keep_within(tmp_path, 2 * size, besides=found[0])
    assert [folder.exists() for folder in found] == [True, False, True]


def test_a_full_disk_is_told_with_both_figures(tmp_path: Path) -> None:
    huge = msgspec.structs.replace(SMALL, vocab_size=2**21, hidden_size=384)  # 1.6B parameters, never made
    with pytest.raises(DoesNotFit, match=r"the export needs 6\.\d+ GB, 0.00 GB are free"):
        onnx_exports.of(order(huge), tmp_path, make=stand_in, free_bytes=lambda folder: 1000)


class Driver:
    """A CUDA driver with one device, in the calls that are asked of it."""

    def __init__(self, code: int = 0, integrated: int = 0) -> None:
        self._code, self._integrated = code, integrated

    def __getattr__(self, name: str) -> Any:
        def answer(*arguments: Any) -> int:
            if name == "cuDeviceGetName":
                arguments[0].value = b"NVIDIA Thing"
            elif name == "cuDeviceGetUuid_v2":
                ctypes.memmove(arguments[0], uuid.UUID(int=5).bytes, 16)
            elif name == "cuDeviceGetAttribute":
                arguments[0]._obj.value = self._integrated
            elif name == "cuMemGetInfo_v2":
                arguments[0]._obj.value = 7 * 10**9
            return self._code

        return answer


def test_the_cuda_device_is_told_without_torch() -> None:
    assert cuda_device.first(Driver()) == ("NVIDIA Thing", "GPU-00000000-0000-0000-0000-000000000005", 7 * 10**9)
    assert cuda_device.first(Driver(integrated=1)).free_bytes != 7 * 10**9
    with pytest.raises(EngineFailed, match="cuInit gives error 100"):
        cuda_device.first(Driver(code=100))
