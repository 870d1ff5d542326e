from __future__ import annotations

import msgspec
import pytest

from collector.pairing import Across, Refused, pair
from collector.stored import StoredTrial
from phasewatt.fields import Outcome
from phasewatt.profiles import Ceiling
from phasewatt.work import Work
from tests.fixtures.trials import SHAPE, conditions, failed, measured, stored, work


def one_thread(device: str = "alpha", done: Work | None = None) -> StoredTrial:
    return measured(device, done=done, under=conditions(threads=1)).stored


def reason_of(refused: tuple[Refused, ...], device: str) -> str:
    (entry,) = [entry for entry in refused if entry.device == device]
    return entry.reason


def test_same_work_on_two_devices_is_paired() -> None:
    pairing = pair([measured("alpha").stored, measured("beta").stored])
    assert [group.label for group in pairing.groups] == ["alpha", "beta"]
    assert len(pairing.works) == 1
    assert pairing.refused == ()


def test_same_work_under_two_settings_is_paired_and_labelled_by_what_differs() -> None:
    pairing = pair([measured().stored, one_thread()])
    assert [group.label for group in pairing.groups] == ["alpha, 1 thread", "alpha, 2 threads"]


def test_trials_of_the_same_work_and_group_are_merged() -> None:
    pairing = pair([measured(seed=1).stored, measured(seed=2).stored, one_thread()])
    assert sorted(len(trials) for trials in pairing.works[0].members.values()) == [1, 2]


def test_what_measured_ceilings_is_passed_over() -> None:
    """It did no work, and comes with every campaign: no reason is given for each of them."""
    ceiling = Ceiling(work="copy", unit="byte/s", shape=(9,), dtype="float32", values=(1.0,))
    made = measured("alpha").stored
    beside = made._replace(
        record_id="ceilings", trial=msgspec.structs.replace(made.trial, work=None, runs=(), ceilings=(ceiling,))
    )
    assert pair([made, beside, measured("beta").stored]) == pair([made, measured("beta").stored])


def test_a_record_that_came_twice_counts_once() -> None:
    trial = measured("alpha").stored
    pairing = pair([trial, trial._replace(origin="reference"), measured("beta").stored])
    assert [len(trials) for trials in pairing.works[0].members.values()] == [1, 1]
    assert not any(group.key.reference for group in pairing.groups)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (work(batch=4), "batch (1 against 4)"),
        (work(prompt_tokens=512), "prompt length (128 against 512)"),
        (work(prompt_digest="cc" * 32), "prompt (other token ids)"),
        (work(output_tokens=64), "output length (32 against 64)"),
        (work(weights="random:1", digest="cc" * 32), "weights (random:0 against random:1)"),
        (work(digest="cc" * 32), "weights (digest bbbbbbbbbbbb against digest cccccccccccc)"),
        (work(digest=None), "weights (digest bbbbbbbbbbbb against no digest, drawn on cpu)"),
        (work(dtype="float32", digest="cc" * 32), "dtype (bfloat16 against float32); --across dtype compares them"),
        (work(quantization="int8"), "quantization (none against int8); --across dtype compares them"),
        (work(shape=msgspec.structs.replace(SHAPE, name="llama-small", layers=8)), "llama-tiny against llama-small"),
        (work(shape=msgspec.structs.replace(SHAPE, layers=8)), "architecture (layers 4 against 8)"),
    ],
)
def test_unlike_work_is_refused_with_the_part_that_differs(other: Work, told: str) -> None:
    pairing = pair([measured("alpha").stored, measured("beta", done=other).stored])
    assert pairing.works == ()
    assert told in reason_of(pairing.refused, "alpha")


def test_the_reason_names_the_nearest_work_of_another_group() -> None:
    far = measured("beta", done=work(batch=4, prompt_tokens=512), cell="far").stored
    near = measured("beta", done=work(batch=4), cell="near").stored
    assert "the nearest (beta, phases/near)" in reason_of(pair([measured("alpha").stored, far, near]).refused, "alpha")


def test_a_shape_is_known_by_its_numbers_not_by_its_name() -> None:
    renamed = work(shape=msgspec.structs.replace(SHAPE, name="another-name"))
    assert len(pair([measured("alpha").stored, measured("beta", done=renamed).stored]).works) == 1


def test_work_that_nobody_else_did_is_refused() -> None:
    assert pair([measured("alpha").stored]).refused[0].reason == "only one group has this work, and there is no other"


def test_a_group_with_two_dtypes_is_told_how_to_compare_them() -> None:
    """Without --across both are one group, for the dtype is part of the work."""
    refused = pair([measured().stored, measured(done=work(dtype="float32")).stored]).refused
    assert all(entry.reason.endswith("--across dtype compares them") for entry in refused)


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.SKIPPED])
def test_a_trial_without_result_is_refused_with_its_reason(outcome: Outcome) -> None:
    refused = pair([failed(outcome=outcome, reason="needs 16 GB, 8 GB free")]).refused
    assert refused[0].reason == f"{outcome.value}: needs 16 GB, 8 GB free"


def test_a_trial_that_does_not_say_its_work_is_refused() -> None:
    trial = msgspec.structs.replace(measured("alpha").stored.trial, work=None)
    assert "does not say what work" in pair([stored(trial)]).refused[0].reason


def test_trials_refused_for_the_same_reason_are_one_entry() -> None:
    refused = pair([failed(), measured("alpha", seed=1).stored, measured("alpha", seed=2).stored]).refused
    assert sorted(len(entry.record_ids) for entry in refused) == [1, 2]


def test_across_dtype_pairs_by_task_and_tells_the_groups_apart_by_dtype() -> None:
    trials = [measured().stored, measured(done=work(dtype="float32", digest="cc" * 32)).stored]
    assert pair(trials).works == ()
    pairing = pair(trials, Across.DTYPE)
    assert [group.label for group in pairing.groups] == ["alpha, bfloat16", "alpha, float32"]


def test_across_still_refuses_another_task() -> None:
    pairing = pair([measured("alpha").stored, measured("beta", done=work(batch=4)).stored], Across.WEIGHTS)
    assert pairing.works == ()
    assert reason_of(pairing.refused, "beta").endswith("differs in batch (4 against 1)")


def test_a_reference_takes_part_only_where_a_stored_trial_did_the_same_work() -> None:
    mine, same = measured("alpha").stored, measured("dgx", origin="reference").stored
    others = [measured(name, done=work(batch=8), origin="reference").stored for name in ("dgx", "orin")]
    pairing = pair([mine, same, *others])
    assert [group.label for group in pairing.groups] == ["alpha", "dgx (reference)"]
    assert pairing.refused == ()


def test_groups_stand_in_the_same_order_whatever_the_order_of_the_trials() -> None:
    trials = [
        measured("beta", under=conditions(threads=10)).stored,
        measured("beta", under=conditions(threads=2)).stored,
        measured("alpha", under=conditions(simulated=True)).stored,
        measured("aardvark", origin="reference").stored,
    ]
    labels = ["beta, 2 threads", "beta, 10 threads", "alpha, simulated", "aardvark (reference)"]
    assert [group.label for group in pair(trials).groups] == labels
    assert [group.label for group in pair(trials[::-1]).groups] == labels
