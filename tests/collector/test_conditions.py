from __future__ import annotations

from typing import Any

import pytest

from collector.conditions import GroupKey, brief, group_of, labels, observed, printable
from collector.stored import StoredTrial
from phasewatt.conditions import ClockState, Conditions, HostState
from tests.fixtures.trials import conditions, measured, work


def key(device: str, across: bool = False, dtype: str = "bfloat16", digest: str = "bb", **named: object) -> GroupKey:
    return group_of(trial(device, conditions(**named), dtype, digest), across)


def trial(device: str, under: Conditions, dtype: str = "bfloat16", digest: str = "bb") -> StoredTrial:
    return measured(device, done=work(dtype=dtype, digest=digest), under=under).stored


def test_a_label_is_the_device_alone_where_devices_differ() -> None:
    keys = [key("alpha", processor="A"), key("beta", processor="B", versions={"torch": "2.9"}, governor=None)]
    assert list(labels(keys).values()) == ["alpha", "beta"]


def test_what_a_user_chose_is_named_wherever_it_differs() -> None:
    keys = [key("alpha", mode="eager"), key("beta", mode="graph")]
    assert list(labels(keys).values()) == ["alpha, eager", "beta, graph"]


def test_settings_of_one_device_are_worded() -> None:
    keys = [
        key("a", threads=1, tf32=True, power_limit_w=300.0, versions={"torch": "2.9"}),
        key("a", threads=4, tf32=None, power_limit_w=None, versions={"torch": "2.13"}),
    ]
    assert list(labels(keys).values()) == [
        "a, TF32 on, 1 thread, power limit 300 W, torch 2.9",
        "a, TF32 not stated, 4 threads, power limit not stated, torch 2.13",
    ]


def test_switches_of_a_gpu_tell_groups_of_one_device_apart() -> None:
    on, off = key("a", ecc=True, persistence=True, mig=False), key("a", ecc=False, persistence=None, mig=False)
    assert list(labels([on, off]).values()) == [
        "a, ECC on, persistence mode on",
        "a, ECC off, persistence mode not stated",
    ]


def test_a_limit_that_was_not_set_is_not_missing() -> None:
    """None is set by itself: the one that has limits is told apart by them."""
    keys = [key("a", engine="transformers"), key("a", engine="served", ttft_limit_s=2.0, tpot_limit_s=0.2)]
    assert list(labels(keys).values()) == ["a, transformers", "a, served, TTFT limit 2 s, TPOT limit 0.2 s"]
    assert list(labels([keys[1], key("a", engine="served")]).values()) == ["a, TTFT limit 2 s, TPOT limit 0.2 s", "a"]


def test_how_a_model_is_run_tells_groups_of_one_device_apart() -> None:
    """What an older board did not tell is as it then was: split weights, the whole prompt in one pass."""
    keys = [
        key("a", fused_weights=None, experts_by="grouped_mm"),
        key("a", fused_weights=True, prefill_chunk=2048, experts_by="batched_mm"),
    ]
    assert list(labels(keys).values()) == [
        "a, fused weights off, prefill chunk off, experts grouped_mm",
        "a, fused weights on, prefill chunk 2048, experts batched_mm",
    ]
    assert key("a", fused_weights=None) == key("a", fused_weights=False)


def test_a_digest_is_named_only_where_nothing_else_tells_groups_apart() -> None:
    keys = [key("a", across=True, digest="11" * 8), key("a", across=True, digest="22" * 8)]
    assert list(labels(keys).values()) == ["a, weights 11111111", "a, weights 22222222"]
    keys = [key("a", across=True, digest="11" * 8), key("a", across=True, dtype="float32", digest="22" * 8)]
    assert list(labels(keys).values()) == ["a, bfloat16", "a, float32"]


def test_simulated_is_always_in_the_label() -> None:
    keys = [key("alpha", simulated=True), key("beta", simulated=True)]
    assert list(labels(keys).values()) == ["alpha, simulated", "beta, simulated"]


def test_observations_are_ranges_over_trials() -> None:
    seen = observed(
        [
            measured(under=conditions(clock_hz=(1_980_000_000, None), temperature_c=(41.0, 50.2))).stored.trial,
            measured(under=conditions(clock_hz=(2_100_000_000, None), temperature_c=(None, 53.0))).stored.trial,
        ]
    )
    assert seen["clock"] == "1.98 to 2.10 GHz"
    assert seen["temperature"] == "41 to 53 °C"


def test_what_was_not_read_is_not_zero() -> None:
    blind = conditions(clock_hz=(None, None), temperature_c=(None, None), other_cpu_load=None, throttled=None)
    seen = observed([measured(under=blind).stored.trial])
    assert {seen["clock"], seen["temperature"], seen["other CPU load"]} == {"not read"}
    assert seen["throttled"] == "this host does not tell"


def test_throttling_marks_and_unsettled_phases_are_told() -> None:
    under = conditions(throttled=("thermal",), marks=("not alone: 1.3 cores busy",))
    seen = observed([measured(under=under, steady=False).stored.trial])
    assert seen["throttled"] == "thermal"
    assert seen["marks"] == "not alone: 1.3 cores busy"
    assert "decode never settled: drift 12 %" in seen["steady state"]
    calm = observed([measured(under=conditions(throttled=())).stored.trial])
    assert (calm["throttled"], calm["marks"], calm["steady state"]) == ("no", "none", "reached in every phase")


def test_any_start_time_that_a_board_may_send_is_shown() -> None:
    assert observed([measured(seed=10**15).stored.trial])["measured"].endswith(" s UTC")


def test_control_and_direction_characters_are_replaced() -> None:
    assert printable("a\x1b[31mb\u202ec\nd") == "a\ufffd[31mb\ufffdc\ufffdd"


def state(**named: object) -> HostState:
    """An Orin at rest, changed in what is named."""
    gpu = ClockState(name="gpu", now_hz=306_000_000, least_hz=306_000_000, most_hz=1_300_500_000, governor="podgov")
    cpus = [
        ClockState(name=name, now_hz=None, least_hz=729_600_000, most_hz=2_201_600_000) for name in ("cpu0", "cpu4")
    ]
    fields: dict[str, Any] = {
        "clocks": (gpu, *cpus),
        "temperatures_c": {"cpu-thermal": 44.5, "cv0-thermal": None},
        "fans": {"pwmfan": 0.2},
        "throttle_alerts": {"gpu": 0},
        "over_current_events": {"oc1": 0, "oc3": 37},
        "memory_available_bytes": 30_000_000_000,
        "swap_used_bytes": 0,
    }
    return HostState(**(fields | named))


def test_the_state_of_a_board_is_worded() -> None:
    """Ranges and unions over before and after; events are those in between."""
    after = state(
        temperatures_c={"cpu-thermal": 51.2, "tj-thermal": 61.0},
        fans={"pwmfan": 0.45},
        throttle_alerts={"gpu": 1},
        over_current_events={"oc1": 0, "oc3": 40},
        memory_available_bytes=12_345_000_000,
    )
    seen = observed([measured(under=conditions(state=(state(), after))).stored.trial])
    assert seen["gpu clock limits"] == "0.31 to 1.30 GHz, podgov"
    assert seen["cpu clock limits"] == "0.73 to 2.20 GHz"
    assert seen["hottest zone"] == "tj-thermal, 61 °C"
    assert seen["fan"] == "20 to 45 % of full speed"
    assert seen["throttle alerts"] == "gpu"
    assert seen["over-current events"] == "3 of oc3"
    assert seen["memory available"] == "12.3 to 30.0 GB"
    assert seen["swap used"] == "0.0 GB"


def test_nothing_that_happened_is_told_from_nothing_that_was_told() -> None:
    """A board without events says none; a host that has no such counters says nothing of them."""
    calm = observed([measured(under=conditions(state=(state(), state()))).stored.trial])
    assert (calm["over-current events"], calm["throttle alerts"]) == ("none", "none")
    bare = observed([measured(under=conditions(state=(HostState(), HostState()))).stored.trial])
    assert bare.keys() == observed([measured(under=conditions()).stored.trial]).keys()
    assert not {"over-current events", "throttle alerts", "fan", "memory available"} & bare.keys()


def test_power_modes_and_locked_clocks_are_settings() -> None:
    """Two modes of one board are two groups, and so are clocks that could move, and that stood here or there."""
    gpu, slow = (ClockState(name="gpu", now_hz=1, least_hz=hz, most_hz=hz) for hz in (1_300_500_000, 306_000_000))
    cpus = tuple(ClockState(name=name, now_hz=1, least_hz=9e8, most_hz=9e8) for name in ("cpu4", "cpu0"))
    locked = state(clocks=(gpu,))
    keys = [
        key("a", power_mode="MAXN", power_mode_id=0, state=(state(), None)),
        key("a", power_mode="MAXN", power_mode_id=0, state=(locked, None)),
        key("a", power_mode="MAXN", power_mode_id=0, state=(state(clocks=(slow, *cpus)), None)),
        key("a", power_mode=None, power_mode_id=3, state=(state(), None)),
    ]
    assert list(labels(keys).values()) == [
        "a, power mode MAXN (mode 0), no locked clocks",
        "a, power mode MAXN (mode 0), locked clocks gpu at 1.30 GHz",
        "a, power mode MAXN (mode 0), locked clocks cpu0 and cpu4 at 0.90 GHz, gpu at 0.31 GHz",
        "a, power mode 3, no locked clocks",
    ]
    seen = observed([measured(under=conditions(state=(locked, locked))).stored.trial])
    assert seen["gpu clock limits"] == "locked at 1.30 GHz"


def test_versions_of_another_engines_libraries_are_not_missing_from_a_name() -> None:
    """They are told by the engine; between groups of one engine a version that is not stated still tells them apart."""
    torch = conditions(engine="transformers", versions={"torch": "2.13.0"})
    onnx = conditions(engine="onnxruntime", versions={"onnxruntime": "1.32.0"})
    untold = conditions(engine="transformers", versions={})
    keys = [group_of(measured("alpha", under=under).stored, False) for under in (torch, onnx, untold)]
    assert set(labels(keys[:2]).values()) == {
        "alpha, transformers, torch 2.13.0",
        "alpha, onnxruntime, onnxruntime 1.32.0",
    }
    assert labels([keys[0], keys[2]])[keys[2]] == "alpha, torch version not stated"
    assert len(set(labels(keys).values())) == 3


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("no power sensor (short)", "no power sensor (short)"),
        ("no power sensor (nvml: it does not start (no library), rapl: " + "x" * 60 + ")", "no power sensor"),
        ("no sensor (nvml: " + "x" * 60 + "); decode: averaged (over a second)", None),
        ("x" * 100, "x" * 100),
        ("x" * 100 + " unpaired)", "x" * 100 + " unpaired)"),
    ],
)
def test_a_long_reason_is_told_without_the_details_that_it_ends_with(reason, told):
    """Only these: a second reason stays."""
    assert brief(reason) == (reason.removesuffix(" (over a second)") if told is None else told)
