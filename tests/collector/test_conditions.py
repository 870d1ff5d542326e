from __future__ import annotations

from collector.conditions import GroupKey, group_of, labels, observed, printable
from collector.stored import StoredTrial
from phasewatt.records import Conditions
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
