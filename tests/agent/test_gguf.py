"""GGUF files and a real llama.cpp server: the same weights, the same greedy tokens, and what proves it."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import app, engines, models
from agent.gguf import names
from agent.orders import Load, Loaded, Prompt, Repeat, Resolve
from agent.served.client import Client
from phasewatt import prompt, roofline
from phasewatt.errors import ConfigInvalid, EngineFailed
from phasewatt.fields import Phase
from phasewatt.work import Architecture
from tests.fixtures.llama_server import llama_server
from tests.fixtures.records import changed

# Its head is a matrix of its own: with tied random weights a model says the same token over and over.
SHAPE = Architecture(
    name="untied-tiny",
    family="llama",
    hidden_size=256,
    layers=4,
    heads=8,
    kv_heads=4,
    head_dim=32,
    intermediate_size=512,
    vocab_size=4096,
    max_position=512,
)
SOURCE = "random:7"
PROMPT, STEPS = 24, 48
DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "q8_0": "float16"}


def _needs() -> None:
    pytest.importorskip("torch", reason="torch is not installed: pip install 'phasewatt[torch]'")
    pytest.importorskip("gguf", reason="gguf is not installed: pip install 'phasewatt[gguf]'")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The model in each type."""
    _needs()
    from agent.gguf.writing import write

    folder = tmp_path_factory.mktemp("gguf")
    for kind in DTYPES:
        write(SHAPE, SOURCE, kind, folder / f"{kind}.gguf")
    return {kind: folder / f"{kind}.gguf" for kind in DTYPES}


@pytest.fixture(autouse=True)
def _preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.PRESETS, SHAPE.name, SHAPE)  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=["f32", "f16"])
def served(request: pytest.FixtureRequest, files: dict[str, Path]) -> Iterator[tuple[str, Client]]:
    """A real server of the model in one type."""
    pytest.importorskip("xllamacpp", reason="xllamacpp is not installed: pip install xllamacpp")
    with llama_server(files[request.param]) as client:
        yield DTYPES[request.param], client


def _torch(dtype: str) -> tuple[Any, Loaded]:
    engine: Any = engines.create("transformers")
    return engine, engine.load(_load(dtype))


def _load(dtype: str, weights: str = SOURCE, shape: Architecture = SHAPE) -> Load:
    return Load(architecture=shape, weights=weights, dtype=dtype, mode="eager", attention="sdpa", accelerator="cpu")


def _served(client: Client, dtype: str) -> tuple[Any, Loaded]:
    engine: Any = engines.create("served")
    engine.describe(Resolve(model=SHAPE.name, weights=SOURCE, accelerator="cpu", endpoint=client.endpoint.url))
    return engine, engine.load(_load(dtype))


def _greedy(engine: Any, ids: array[int], steps: int) -> tuple[list[int], list[float]]:
    """Torch's tokens, and at each the distance from the best logit to the next."""
    engine.plan(Prompt(seed=1, batch=1, tokens=len(ids), threads=None, room=len(ids) + steps))
    engine.set_prompt(ids, 1)
    tokens, margins = [], []
    token = engine.prefill()
    for _ in range(steps):
        best = engine._mode.logits[0, -1].float().topk(2)
        tokens.append(int(token))
        margins.append(float(best.values[0] - best.values[1]))
        token = engine.decode_one(token)
    return tokens, margins


def test_a_served_model_has_the_weights_and_the_tokens_of_torch(served: tuple[str, Client]) -> None:
    """At 32 bits every token is the same; at 16, in which each library rounds at other places, up to a near tie."""
    dtype, client = served
    theirs, loaded = _served(client, dtype)
    mine, reference = _torch(dtype)
    assert loaded.weights_digest == reference.weights_digest is not None
    assert (loaded.weights_source, loaded.drawn_on, loaded.quantization) == (SOURCE, "cpu", None)
    varied = set()
    for seed in (1, 2):
        ids = prompt.token_ids(seed, 1, PROMPT, SHAPE.vocab_size)
        tokens, margins = _greedy(mine, ids, STEPS)
        phases = theirs.phases(lambda count: array("i"), 1, PROMPT)
        found = [int(word[1:]) for word in phases.complete(list(ids), STEPS).text.split()]
        differing = next((at for at in range(STEPS) if tokens[at] != found[at]), None)
        if dtype == "float32":
            assert found == tokens
        else:
            assert differing is None or margins[differing] < 0.02
        varied |= set(tokens)
    assert len(varied) > 8  # or it would prove little


def test_every_phase_runs_on_a_real_server(served: tuple[str, Client]) -> None:
    """With the server's own counts checked at every request, four sequences at once."""
    dtype, client = served
    engine, _ = _served(client, dtype)
    phases = engine.phases(lambda count: prompt.token_ids(1, 4, count, SHAPE.vocab_size), 4, PROMPT)
    asked = {"repetitions": 3, "seconds": 0.0, "limit_s": 60.0}
    prefill = phases.repeat(Repeat(phase=Phase.PREFILL, **asked))
    decode = phases.repeat(Repeat(phase=Phase.DECODE, depth=PROMPT, steps=8, **asked))
    request = phases.repeat(Repeat(phase=Phase.REQUEST, steps=8, **asked))
    assert len(prefill.durations_ns) == 3
    assert len(decode.durations_ns) >= 3
    assert (request.in_flight, request.several_to_a_chunk) == (4, False)
    assert (engine.memory().host_peak_bytes or 0) > 10_000_000


def test_more_sequences_than_slots_are_refused(served: tuple[str, Client]) -> None:
    """They would decode one after another."""
    dtype, client = served
    engine, _ = _served(client, dtype)
    phases = engine.phases(lambda count: prompt.token_ids(1, 9, count, SHAPE.vocab_size), 9, PROMPT)
    with pytest.raises(EngineFailed, match="never decoded all 9 sequences at once; it has 4 slots"):
        phases.repeat(Repeat(phase=Phase.DECODE, depth=PROMPT, steps=2, repetitions=1, seconds=0.0, limit_s=60.0))


def test_a_model_that_is_not_the_suites_is_refused(served: tuple[str, Client]) -> None:
    """Another seed, another dtype, another shape: by what is in the server's own file."""
    dtype, client = served
    engine, _ = _served(client, dtype)
    other = next(each for each in ("float32", "float16") if each != dtype)
    with pytest.raises(EngineFailed, match=r"the server's file holds weights random:7, not random:8"):
        engine.load(_load(dtype, "random:8"))
    with pytest.raises(EngineFailed, match=f"the server's file holds {dtype} weights, dtype {other} was asked for"):
        engine.load(_load(other))
    with pytest.raises(EngineFailed, match="the server's model has"):
        engine.load(_load(dtype, SOURCE, changed(SHAPE, layers=5)))


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16"])
def test_a_file_of_whole_numbers_has_torchs_digest(files: dict[str, Path], kind: str) -> None:
    """Rotary rows are brought back to their order, and norms to their dtype."""
    from agent.gguf.reading import held

    found = held(files[kind], SHAPE)
    assert found.digest == _torch(DTYPES[kind])[1].weights_digest
    assert (found.dtype, found.quantization, found.source) == (DTYPES[kind], None, SOURCE)
    assert found.parameters == roofline.parameter_count(SHAPE)


def test_a_quantized_file_is_described(files: dict[str, Path]) -> None:
    """By its types and the dtype that it was made of; its digest is that of what is stored."""
    from agent.gguf.reading import held

    found = held(files["q8_0"], SHAPE)
    assert (found.dtype, found.quantization, found.source) == ("float16", "gguf Q8_0", SOURCE)
    assert found.digest != held(files["f16"], SHAPE).digest
    assert files["q8_0"].stat().st_size < 0.6 * files["f16"].stat().st_size


@pytest.mark.parametrize("harm", [lambda body: body[:1000], lambda body: b"", lambda body: b"GGUX" + body[4:]])
def test_a_damaged_file_is_one_line(files: dict[str, Path], tmp_path: Path, harm: Any) -> None:
    from agent.gguf.reading import held

    broken = tmp_path / "broken.gguf"
    broken.write_bytes(harm(files["q8_0"].read_bytes()))
    with pytest.raises(EngineFailed, match=r"broken\.gguf cannot be read as a GGUF file"):
        held(broken, SHAPE)


def test_a_file_of_another_shape_is_one_line(files: dict[str, Path]) -> None:
    from agent.gguf.reading import held

    with pytest.raises(EngineFailed, match="is no untied-tiny: block_count is 4, expected 5"):
        held(files["q8_0"], changed(SHAPE, layers=5))
    with pytest.raises(EngineFailed, match="is of family 'llama', untied-tiny is of 'qwen2'"):
        held(files["q8_0"], changed(SHAPE, family="qwen2"))


@pytest.mark.parametrize(
    ("weights", "kind", "said"),
    [
        ("random:x", "f16", "--weights: expected random:SEED, got 'random:x'"),
        ("hub:a/b", "f16", "convert_hf_to_gguf"),
        (SOURCE, "q4_k", "--dtype: no GGUF type 'q4_k' can be written here; known: f32"),
    ],
)
def test_what_cannot_be_written_is_one_line(tmp_path: Path, weights: str, kind: str, said: str) -> None:
    _needs()
    from agent.gguf.writing import write

    with pytest.raises(ConfigInvalid, match=said):
        write(SHAPE, weights, kind, tmp_path / "out.gguf")


def test_the_command_writes_a_file_whole_or_not_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And not over another one."""
    _needs()
    out = tmp_path / "model.gguf"
    asked = ["gguf", SHAPE.name, str(out), "--weights", "random:3", "--dtype", "q8_0"]
    assert app.main(asked) == 0
    assert "untied-tiny random:3" in capsys.readouterr().out
    assert app.main(asked) == 2
    assert "is there already: --force writes over it" in capsys.readouterr().err
    assert app.main([*asked, "--force", "--dtype", "q9"]) == 2
    assert [each.name for each in tmp_path.iterdir()] == ["model.gguf"]


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_every_parameter_of_each_family_has_a_name_and_comes_back(family: str) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'phasewatt[torch]'")
    from transformers import AutoModelForCausalLM

    from agent.engines.transformers import config_of

    shape = changed(SHAPE, family=family, qkv_bias=family == "qwen2", qk_norm=family == "qwen3")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config_of(shape))
    known = [name for name, _ in model.named_parameters()]
    assert [names.parameter_name(names.gguf_name(name) or "") for name in known] == known
    assert names.gguf_name("model.visual.weight") is None
