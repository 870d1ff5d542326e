"""The doctor: each finding both ways, on trees of the kernel's files and stand-ins for what answers."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import app
from agent.checks import Finding, Subject, board, delivery, power, software
from agent.checks import host as host_checks
from agent.connection import BrokerSettings, Tls
from agent.control import LOCK, StateLock
from agent.doctor import examine
from agent.gpus import Gpus
from agent.host import Host
from agent.jetson.identity import Identity
from agent.models import preset
from agent.orders import Described
from agent.surveying import Surveyed
from phasewatt import topics
from phasewatt.errors import EngineFailed
from phasewatt.fields import Reading, Scope
from phasewatt.traces import Channel
from tests.fixtures.nvml import FakeNvml
from tests.fixtures.stand_ins import accept_older

AGX_ORIN = {
    "proc/device-tree/compatible": "nvidia,p3737-0000+p3701-0005\0nvidia,p3701-0005\0nvidia,tegra234\0",
    "proc/device-tree/model": "NVIDIA Jetson AGX Orin\0",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic",
}
MODES = "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=MODE_15W >\n< POWER_MODEL ID=2 NAME=MODE_30W >\n"
JETPACK_6 = Identity("Jetson AGX Orin 64GB", None, "36.4.3", "6.2")
GIB_IN_KB = 2**20


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def refuse() -> Described:
    raise EngineFailed("engine transformers needs torch: pip install 'phasewatt[torch]'")


def described(accelerator: str = "cpu", **versions: str) -> Described:
    return Described(
        architecture=preset("stories15m"),
        accelerator=accelerator,
        processor="Orin" if accelerator == "cuda" else None,
        gpu_uuid=None,
        memory_free_bytes=None,
        versions={"torch": "2.9.0", **versions},
        simulated=False,
    )


def meter(name: str, reason: str | None = None) -> Surveyed:
    channel = Channel(name="VDD_IN", source=name, reading=Reading.INSTANT, unit="W", scope=Scope.MODULE)
    channels = () if reason else (channel,)
    return Surveyed(name, channels, (5.0,) * len(channels), (), None, None, (), (), False, reason)


def subject(root: Path, *found: Surveyed, **changes: object) -> Subject:
    whole = Subject(
        host=Host("board", root, Gpus(FakeNvml({"nvmlDeviceGetCount": 0}))),
        root=root,
        found=found,
        named=False,
        state=root / "state",
        broker=None,
        device="board",
        describe=described,
    )
    return whole._replace(**changes)


def only(findings: Iterator[Finding]) -> Finding:
    (finding,) = findings
    return finding


def test_a_question_that_meets_what_nobody_thought_of_does_not_end_the_others(tmp_path):
    def breaks(_subject: Subject) -> Iterator[Finding]:
        yield Finding("first", True, "half an answer")
        raise ZeroDivisionError("a bug")

    def answers(_subject: Subject) -> Iterator[Finding]:
        yield Finding("second", True, "whole")

    found = list(examine(subject(tmp_path), {"first": breaks, "second": answers}))
    assert [(f.question, f.ok) for f in found] == [("first", True), ("first", None), ("second", True)]
    assert found[1].verdict == "could not be told: ZeroDivisionError: a bug"


def test_an_empty_tree_leaves_every_question_answered(tmp_path):
    found = list(examine(subject(tmp_path)))
    assert not [finding for finding in found if "could not be told" in finding.verdict]
    assert {"host", "python", "engine", "power", "memory", "disk", "state", "clock", "alone", "broker"} <= {
        finding.question for finding in found
    }


def test_a_simulated_board_is_said_to_be_one_and_what_is_of_this_host(tmp_path):
    verdict = only(host_checks.identity(subject(tree(tmp_path, AGX_ORIN)))).verdict
    assert verdict.startswith(f"NVIDIA Jetson AGX Orin, Jetson AGX Orin 64GB: a simulated board in {tmp_path};")
    assert "engine" in verdict


@pytest.mark.parametrize(
    ("version", "l4t", "ok"),
    [
        ((3, 10, 2), None, True),
        ((3, 13, 0), "36.4.3", True),
        ((3, 14, 0), None, None),
        ((3, 10, 2), "35.4.1", None),
        ((3, 10, 2), "32.7.1", None),
    ],
)
def test_python_must_be_tested_and_the_platforms(version, l4t, ok):
    jetson = None if l4t is None else Identity(None, None, l4t, None)
    assert software.python_finding(version, jetson).ok is ok


@pytest.mark.parametrize(("release", "ok"), [("4.7", None), ("4.3", True), ("5.0", True)])
def test_the_release_that_breaks_large_allocations_is_named(tmp_path, release, ok):
    files = AGX_ORIN | {"etc/nv_tegra_release": f"# R36 (release), REVISION: {release}, GCID: 1"}
    finding = only(software.platform(subject(tree(tmp_path, files))))
    assert finding.ok is ok
    assert (finding.remedy == "update to L4T R36.5") is (ok is None)


def test_the_platform_is_asked_of_jetsons_alone(tmp_path):
    assert list(software.platform(subject(tmp_path))) == []


def test_without_an_engine_this_host_cannot_measure(tmp_path):
    finding = only(software.engine(subject(tmp_path, describe=refuse)))
    assert (finding.ok, finding.remedy) == (False, "pip install 'phasewatt[torch]'")


def test_a_torch_that_uses_the_gpu_is_right():
    assert software.engine_finding(described("cuda", cuda="12.6"), JETPACK_6, True).ok is True


def test_a_torch_on_a_host_without_a_gpu_is_right():
    assert software.engine_finding(described(), None, False).ok is True


def test_a_cuda_13_wheel_on_jetpack_6_is_named_with_the_index_to_take():
    finding = software.engine_finding(described(cuda="13.0"), JETPACK_6, True)
    assert finding.ok is None
    assert "built for CUDA 13.0, and JetPack 6.2 (L4T 36.4.3) has CUDA 12" in finding.verdict
    assert "jp6/cu126" in str(finding.remedy)


def test_a_torch_for_cpus_on_a_jetson_is_named_with_the_index_to_take():
    thor = Identity("Jetson T5000 (Thor)", None, "38.2.0", "7.0")
    finding = software.engine_finding(described(), thor, True)
    assert finding.ok is None
    assert "built for CPUs alone" in finding.verdict
    assert "sbsa/cu130" in str(finding.remedy)


def test_the_right_build_that_sees_no_gpu_points_to_permissions():
    finding = software.engine_finding(described(cuda="12.6"), JETPACK_6, True)
    assert finding.ok is None
    assert "usermod -aG video,render" in str(finding.remedy)


@pytest.mark.parametrize(("file", "there"), [("dev/nvhost-gpu", True), ("dev/null", False)])
def test_a_gpu_is_seen_by_its_device_file(tmp_path, file, there):
    assert software.has_gpu(tree(tmp_path, {file: ""})) is there


def verdicts(findings: Iterator[Finding]) -> dict[str, tuple[bool | None, str]]:
    return {finding.question: (finding.ok, finding.verdict) for finding in findings}


def test_of_meters_of_one_board_the_first_that_answers_is_chosen_and_the_others_say_why_not(tmp_path):
    on_orin = subject(tree(tmp_path, AGX_ORIN), meter("nvml", "Not Supported"), meter("ina3221"), meter("tegrastats"))
    found = verdicts(power.meters(on_orin))
    assert found["power: ina3221"] == (True, "chosen, the first that answers; reads VDD_IN (instant, module)")
    assert found["power: tegrastats"][1].startswith("answers, and is not read, since ina3221 reads the same rails")
    assert found["power: nvml"] == (True, "not needed, ina3221 reads this board: Not Supported")
    assert "a user must name it: jetson-stats is" in found["power: jtop"][1]


def test_where_the_first_does_not_answer_the_next_is_chosen(tmp_path):
    on_orin = subject(tree(tmp_path, AGX_ORIN), meter("ina3221", "permission refused"), meter("tegrastats"))
    found = verdicts(power.meters(on_orin))
    assert found["power: tegrastats"][1].startswith("chosen")
    assert "permission refused" in found["power: ina3221"][1]


def test_a_total_that_lacks_a_part_is_no_energy_and_has_a_remedy(tmp_path):
    """A meter that answers in part is not one that can measure."""
    rails = tuple(
        Channel(name=name, source="ina3221", reading=Reading.INSTANT, unit="W", scope=Scope.MODULE)
        for name in ("VDD_GPU_SOC", "VDD_CPU_CV")
    )
    half = meter("ina3221")._replace(channels=rails, values=(5.0, None))
    (found,) = (f for f in power.meters(subject(tree(tmp_path, AGX_ORIN), half)) if f.question == "power: ina3221")
    assert found.ok is None
    assert "without VDD_CPU_CV it has no total" in found.verdict
    assert "udev rule" in (found.remedy or "")


def test_a_meter_that_the_living_agent_may_hold_is_not_called_broken(tmp_path):
    """A second tegrastats may refuse; to stop the first would blind the daemon."""
    on_orin = subject(tree(tmp_path, AGX_ORIN), meter("tegrastats", "another one runs"))
    assert "agent of this state directory" not in verdicts(power.meters(on_orin))["power: tegrastats"][1]
    lock = StateLock(on_orin.state)
    held = verdicts(power.meters(on_orin))["power: tegrastats"]
    lock.close()
    assert held[0] is None
    assert f"(process {os.getpid()})" in held[1]


def test_a_jetson_without_a_meter_that_answers_has_no_energy(tmp_path):
    on_orin = subject(tree(tmp_path, AGX_ORIN), meter("ina3221", "no hwmon"), meter("tegrastats", "not found"))
    found = verdicts(power.meters(on_orin))
    assert [found[f"power: {name}"][0] for name in ("ina3221", "tegrastats")] == [None, None]
    assert found["power"][0] is None


def test_meters_of_jetsons_are_no_matter_elsewhere(tmp_path):
    elsewhere = subject(tmp_path, meter("nvml"), meter("ina3221", "no hwmon"), meter("tegrastats", "not found"))
    found = verdicts(power.meters(elsewhere))
    assert found.keys() == {"power: nvml", "power: ina3221, tegrastats"}
    assert found["power: ina3221, tegrastats"][0] is True


def test_a_meter_that_was_named_must_answer(tmp_path):
    found = verdicts(power.meters(subject(tmp_path, meter("ina3221", "no hwmon"), named=True)))
    assert found["power: ina3221"] == (False, "no hwmon")


@pytest.mark.parametrize(("params", "user", "count"), [("1", 1000, 1), ("0", 1000, 0), ("1", 0, 0)])
def test_counters_for_root_alone_are_named_to_others(tmp_path, params, user, count):
    root = tree(tmp_path, {"proc/driver/nvidia/params": f"ResmanDebugLevel: 1\nRmProfilingAdminOnly: {params}\n"})
    assert len(list(power.permission_findings(subject(root), lambda: user))) == count


def test_a_memory_clock_that_only_root_may_read_is_named(tmp_path):
    on_orin = subject(tree(tmp_path, AGX_ORIN))
    assert only(power.permission_findings(on_orin, lambda: 1000)).question == "permission: memory clock"
    assert list(power.permission_findings(on_orin, lambda: 0)) == []


@pytest.mark.parametrize(
    ("number", "ok", "words"), [("0000", True, "MAXN (id 0)"), ("0002", None, "not the module's highest, MAXN (id 0)")]
)
def test_a_mode_that_is_not_the_highest_is_a_note(tmp_path, number, ok, words):
    files = AGX_ORIN | {"var/lib/nvpmodel/status": f"pmode:{number} fmode:fanNull", "etc/nvpmodel.conf": MODES}
    finding = only(board.power_mode(subject(tree(tmp_path, files))))
    assert finding.ok is ok
    assert words in finding.verdict
    assert ("nvpmodel -m 0" in str(finding.remedy)) is (ok is None)


def test_without_maxn_the_highest_mode_is_that_of_the_most_watts(tmp_path):
    conf = "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=7W >\n"
    files = AGX_ORIN | {"var/lib/nvpmodel/status": "pmode:0000", "etc/nvpmodel.conf": conf}
    assert only(board.power_mode(subject(tree(tmp_path, files)))).ok is True


def test_a_mode_that_is_not_told_is_a_note(tmp_path):
    finding = only(board.power_mode(subject(tree(tmp_path, AGX_ORIN))))
    assert finding.ok is None
    assert "nvpmodel -q" in str(finding.remedy)


@pytest.mark.parametrize(("least", "words"), [("1300500000", "locked: gpu"), ("306000000", "free to move: gpu")])
def test_clocks_are_locked_or_free(tmp_path, least, words):
    gpu = "sys/class/devfreq/17000000.gpu"
    clock = {f"{gpu}/cur_freq": "1300500000", f"{gpu}/min_freq": least, f"{gpu}/max_freq": "1300500000"}
    assert words in only(board.clocks(subject(tree(tmp_path, AGX_ORIN | clock)))).verdict


@pytest.mark.parametrize(("level", "ok"), [("0", True), ("2", None)])
def test_throttle_alerts_are_told(tmp_path, level, ok):
    device = "sys/class/thermal/cooling_device3"
    root = tree(tmp_path, {f"{device}/type": "gpu-throttle-alert", f"{device}/cur_state": level})
    finding = only(board.throttling(subject(root)))
    assert finding.ok is ok
    assert ("held back now: gpu" in finding.verdict) is (ok is None)


@pytest.mark.parametrize(("events", "ok"), [("0", True), ("7", None)])
def test_over_current_events_since_boot_are_told(tmp_path, events, ok):
    root = tree(tmp_path, {"sys/class/hwmon/hwmon2/oc3_event_cnt": events})
    finding = only(board.throttling(subject(root)))
    assert finding.ok is ok
    assert ("oc3 7 times" in finding.verdict) is (ok is None)


def zone(now: str, **points: tuple[str, str]) -> dict[str, str]:
    files = {"type": "gpu-thermal", "temp": now}
    for number, (kind, limit) in points.items():
        files |= {f"trip_point_{number[1:]}_type": kind, f"trip_point_{number[1:]}_temp": limit}
    return {f"sys/class/thermal/thermal_zone1/{name}": text for name, text in files.items()}


@pytest.mark.parametrize(("now", "ok", "words"), [("51000", True, "48 degC"), ("96000", None, "3 degC")])
def test_heat_is_told_as_the_way_to_the_lowest_limit_that_holds_back(tmp_path, now, ok, words):
    """A trip point that turns a fan on is no limit."""
    files = zone(now, p0=("active", "50000"), p1=("passive", "99000"), p2=("critical", "105000"))
    finding = only(board.heat(subject(tree(tmp_path, files))))
    assert finding.ok is ok
    assert finding.verdict.startswith(words)


def test_zones_without_limits_say_nothing(tmp_path):
    assert list(board.heat(subject(tree(tmp_path, zone("51000"))))) == []


def meminfo(available_gib: float, swapped_gib: float = 0.0) -> dict[str, str]:
    lines = {"MemTotal": 32, "MemAvailable": available_gib, "SwapTotal": 16, "SwapFree": 16 - swapped_gib}
    return {"proc/meminfo": "".join(f"{name}: {round(gib * GIB_IN_KB)} kB\n" for name, gib in lines.items())}


def test_memory_that_is_nearly_full_and_swap_in_use_are_told(tmp_path):
    roomy = subject(tree(tmp_path / "roomy", meminfo(30)))
    assert [(f.question, f.ok) for f in host_checks.memory(roomy)] == [("memory", True)]
    full = subject(tree(tmp_path / "full", meminfo(2, 4)))
    assert [(f.question, f.ok) for f in host_checks.memory(full)] == [("memory", None), ("swap", None)]


@pytest.mark.parametrize(
    ("cores", "processes", "ok"), [(0.1, None, True), (0.1, 0, True), (2.0, 0, None), (0.1, 1, None)]
)
def test_other_work_is_told(cores, processes, ok):
    assert host_checks.alone_finding(cores, processes).ok is ok


@pytest.mark.parametrize(("synchronised", "ok"), [(True, True), (False, None), (None, None)])
def test_a_clock_that_is_not_synchronised_is_a_note(synchronised, ok):
    assert host_checks.clock_finding(synchronised).ok is ok


@pytest.mark.parametrize(("free_bytes", "ok"), [(50 * 10**9, True), (10**9, None)])
def test_a_disk_that_is_nearly_full_is_a_note(free_bytes, ok):
    assert host_checks.disk_finding(free_bytes, Path("state")).ok is ok


def test_a_living_agent_is_told_without_taking_its_lock(tmp_path):
    state = tmp_path / "state"
    assert "no agent works there" in only(host_checks.state(subject(tmp_path))).verdict
    lock = StateLock(state)
    assert host_checks.holder_of(state / LOCK, Path("/proc/locks")) == os.getpid()
    assert f"(process {os.getpid()})" in only(host_checks.state(subject(tmp_path))).verdict
    lock.close()
    assert host_checks.holder_of(state / LOCK, Path("/proc/locks")) is None


def test_a_state_directory_that_cannot_be_made_keeps_this_host_from_measuring(tmp_path):
    (tmp_path / "file").write_text("")
    finding = only(host_checks.state(subject(tmp_path, state=tmp_path / "file/state")))
    assert finding.ok is False


def test_no_broker_is_a_note(tmp_path):
    assert only(delivery.broker(subject(tmp_path))).remedy == "--broker HOST:PORT, or export"


def test_a_broker_that_is_not_there_is_told_with_the_remedy(tmp_path):
    finding = only(delivery.broker(subject(tmp_path, broker=BrokerSettings(host="127.0.0.1", port=1))))
    assert finding.ok is None
    assert finding.verdict == "broker 127.0.0.1:1: refused: records wait in the outbox"
    assert finding.remedy == "is the broker running, and is this its port?"


def test_something_else_on_that_port_is_told_in_time():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        where = BrokerSettings(host="127.0.0.1", port=mute.getsockname()[1])
        assert "does not answer; is it an MQTT broker?" in str(delivery.refusal_of(where, None, patience_s=0.3))


def accept_and_say_no_more(server: socket.socket) -> None:
    """A broker that lets a board in and answers nothing that it asks then."""
    with accept_older(server) as peer:
        peer.sendall(b"\x20\x02\x00\x00")  # CONNACK: accepted
        while peer.recv(4096):
            pass


def test_a_broker_that_does_not_say_whether_receipts_may_be_read_is_not_right():
    with socket.create_server(("127.0.0.1", 0)) as server:
        broker = threading.Thread(target=accept_and_say_no_more, args=(server,))
        broker.start()
        where = BrokerSettings(host="127.0.0.1", port=server.getsockname()[1])
        assert "no word on whether" in str(delivery.refusal_of(where, "board", patience_s=0.3))
        broker.join(5)


@pytest.mark.broker
def test_a_broker_that_lets_this_board_in_is_told(mosquitto, tmp_path):
    where = BrokerSettings(host=mosquitto.host, port=mosquitto.port)
    assert only(delivery.broker(subject(tmp_path, broker=where))).ok is True


@pytest.mark.broker
def test_the_connection_of_a_living_agent_goes_on(mosquitto):
    """Another client id, and no word on the board's status."""
    from agent.connection import Bell, Connection, Message

    where = BrokerSettings(host=mosquitto.host, port=mosquitto.port)
    living, bell = Connection(where, "board", Message(topics.status("board"), b"gone", retain=True)), Bell()
    living.open()
    while not living.accepted:
        living.turn(1.0, bell)
    living.subscribe(topics.status("board"))
    assert delivery.refusal_of(where, "board") is None
    for _ in range(5):
        living.turn(0.1, bell)
    assert living.ended is None
    assert not living.received
    living.close()
    bell.close()


@pytest.mark.broker
def test_a_broker_that_does_not_know_the_board_is_told_with_the_remedy(mosquitto, tmp_path):
    mosquitto.stop()
    mosquitto.configure("allow_anonymous false")
    mosquitto.start()
    finding = only(delivery.broker(subject(tmp_path, broker=BrokerSettings(host=mosquitto.host, port=mosquitto.port))))
    assert finding.ok is None
    assert finding.remedy == "check user name, password and access list"


@pytest.mark.broker
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho leaves the socket to Python
def test_a_certificate_of_nobody_known_is_told(mosquitto_tls):
    where = BrokerSettings(host=mosquitto_tls.host, port=mosquitto_tls.port, tls=Tls())
    assert "its certificate is not trusted" in str(delivery.refusal_of(where, "board"))


def test_sensor_cards_are_asked_of_meters_that_answer(tmp_path):
    found = list(power.cards(subject(tmp_path, meter("ina3221"), meter("nvml", "Not Supported"))))
    assert [finding.question for finding in found] == ["sensor cards: ina3221"]


def test_the_command_says_by_its_exit_code_whether_this_host_can_measure(tmp_path, capsys):
    """A meter that is named and does not answer; the engine of this environment is not the matter."""
    arguments = ["doctor", "--state-dir", str(tmp_path), "--meter", f"replay:{tmp_path / 'absent'}"]
    assert app.main([*arguments, "--json"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert (content["schema"], content["can_measure"]) == ("doctor/0", False)
    assert {"question", "ok", "verdict", "remedy"} == set(content["findings"][0])


def test_long_findings_are_wrapped_and_the_remedy_stands_by_itself():
    from agent.commands.doctor import _shown

    finding = Finding("power: rapl", None, "word " * 40, "do this " * 20)
    lines = _shown(finding, 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("--  power: rapl: word")
    assert [line[:7] for line in lines if "->" in line] == ["    -> "]


def test_builds_of_onnxruntime_in_one_folder_are_named():
    both = {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.0"}
    finding = only(software.onnxruntime_findings(both))
    assert (finding.ok, "onnxruntime 1.32.0 and onnxruntime-gpu 1.31.0" in finding.verdict) == (None, True)
    assert finding.remedy.startswith("pip uninstall -y onnxruntime onnxruntime-gpu")
    assert only(software.onnxruntime_findings({"onnxruntime-gpu": "1.31.0"})).ok is True
    assert list(software.onnxruntime_findings({})) == []
