"""Every engine passes one contract; the reference engine's weights and arithmetic are tested beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import engines, models
from agent.engines import Engine
from agent.orders import Load, Resolve
from phasewatt import prompt, roofline
from phasewatt.errors import ConfigInvalid, DoesNotFit, EngineFailed

MODEL = "stories15m"
TOKENS = 12
_EXPORTS: list[str] = []
FLOAT32_DIGEST = "6247a5b2493c90222e9ea137ec8f02eea524bc6f2256e19a7bf213f89fa70dc6"
BFLOAT16_DIGEST = "3244d0b97e2f755f869a051b47caee35d5c095f9daa37e9500dc9ecedeae2803"


@pytest.fixture(scope="module", autouse=True)
def exports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One folder for the exports of all tests here, so that a model is exported once."""
    _EXPORTS.append(str(tmp_path_factory.mktemp("exports")))
    yield
    _EXPORTS.clear()


def _create(name: str) -> Engine:
    if name in ("transformers", "onnxruntime"):
        pytest.importorskip("torch", reason="torch is not installed: pip install 'phasewatt[torch]'")
    if name == "onnxruntime":
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'phasewatt[onnx]'")
    return engines.create(name)


def _load(engine: Engine, accelerator: str = "cpu", dtype: str = "float32", weights: str = "random:7") -> Any:
    order = Load(
        architecture=models.preset(MODEL),
        weights=weights,
        dtype=dtype,
        mode="eager",
        attention="sdpa",
        accelerator=accelerator,
        exports=_EXPORTS[0],
    )
    return engine.load(order)


def _skip_without_cuda_provider() -> None:
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this build of onnxruntime has no CUDA provider: pip install onnxruntime-gpu")


@pytest.fixture(
    params=[
        ("fake", "cpu"),
        ("transformers", "cpu"),
        ("onnxruntime", "cpu"),
        pytest.param(("onnxruntime", "cuda"), marks=pytest.mark.gpu),
        pytest.param(("transformers", "cuda"), marks=pytest.mark.gpu),
    ],
    ids=" on ".join,
)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A loaded engine with a prompt."""
    name, accelerator = request.param
    made = _create(name)
    if (name, accelerator) == ("onnxruntime", "cuda"):
        _skip_without_cuda_provider()
    _load(made, accelerator)
    made.set_prompt(prompt.token_ids(1, 2, TOKENS, models.preset(MODEL).vocab_size), 2)
    yield made
    made.close()


def test_the_contract_covers_every_engine() -> None:
    """An engine added to the table must be added here."""
    covered = {"fake", "onnxruntime", "transformers", "served"}  # a remote one has tests/agent/test_served*.py
    assert covered == set(engines.ENGINES)


def test_a_request_can_be_repeated_with_the_same_tokens(engine: Engine) -> None:
    """Reset and run again: forced tokens are the same, so repetitions are the same work."""
    runs = []
    for _ in range(2):
        engine.reset()
        token = engine.prefill()
        tokens = [token]
        for _ in range(4):
            token = engine.decode_one(token)
            tokens.append(token)
        engine.sync()
        runs.append([_plain(token) for token in tokens])
    assert runs[0] == runs[1]


def test_crop_returns_to_a_depth(engine: Engine) -> None:
    """After cropping, the same token at the same depth gives the same next token."""
    engine.reset()
    first = engine.prefill()
    seen = []
    for _ in range(3):
        token = engine.decode_one(first)
        engine.decode_one(token)
        engine.crop(TOKENS)
        seen.append(_plain(token))
    assert seen[0] == seen[1] == seen[2]


def test_crop_to_the_present_depth_changes_nothing(engine: Engine) -> None:
    """Nothing to drop is no error."""
    engine.reset()
    first = engine.prefill()
    engine.crop(TOKENS)
    assert _plain(engine.decode_one(first)) is not None


def test_describe_gives_architecture_and_memory(engine: Engine) -> None:
    """What the runner needs before anything is loaded."""
    described = engine.describe(Resolve(model=MODEL, weights="random:7", accelerator="auto"))
    assert described.architecture == models.preset(MODEL)
    assert described.memory_free_bytes is not None
    assert described.memory_free_bytes > 0
    assert described.simulated == engine.simulated


def test_unknown_model_lists_the_presets(engine: Engine) -> None:
    """One line, with what could have been meant."""
    with pytest.raises(ConfigInvalid, match="no preset 'gpt-9'; known: stories15m"):
        engine.describe(Resolve(model="gpt-9", weights="random:7", accelerator="auto"))


def test_loading_says_what_was_loaded() -> None:
    """Parameters as the architecture has them, for every engine that draws weights itself."""
    for name in engines.ENGINES.keys() - {"served"}:
        made = _create(name)
        assert _load(made).parameters == roofline.parameter_count(models.preset(MODEL))
        made.close()


@pytest.mark.parametrize(
    ("said", "fits"),
    [
        ("NVML_SUCCESS == r INTERNAL ASSERT FAILED at CUDACachingAllocator.cpp:1131", False),
        ("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported", False),
        ("[enforce fail at alloc_cpu.cpp:116] DefaultCPUAllocator: can't allocate memory", False),
        ("shapes cannot be multiplied", True),
    ],
)
def test_what_ran_out_of_memory_is_told_from_what_failed(said: str, fits: bool) -> None:
    """In all the words that it comes in on a board whose memory is shared."""
    made = _create("transformers")
    with pytest.raises(EngineFailed, match=said[:12].replace("[", r"\[")) as told, made.guarded():
        raise RuntimeError(said)
    assert isinstance(told.value, DoesNotFit) is not fits


def test_unknown_engine_lists_the_known_ones() -> None:
    """One line."""
    with pytest.raises(ConfigInvalid, match="no engine 'vllm'; known: transformers, onnxruntime, served, fake"):
        engines.create("vllm")


@pytest.mark.parametrize("name", sorted(models.PRESETS))
def test_presets_are_the_models_that_transformers_builds(name: str) -> None:
    """Parameter count of each preset, by formula and by the modules themselves, without memory."""
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'phasewatt[torch]'")
    from transformers import AutoModelForCausalLM

    from agent.engines.transformers import config_of

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config_of(models.preset(name)))
    assert sum(p.numel() for p in model.parameters()) == roofline.parameter_count(models.preset(name))


def test_random_weights_are_the_same_everywhere() -> None:
    """The digests are golden: another platform, torch or numpy must give them too."""
    engine = _create("transformers")
    assert _load(engine).weights_digest == FLOAT32_DIGEST
    assert _load(engine, dtype="bfloat16").weights_digest == BFLOAT16_DIGEST
    assert _load(engine, weights="random:8").weights_digest not in (None, FLOAT32_DIGEST)


def test_random_weights_have_the_deviation_of_an_initialised_model() -> None:
    """Uniform with a deviation of 0.02, not zeros, which would run faster than data does."""
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'phasewatt[torch]'")
    from agent.engines import weights

    model = torch.nn.Linear(300, 700, bias=False)
    weights.fill(model, 3)
    values = model.weight.data
    assert float(values.std()) == pytest.approx(0.02, rel=0.02)
    assert float(values.abs().max()) < 0.0347
    assert abs(float(values.mean())) < 1e-3


def test_cached_decoding_agrees_with_the_whole_sequence() -> None:
    """Prefill and steps with a cache choose the tokens that one uncached pass over the sequence chooses."""
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'phasewatt[torch]'")
    engine: Any = _create("transformers")
    _load(engine)
    ids = prompt.token_ids(5, 1, TOKENS, models.preset(MODEL).vocab_size)
    engine.set_prompt(ids, 1)
    tokens = [engine.prefill()]
    for _ in range(5):
        tokens.append(engine.decode_one(tokens[-1]))
    sequence = torch.cat([torch.tensor(ids, dtype=torch.int64)[None], *tokens], dim=1)
    with torch.inference_mode():
        whole = engine._model(input_ids=sequence, use_cache=False).logits.argmax(-1)
    assert whole[0, TOKENS - 1 : -1].tolist() == [int(token) for token in tokens]


def test_weights_from_a_directory_are_loaded_and_known_by_their_digest(tmp_path: Path) -> None:
    """`path:` reads the directory's own config and safetensors; the same numbers have the same digest."""
    engine: Any = _create("transformers")
    random_digest = _load(engine).weights_digest
    engine._model.save_pretrained(tmp_path / "saved")
    source = f"path:{tmp_path / 'saved'}"
    described = engine.describe(Resolve(model="", weights=source, accelerator="cpu"))
    assert roofline.parameter_count(described.architecture) == roofline.parameter_count(models.preset(MODEL))
    assert _load(engine, weights=source).weights_digest == random_digest


def test_weights_from_the_hub_come_through_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`hub:OWNER/NAME@REVISION` is what the hub's client gives, here from a cache with no network to ask."""
    engine: Any = _create("transformers")
    digest = _load(engine).weights_digest
    commit = "0123456789abcdef0123456789abcdef01234567"
    engine._model.save_pretrained(tmp_path / "models--owner--name" / "snapshots" / commit)
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert _load(engine, weights=f"hub:owner/name@{commit}").weights_digest == digest
    with pytest.raises(EngineFailed, match=r"weights hub:owner/absent could not be fetched: ."):
        engine.describe(Resolve(model="", weights="hub:owner/absent", accelerator="cpu"))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "cannot read"),
        ("{", "cannot read"),
        (json.dumps({"model_type": "gpt_neox"}), "family 'gpt_neox'"),
        (json.dumps({"model_type": "llama"}), "has no 'num_attention_heads'"),
    ],
)
def test_a_directory_that_is_no_model_is_one_line(tmp_path: Path, config: str | None, message: str) -> None:
    """Absent, broken, of another family, or incomplete."""
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(ConfigInvalid, match=message):
        models.from_config_file(tmp_path / "config.json")


@pytest.mark.gpu
def test_device_busy_time_is_less_than_host_time_and_not_nothing() -> None:
    """The profiler sees the kernels of a prefill on a GPU."""
    import time

    engine = _create("transformers")
    _load(engine, "cuda")
    engine.set_prompt(prompt.token_ids(1, 4, 512, models.preset(MODEL).vocab_size), 4)

    def work() -> None:
        engine.reset()
        engine.prefill()
        engine.sync()

    work()
    started = time.monotonic_ns()
    busy_ns = engine.device_busy_ns(work)
    assert 0 < busy_ns < time.monotonic_ns() - started


def _plain(token: Any) -> Any:
    if hasattr(token, "tolist"):
        return token.tolist()
    return token.numpy().tolist() if hasattr(token, "numpy") else token
