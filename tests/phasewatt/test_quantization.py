"""What a pass reads of quantized weights, and how the work is told from the whole one."""

from __future__ import annotations

import msgspec
import pytest

from phasewatt import identity, quantization, roofline
from phasewatt.errors import ConfigInvalid
from phasewatt.fields import Phase
from phasewatt.metrics import METRICS
from tests.fixtures.records import phase_run, trial, work

EIGHT = quantization.SCHEMES["int8"].words


@pytest.mark.parametrize(
    ("name", "dtype", "width"), [("none", "bfloat16", 2.0), ("int8", "float32", 1.0), ("int4", "bfloat16", 0.625)]
)
def test_what_a_pass_reads_of_a_weight(name, dtype, width):
    scheme = quantization.scheme(name)
    assert roofline.weight_element_bytes(dtype, scheme and scheme.words) == width
    assert roofline.weight_element_bytes(dtype, "Q5_K_M") is None


@pytest.mark.parametrize("name", ["Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_gguf_files_blocks_are_as_large_as_its_library_says(name, dtype):
    gguf = pytest.importorskip("gguf", reason="gguf is not installed: pip install gguf")
    weights, size_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    assert roofline.weight_element_bytes(dtype, f"gguf {name}") == size_bytes / weights
    assert roofline.weight_element_bytes(dtype, f"gguf {name}+Q6_K") is None


def test_only_the_weights_become_fewer_bytes():
    """The cache stays in the trial's dtype."""
    task = work().task
    whole, eight = (roofline.phase_bytes(task, "float32", Phase.DECODE, 4, 8, width) for width in (4.0, 1.0))
    nothing = roofline.phase_bytes(task, "float32", Phase.DECODE, 4, 8, 1e-12)
    assert whole - nothing == 4 * (eight - nothing)
    assert roofline.phase_bytes(task, "float32", Phase.DECODE, 4, 8) == whole


def test_a_scheme_that_is_not_known_is_one_line():
    with pytest.raises(ConfigInvalid, match="quantization: expected one of none, int8, int4, got 'int3'"):
        quantization.scheme("int3")


def test_words_fit_a_label_and_name_one_scheme():
    for scheme in quantization.SCHEMES.values():
        assert len(scheme.words) < 256
        assert quantization.by_words(scheme.words) is scheme


def test_bytes_a_token_stand_beside_the_others():
    """Fewer for the quantized work, another one of the same task; none where the scheme is not known here."""
    run = phase_run(Phase.DECODE, [1.0, 1.0], tokens=4, kv_start=4, kv_end=8)
    works = [msgspec.structs.replace(work(), quantization=words) for words in (None, EIGHT, "Q5_K_M")]
    plain, eight, foreign = (METRICS["decode_token_bytes"].of(trial(work=each, runs=(run,))) for each in works)
    assert len({identity.work_id(each) for each in works}) == 3
    assert len({identity.task_id(each.task) for each in works}) == 1
    assert 0 < eight.values[0] < plain.values[0]
    assert foreign.values == ()
    assert foreign.reason == "the bytes of weights in 'Q5_K_M' are not known here"


def test_a_trial_of_an_unknown_dtype_or_without_tokens_has_a_reason():
    """Records of any board are read."""
    run = phase_run(Phase.DECODE, [1.0], tokens=0, kv_start=4, kv_end=8)
    odd = msgspec.structs.replace(work(), dtype="float6")
    asked = (trial(work=odd, runs=(run,)), trial(work=work(), runs=(run,)), trial(work=work(), runs=()))
    reasons = [METRICS["decode_token_bytes"].of(each).reason for each in asked]
    assert reasons == [
        "the bytes of weights in 'float6' are not known here",
        "no token was decoded",
        "decode was not run",
    ]
