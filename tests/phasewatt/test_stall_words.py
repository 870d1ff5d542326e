"""The study's words for stalls: every reason under one word, shares of all that was counted, and none of a part."""

from __future__ import annotations

import pytest

from phasewatt.counter_metrics import METRICS, SELECTED, STALLS, WARPS_PER_ISSUE, asked, capability_of
from phasewatt.fields import Phase
from phasewatt.profiles import CounterProfile, OperatorCounters
from phasewatt.stall_words import MEANINGS, NO_SUCH, Word, stall_shares, stalls_of

METRIC = {stall.reason: stall.metric for stall in STALLS}


def profile(values: dict[str, float], capability: str | None = "9.0", missing: dict[str, str] | None = None):
    """One operator with those counters; its profile, and itself."""
    operator = OperatorCounters(operator="norm", kernels=1, time_ns=10, values=values)
    whole = CounterProfile(
        phase=Phase.DECODE,
        tool="ncu",
        tool_version=None,
        compute_capability=capability,
        kv_start=1,
        kv_end=2,
        repetitions=1,
        operators=(operator,),
        missing=missing or {},
    )
    return whole, operator


def every(value: float, capability: tuple[int, int] = (9, 0), **others: float) -> dict[str, float]:
    """All stalls of a GPU at `value`, some at another."""
    return {stall.metric: others.get(stall.reason, value) for stall in stalls_of(capability)}


def test_every_reason_has_one_word_and_a_source():
    assert sorted(meaning.reason for meaning in MEANINGS) == sorted(stall.reason for stall in STALLS)
    assert all(meaning.source.startswith("Nsight Compute") for meaning in MEANINGS)
    assert {meaning.word for meaning in MEANINGS} == set(Word)


def test_a_reason_is_known_from_the_same_gpu_on_in_both_tables():
    since = {stall.reason: stall.since for stall in STALLS}
    assert all(meaning.since == since[meaning.reason] for meaning in MEANINGS)


def test_shares_are_of_all_stalls_and_sum_to_one():
    shares = stall_shares(*profile(every(0.0, long_scoreboard=6.0, wait=1.0, short_scoreboard=2.0, barrier=1.0)))
    assert shares.reason is None
    assert sum(shares.by_word.values()) == pytest.approx(1)
    assert shares.by_word[Word.MEMORY_DEPENDENCY] == pytest.approx(0.6)
    assert shares.by_word[Word.EXECUTION_DEPENDENCY] == pytest.approx(0.3)
    assert shares.by_word[Word.SYNCHRONISATION] == pytest.approx(0.1)
    assert shares.by_word[Word.PIPE_BUSY] == 0


def test_a_warp_that_issues_does_not_wait():
    counted = every(1.0)
    assert stall_shares(*profile({**counted, SELECTED: 50.0})).by_word == stall_shares(*profile(counted)).by_word


def test_with_a_reason_uncounted_there_are_no_shares():
    counted = every(1.0)
    del counted[METRIC["membar"]]
    shares = stall_shares(*profile(counted, missing={METRIC["membar"]: "no value (n/a) in any of 3 kernels"}))
    assert shares.by_word == {}
    assert shares.reason == "1 of 19 stall reasons were not counted: membar"


def test_a_reason_that_the_gpu_does_not_tell_apart_is_not_waited_for():
    counted = every(1.0)
    del counted[METRIC["gmma"]]
    shares = stall_shares(*profile(counted, missing={METRIC["gmma"]: NO_SUCH}))
    assert shares.reason is None
    assert sum(shares.by_word.values()) == pytest.approx(1)


def test_ampere_and_orin_have_no_tensor_stall_of_warp_groups():
    assert stall_shares(*profile(every(1.0, (8, 7)), capability="8.7")).reason is None
    assert "gmma" in {stall.reason for stall in stalls_of((10, 0))} - {stall.reason for stall in stalls_of((8, 7))}


def test_of_an_unknown_gpu_all_reasons_are_expected():
    assert stall_shares(*profile(every(1.0, (8, 0)), capability=None)).by_word == {}


def test_how_much_of_the_waiting_is_explained_is_told():
    counted = every(1.0)
    assert stall_shares(*profile({**counted, WARPS_PER_ISSUE: 21.0})).explained == pytest.approx(19 / 20)
    assert stall_shares(*profile(counted)).explained is None


def test_no_stall_at_all_is_no_share():
    assert stall_shares(*profile(every(0.0))).reason == "no stall was counted"


@pytest.mark.parametrize(
    ("text", "capability"),
    [("9.0", (9, 0)), ("8.7", (8, 7)), ("12.1", (12, 1)), (None, None), ("", None), ("x.y", None)],
)
def test_compute_capability_is_read(text, capability):
    assert capability_of(text) == capability


def test_what_is_asked_for_depends_on_the_gpu():
    assert METRIC["gmma"] in asked((9, 0))
    assert METRIC["gmma"] not in asked((8, 7))
    assert METRIC["gmma"] not in asked(None)
    assert set(asked((9, 0))) == set(METRICS)


def test_every_weight_is_a_counter_that_is_asked_for():
    assert {metric.weight for metric in METRICS.values()} <= set(METRICS)
