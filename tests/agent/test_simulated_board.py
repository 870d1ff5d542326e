"""A simulated board: its files, programs and faults, and that what they show follows from the power that it plays."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agent import app
from agent.meters.ina3221 import Ina3221
from agent.simulated import layout
from agent.simulated.board import MARKER, SimulatedBoard, true_power
from agent.simulated.boards import BOARDS
from agent.simulated.sensor import Sensors
from agent.simulated.waveforms import parse
from phasewatt import rails
from phasewatt.errors import ConfigInvalid
from phasewatt.fields import Scope

START_NS = 5_000_000_000


def board(root: Path, name: str = "agx-orin", power: str = "constant:30", **more: object) -> SimulatedBoard:
    return SimulatedBoard(root / name, name, power, started_ns=START_NS, **more)


def at(second: float) -> int:
    return START_NS + round(second * 1e9)


def number(path: Path) -> int:
    return int(path.read_text())


def powers_w(meter: Ina3221) -> dict[str, float | None]:
    """What the rails show now."""
    values = zip(meter.channels, meter.read(), strict=True)
    return {channel.name: value for channel, value in values if channel.scope is not None}


def temperature_c(zone: Path) -> float | None:
    try:
        return number(zone / "temp") / 1000
    except OSError:
        return None


@pytest.mark.parametrize("name", list(BOARDS))
def test_rails_of_the_total_add_up_to_the_power_that_is_played(tmp_path, name):
    """Within one step of each rail, and 2 % for its noise."""
    played = board(tmp_path, name, "constant:14")
    labels = [rail.label for rail in BOARDS[name].rails]
    shown = Sensors(BOARDS[name], parse("constant:14"), seed=1).shown(20)
    total = rails.totals(labels)[Scope.MODULE]
    total_w = rails.total_w(dict(zip(labels, [value.power_w for value in shown], strict=True)), total)
    steps_w = sum(rail.step_w for rail in BOARDS[name].rails if rail.label in total.rails)
    assert total_w == pytest.approx(14, abs=steps_w + 0.02 * 14)
    assert played.energy_j(at(1), at(3)) == pytest.approx(28)


@pytest.mark.parametrize("name", list(BOARDS))
def test_rules_of_the_total_and_shares_of_the_board_agree(name):
    """What counts here is what the library sums, and the rails that count are the whole module."""
    known = rails.rails([rail.label for rail in BOARDS[name].rails])
    module = {rail.name for rail in known if rail.counts and rail.scope is Scope.MODULE}
    assert module == {rail.label for rail in BOARDS[name].rails if rail.counts}
    assert sum(rail.share for rail in BOARDS[name].rails if rail.counts) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("name", "label", "step_w"),
    [
        ("agx-orin", "VDD_GPU_SOC", 0.4),
        ("agx-orin", "VDD_CPU_CV", 0.4),
        ("agx-orin", "VIN_SYS_5V0", 0.1),
        ("orin-nx", "VDD_IN", 0.04),
        ("orin-nano", "VDD_IN", 0.04),
        ("thor", "VDD_GPU", 0.392),
    ],
)
def test_rails_step_as_the_real_ones_do(name, label, step_w):
    index = [rail.label for rail in BOARDS[name].rails].index(label)
    sensors = Sensors(BOARDS[name], parse("ramp:5,25,20"), seed=3, noise_share=0.0)
    step_ma = math.gcd(*(sensors.shown(number)[index].current_ma for number in range(200)))
    assert step_ma * 1e-3 * BOARDS[name].rails[index].bus_v == pytest.approx(step_w, rel=0.02)


@pytest.mark.parametrize("name", list(BOARDS))
def test_meter_reads_from_the_tree_what_the_sensors_show(tmp_path, name):
    """At moments of a simulated clock, rail by rail: the path of files and the path in memory are one."""
    played = board(tmp_path, name, "saw-tooth:5,40,0.7", seed=7)
    meter = Ina3221(0.05, str(tmp_path / name))
    sensors = Sensors(BOARDS[name], parse("saw-tooth:5,40,0.7"), seed=7)
    labels = [rail.label for rail in BOARDS[name].rails]
    for poll in range(60):
        played.step(at(poll * 0.05))
        shown = dict(zip(labels, sensors.shown(sensors.number_at(poll * 0.05)), strict=True))
        power_w = {label: value.power_w for label, value in shown.items()}
        power_w |= {"VIN": shown["VIN"].power_uw * 1e-6} if "VIN" in shown else {}
        assert powers_w(meter) == pytest.approx(power_w)
    assert meter.simulated and set(powers_w(meter)) == set(labels)


def test_values_change_once_a_period_and_late(tmp_path):
    played = board(tmp_path, power="saw-tooth:5,40,3")
    changes = [played.step(at(poll * 0.001)) for poll in range(2000)]
    due_s = sorted({(change - START_NS) * 1e-9 for change in changes})
    gaps_s = [after - before for before, after in itertools.pairwise(due_s)]
    assert 19 <= len(due_s) <= 22
    assert all(0.07 < gap_s < 0.13 for gap_s in gaps_s)


def test_a_rail_vanishes_and_returns(tmp_path):
    played = board(tmp_path)
    meter = Ina3221(0.1, str(played.root))
    played.fault("rail-VDD_CPU_CV")
    played.step(at(1))
    assert [label for label, power_w in powers_w(meter).items() if power_w is None] == ["VDD_CPU_CV"]
    played.mend("rail-VDD_CPU_CV")
    played.step(at(2))
    assert powers_w(meter)["VDD_CPU_CV"] == pytest.approx(6, abs=0.5)
    assert len(meter.notes()) == 2


def test_a_current_that_cannot_be_read_is_missing(tmp_path):
    played = board(tmp_path, "orin-nx", "constant:10")
    played.fault("current-VDD_IN")
    played.step(at(1))
    (current,) = played.root.glob("sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon*/curr1_input")
    with pytest.raises(OSError, match="Input/output error"):
        current.read_text()
    assert number(current.with_name("in1_input")) == pytest.approx(5000, abs=100)


def test_zones_that_are_gated_cannot_be_read(tmp_path):
    """Some always, as on the real board, and one on demand."""
    played = board(tmp_path, "thor", "constant:60")
    played.fault("zone-cpu-thermal")
    played.step(at(1))
    zones = list(played.root.glob("sys/class/thermal/thermal_zone*"))
    silent = {(zone / "type").read_text().strip() for zone in zones if temperature_c(zone) is None}
    assert silent == {"gpu-thermal", "cpu-thermal"}
    assert all(30 < known_c < 90 for zone in zones if (known_c := temperature_c(zone)) is not None)


def test_an_unknown_fault_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no fault 'rail-X'; known: rail-VDD_GPU_SOC"):
        board(tmp_path).fault("rail-X")


def test_what_is_no_rail_is_there_too(tmp_path):
    """Shunt voltages, sums and channels without a connection, which a reader must not take for rails."""
    played = board(tmp_path)
    (hwmon,) = played.root.glob("sys/bus/i2c/drivers/ina3221/1-0041/hwmon/hwmon*")
    assert (hwmon / "in1_label").read_text() == "NC\n"
    assert (hwmon / "in7_label").read_text() == "sum of shunt voltages\n"
    assert number(hwmon / "in5_input") == number(hwmon / "in7_input") > 0
    with pytest.raises(OSError, match="Input/output error"):
        (hwmon / "curr1_input").read_text()
    assert (played.root / "sys/class/hwmon/hwmon2").samefile(hwmon)


def test_warmer_and_faster_under_load(tmp_path):
    """Temperature follows slowly, load and clock at once."""
    played = board(tmp_path, power="square:6,45,120")
    gpu, zone = played.root / "sys/class/devfreq/17000000.gpu", played.root / "sys/class/thermal/thermal_zone0/temp"
    load = played.root / "sys/devices/platform/bus@0/17000000.gpu/load"
    shown = []
    for second in (30, 62, 70, 110):
        played.step(at(second))
        shown.append((number(load), number(gpu / "cur_freq"), number(zone)))
    assert [each[0] for each in shown] == [0, 1000, 1000, 1000]
    assert shown[0][1] == 306_000_000 and shown[1][1] == 816_000_000
    assert shown[0][2] < shown[1][2] < shown[2][2] < shown[3][2]


def test_readers_never_see_half_a_file(tmp_path):
    """Another thread reads as fast as it can while values change."""
    played = board(tmp_path, power="saw-tooth:5,45,0.57")
    (current,) = played.root.glob("sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon*/curr1_input")
    seen: list[str] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(current.read_text())
            done.wait(0.0002)  # so that the writer has its turn

    reader = threading.Thread(target=read)
    reader.start()
    for poll in range(200):
        played.step(at(poll * 0.1))
    done.set()
    reader.join()
    assert len(set(seen)) > 10
    assert all(text.endswith("\n") and int(text) > 0 for text in seen)


@pytest.mark.parametrize("name", list(BOARDS))
def test_tegrastats_prints_the_rails_that_the_files_show(tmp_path, name):
    played = board(tmp_path, name, "constant:14")
    program = [str(played.root / "usr/bin/tegrastats"), "--interval", "50"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(3)]
        child.kill()
    meter = Ina3221(0.1, str(played.root))
    for label, power_w in powers_w(meter).items():
        told = next(rail.told for rail in BOARDS[name].rails if rail.label == label)
        assert power_w is not None
        milliwatts = int(power_w * 1e3 + 1e-6)
        assert all((f" {label} {milliwatts}mW/{milliwatts}mW" in line) == told for line in lines)
    assert all(" GR3D_FREQ " in line and " tj@" in line and " cv0@" not in line for line in lines)


def test_hung_tegrastats_prints_nothing_until_it_is_mended(tmp_path):
    played = board(tmp_path)
    played.fault("tegrastats")
    program = [str(played.root / "usr/bin/tegrastats"), "--interval", "50"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as child:
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.5)
        played.mend("tegrastats")
        assert child.stdout is not None
        assert "VDD_GPU_SOC" in child.stdout.readline()
        child.kill()


def test_nvpmodel_tells_the_mode(tmp_path):
    played = board(tmp_path)
    said = subprocess.run([played.root / "usr/sbin/nvpmodel", "-q"], capture_output=True, text=True, check=True)
    assert said.stdout == "NV Power Mode: MODE_50W\n3\n"


def test_the_truth_is_known_to_another_process(tmp_path):
    """From the folder alone: the power of a CSV is kept in it."""
    table = tmp_path / "power.csv"
    table.write_text("time_s,power_w\n0,10\n2,20\n4,20\n")
    played = board(tmp_path, "orin-nx", f"csv:{table}")
    table.unlink()
    wave, started_ns = true_power(played.root)
    assert started_ns == START_NS
    assert wave.energy_j(0, 4) == pytest.approx(70)
    assert wave.energy_j(4, 6) == pytest.approx(30)
    assert played.energy_j(at(0), at(8)) == pytest.approx(140)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "agx-orin").mkdir()
    (tmp_path / "agx-orin" / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigInvalid, match="holds something that is no simulated board"):
        board(tmp_path)
    assert [path.name for path in (tmp_path / "agx-orin").iterdir()] == ["thesis.txt"]


def test_a_folder_can_be_played_again(tmp_path):
    board(tmp_path).fault("rail-VDD_CPU_CV")
    again = board(tmp_path, power="constant:20")
    assert json.loads((again.root / MARKER).read_text())["power"] == "constant:20"
    assert None not in powers_w(Ina3221(0.1, str(again.root))).values()


def test_another_board_in_a_folder_leaves_nothing_of_the_first(tmp_path):
    """Else its rails and zones would stand among those of the new one."""
    SimulatedBoard(tmp_path, "agx-orin", "constant:30")
    SimulatedBoard(tmp_path, "thor", "constant:60")
    rails_of_thor = {rail.label for rail in BOARDS["thor"].rails}
    assert powers_w(Ina3221(0.1, str(tmp_path))).keys() == rails_of_thor
    assert len(list((tmp_path / "sys/class/devfreq").iterdir())) == 2


def test_every_fault_has_an_effect_on_files(tmp_path):
    """But the one of a program, which looks for it by itself."""
    played = board(tmp_path)
    shown = layout.rails(played.board, Sensors(played.board, parse("constant:20"), 1).shown(3))
    contents = layout.fixed(played.board) | shown | layout.state(played.board, layout.State(0.5, 0.5))
    for name in layout.fault_names(played.board):
        assert (layout.faults(played.board, frozenset({name}), contents) != contents) == (name != "tegrastats"), name


def test_command_makes_a_board_and_says_how_to_use_it(tmp_path, capsys):
    folder = tmp_path / "board"
    assert app.main(["simulate", "orin-nano", str(folder), "--power", "constant:9", "--once"]) == 0
    said = capsys.readouterr().out
    assert said == (f"made a simulated Jetson Orin Nano 8GB (constant:9): phasewatt-agent meters --root {folder}\n")
    assert powers_w(Ina3221(0.1, str(folder)))["VDD_IN"] == pytest.approx(9, rel=0.05)


@pytest.mark.parametrize(
    ("power", "words"),
    [
        ("sine:3", "expected one of constant:W, square:"),
        ("square:3,4", "expected square:LOW_W,HIGH_W,PERIOD_S"),
        ("square:3,4,0", "expected square:LOW_W,HIGH_W,PERIOD_S"),
        ("constant:nan", "expected constant:W"),
        ("csv:/none.csv", "cannot read /none.csv"),
    ],
)
def test_command_refuses_power_that_is_none(tmp_path, capsys, power, words):
    assert app.main(["simulate", "thor", str(tmp_path / "board"), "--power", power, "--once"]) == 2
    assert words in capsys.readouterr().err


def test_command_plays_until_it_is_told_to_end(tmp_path):
    """Values move meanwhile; SIGTERM ends it with code 0."""
    folder = tmp_path / "board"
    command = [sys.executable, "-m", "agent.app", "simulate", "agx-orin", str(folder), "--power", "saw-tooth:5,45,1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline().startswith("playing a simulated Jetson AGX Orin 64GB")
        meter = Ina3221(0.1, str(folder))
        seen = set()
        for _ in range(200):
            seen.add(tuple(powers_w(meter).values()))
            if len(seen) > 3:
                break
            threading.Event().wait(0.05)
        child.terminate()
        assert child.wait(5) == 0
    assert len(seen) > 3
