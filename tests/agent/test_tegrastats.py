"""The tegrastats meter against programs that answer, hang, end, refuse, and print something else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.jetson.child import Patience
from agent.meters.tegrastats import Tegrastats
from phasewatt.errors import MeterUnavailable
from phasewatt.fields import Reading, Scope
from tests.fixtures.receipts import wait_until
from tests.fixtures.tegrastats import AGX_ORIN, NANO, THOR, at_first, program, steady

PATIENCE = Patience(hung_s=1.5, pause_s=0.05, longest_pause_s=0.2)
TOTAL = {"VDD_GPU_SOC": 2.797, "VDD_CPU_CV": 0.799, "VIN_SYS_5V0": 3.215}
THREE_LINES = f"for i in 1 2 3; do echo '{AGX_ORIN}'; sleep 0.05; done"


@contextmanager
def meter(root: Path, script: str, **options: object) -> Iterator[Tegrastats]:
    opened = Tegrastats(0.05, str(program(root, script)), patience=PATIENCE, **options)  # type: ignore[arg-type]
    try:
        yield opened
    finally:
        opened.close()


def until(condition: Callable[[], object], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "did not come"
        time.sleep(0.01)


def powers(opened: Tegrastats) -> dict[str, float | None]:
    pairs = zip(opened.channels, opened.read(), strict=True)
    return {channel.name: value for channel, value in pairs if channel.unit == "W"}


def is_alive(pid: int) -> bool:
    """Whether a process runs: one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_rails_are_channels_of_their_scope_and_only_parts_of_the_total_count(tmp_path: Path) -> None:
    with meter(tmp_path, steady(AGX_ORIN)) as opened:
        assert powers(opened) == TOTAL | {"VDDQ_VDD2_1V8AO": 0.906}
        rails = [channel for channel in opened.channels if channel.unit == "W"]
        assert {channel.name for channel in rails if channel.parts_of_total} == set(TOTAL)
        assert {(c.scope, c.source, c.reading) for c in rails} == {(Scope.MODULE, "tegrastats", Reading.INSTANT)}
        assert all(channel.gain_uncertainty == 0.05 for channel in rails)
        assert (opened.simulated, opened.driver, opened.mode) == (True, os.uname().release, None)


def test_a_rail_carries_the_step_of_its_sensor_and_no_timing_that_nobody_tells(tmp_path: Path) -> None:
    with meter(tmp_path, steady(AGX_ORIN)) as opened:
        card = opened.channels[0].card
        assert card is not None and card.resolution is not None
        assert (card.origin, card.update_period_s, card.lag_s) == ("documented", None, None)
        assert 0.1 < card.resolution < 1.0
        assert card.reason


def test_thor_has_module_and_board_input_apart(tmp_path: Path) -> None:
    with meter(tmp_path, steady(THOR)) as opened:
        scopes = {channel.name: channel.scope for channel in opened.channels if channel.unit == "W"}
        assert [name for name, scope in scopes.items() if scope is Scope.BOARD_INPUT] == ["VIN"]
        assert len([name for name, scope in scopes.items() if scope is Scope.MODULE]) == 3


def test_clocks_loads_and_temperatures_that_explain_power_are_beside_it(tmp_path: Path) -> None:
    with meter(tmp_path, steady(AGX_ORIN)) as opened:
        pairs = zip(opened.channels, opened.read(), strict=True)
        beside = {(c.source, c.name): (value, c.unit) for c, value in pairs if c.scope is None}
    assert beside == {
        ("tegrastats.gpu_load", "gpu"): (0.39, "1"),
        ("tegrastats.gpu_clock", "gpu"): (305e6, "Hz"),
        ("tegrastats.emc_load", "emc"): (0.03, "1"),
        ("tegrastats.emc_clock", "emc"): (3199e6, "Hz"),
        ("tegrastats.temperature", "cpu"): (51.1, "degC"),
        ("tegrastats.temperature", "gpu"): (47.8, "degC"),
        ("tegrastats.temperature", "tj"): (51.1, "degC"),
    }


@pytest.mark.parametrize(("period_s", "asked_ms"), [(0.05, 100), (0.1, 100), (1.0, 1000)])
def test_it_is_asked_for_lines_at_the_pace_of_reading_and_not_faster_than_it_can(
    tmp_path: Path, period_s: float, asked_ms: int
) -> None:
    root = program(tmp_path, f'echo "$*" > "$0.asked"\n{steady()}')
    Tegrastats(period_s, str(root)).close()
    assert (root / "usr/bin/tegrastats.asked").read_text() == f"--interval {asked_ms}\n"


def test_without_the_program_it_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(MeterUnavailable, match="tegrastats: this is not a Jetson"):
        Tegrastats(0.1, str(tmp_path))


def test_a_program_that_may_not_be_run_is_unavailable_with_the_remedy(tmp_path: Path) -> None:
    (program(tmp_path, steady()) / "usr/bin/tegrastats").chmod(0o644)
    with pytest.raises(MeterUnavailable, match="chmod"):
        Tegrastats(0.1, str(tmp_path))


def test_one_that_cannot_be_executed_is_unavailable_with_the_reason(tmp_path: Path) -> None:
    """A binary of another processor, as in a container of the wrong architecture."""
    program(tmp_path, "")
    (tmp_path / "usr/bin/tegrastats").write_bytes(b"\x7fELF\x02\x01\x01 not of this processor")
    with pytest.raises(MeterUnavailable, match=r"cannot run .*tegrastats"):
        Tegrastats(0.1, str(tmp_path))


@pytest.mark.parametrize("stream", ["", ">&2"])
def test_an_instance_that_refuses_is_unavailable_in_its_own_words(tmp_path: Path, stream: str) -> None:
    began_s = time.monotonic()
    with pytest.raises(MeterUnavailable, match=r"already running.*tegrastats --stop"):
        Tegrastats(0.1, str(program(tmp_path, f"echo 'tegrastats is already running' {stream}; exit 1")))
    assert time.monotonic() - began_s < 5.0, "it waits for nothing after the program has ended"


def test_a_program_that_says_nothing_is_unavailable_when_the_time_is_over(tmp_path: Path) -> None:
    with pytest.raises(MeterUnavailable, match=r"no power rails in its lines within 0\.3 s"):
        Tegrastats(0.1, str(program(tmp_path, "exec sleep 1000")), opening_s=0.3)


def test_lines_without_rails_are_unavailable(tmp_path: Path) -> None:
    """A module without a power monitor prints everything else."""
    script = steady(NANO.partition(" POM_5V_IN")[0])
    with pytest.raises(MeterUnavailable, match="no power rails"):
        Tegrastats(0.1, str(program(tmp_path, script)), opening_s=0.5)


def test_a_slow_start_is_waited_for(tmp_path: Path) -> None:
    with meter(tmp_path, f"sleep 0.4\n{steady()}") as opened:
        assert powers(opened)["VDD_CPU_CV"] == 0.799


def test_half_a_line_is_no_line(tmp_path: Path) -> None:
    """What is printed in two pieces is read when it is whole: the rails behind the gap do not vanish meanwhile."""
    head, tail = AGX_ORIN[:-120], AGX_ORIN[-120:]
    script = f"while :; do printf '%s' '{head}'; sleep 0.1; echo '{tail}'; done"
    with meter(tmp_path, script) as opened:
        for _ in range(30):
            assert None not in powers(opened).values()
            time.sleep(0.01)
        assert opened.notes() == ()


def test_a_line_stands_for_a_few_intervals_and_no_longer(tmp_path: Path) -> None:
    now_ns = [0]
    script = f"echo '{AGX_ORIN}'; exec sleep 1000"
    with meter(tmp_path, script, clock_ns=lambda: now_ns[0]) as opened:
        now_ns[0] = 499_000_000
        assert None not in powers(opened).values()
        now_ns[0] = 501_000_000
        assert set(opened.read()) == {None}


def test_one_that_hangs_is_ended_and_started_again_and_both_are_noted(tmp_path: Path) -> None:
    script = at_first(f'echo $$ > "$0.hung"\n{THREE_LINES}\nexec sleep 1000', steady())
    with meter(tmp_path, script) as opened:
        until(lambda: set(powers(opened).values()) == {None})
        until(lambda: powers(opened)["VDD_GPU_SOC"] == 2.797)
        first, second = opened.notes()
    assert "printed nothing of use for 1.5 s, so it was ended, and is started again" in first
    assert "answers again" in second
    assert not is_alive(int((tmp_path / "usr/bin/tegrastats.hung").read_text()))


def test_one_that_prints_nothing_but_errors_has_hung_as_well(tmp_path: Path) -> None:
    script = at_first(f"{THREE_LINES}\nwhile :; do echo 'Error: I2C'; sleep 0.05; done", steady())
    with meter(tmp_path, script) as opened:
        until(lambda: set(powers(opened).values()) == {None})
        until(lambda: powers(opened)["VDD_GPU_SOC"] == 2.797)
        assert [note for note in opened.notes() if "every channel reads as missing" in note]


def test_one_that_ends_is_started_again_and_both_are_noted(tmp_path: Path) -> None:
    with meter(tmp_path, at_first(f"{THREE_LINES}\nexit 3", f"sleep 0.7\n{steady()}")) as opened:
        until(lambda: set(powers(opened).values()) == {None})
        until(lambda: powers(opened)["VDD_GPU_SOC"] == 2.797)
        first, second = opened.notes()
    assert "ended by itself with code 3, and is started again" in first
    assert "answers again" in second


def test_one_that_never_comes_back_is_tried_at_a_slower_and_slower_pace(tmp_path: Path) -> None:
    script = at_first(f"{THREE_LINES}\nexit 3", 'echo x >> "$0.tries"; exit 4')
    tries = tmp_path / "usr/bin/tegrastats.tries"
    with meter(tmp_path, script) as opened:
        until(lambda: tries.exists() and len(tries.read_text()) >= 6)
        until(lambda: set(opened.read()) == {None})
        notes = opened.notes()
    assert len(notes) == 2, "each way to fail is told once"


def test_other_lines_are_counted_and_noted_once(tmp_path: Path) -> None:
    script = (
        f"while :; do echo '{AGX_ORIN}'; echo 'Error: no such rail'; head -c 300 /dev/urandom; echo; sleep 0.05; done"
    )
    with meter(tmp_path, script) as opened:
        until(lambda: opened.garbage > 10)
        assert powers(opened)["VDD_GPU_SOC"] == 2.797
        assert len([note for note in opened.notes() if "printed something else" in note]) == 1


def test_a_rail_that_vanishes_is_missing_by_itself_and_noted_and_may_come_back(tmp_path: Path) -> None:
    without = AGX_ORIN.replace("VDD_CPU_CV 799mW/780mW ", "")
    gone = f"i=0; while [ $i -lt 10 ]; do echo '{without}'; i=$((i+1)); sleep 0.05; done"
    with meter(tmp_path, f"{THREE_LINES}\n{gone}\n{steady()}") as opened:
        until(lambda: powers(opened)["VDD_CPU_CV"] is None)
        assert powers(opened)["VDD_GPU_SOC"] == 2.797
        until(lambda: powers(opened)["VDD_CPU_CV"] == 0.799)
        first, second = opened.notes()
    assert first.startswith("tegrastats VDD_CPU_CV: ")
    assert "answers again" in second


def test_zero_and_negative_readings_are_values(tmp_path: Path) -> None:
    line = AGX_ORIN.replace("VDD_GPU_SOC 2797mW", "VDD_GPU_SOC -398mW").replace("VDD_CPU_CV 799mW", "VDD_CPU_CV 0mW")
    with meter(tmp_path, steady(line)) as opened:
        assert powers(opened) == {
            "VDD_GPU_SOC": -0.398,
            "VDD_CPU_CV": 0.0,
            "VIN_SYS_5V0": 3.215,
            "VDDQ_VDD2_1V8AO": 0.906,
        }


def test_closing_ends_the_program_and_what_it_started(tmp_path: Path) -> None:
    with meter(tmp_path, f'sleep 1000 & echo $$ $! > "$0.pids"\n{steady()}'):
        pids = [int(pid) for pid in (tmp_path / "usr/bin/tegrastats.pids").read_text().split()]
        assert all(is_alive(pid) for pid in pids)
    assert wait_until(lambda: not any(is_alive(pid) for pid in pids))


def test_one_that_ignores_being_asked_to_end_is_killed(tmp_path: Path) -> None:
    with meter(tmp_path, f'trap "" TERM; echo $$ > "$0.pid"\n{steady()}'):
        pid = int((tmp_path / "usr/bin/tegrastats.pid").read_text())
    assert not is_alive(pid)


def test_the_program_dies_with_a_reader_that_is_killed(tmp_path: Path) -> None:
    """Also while it hangs, when no closed pipe would end it."""
    root = program(tmp_path, f"echo $$ > \"$0.pid\"; echo '{AGX_ORIN}'; exec sleep 1000")
    reads = "import sys, time; from agent.meters.tegrastats import Tegrastats; Tegrastats(0.1, sys.argv[1]); "
    command = [sys.executable, "-c", reads + "print('open', flush=True); time.sleep(1000)", str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"open\n"
        pid = int((root / "usr/bin/tegrastats.pid").read_text())
        assert is_alive(pid)
        reader.send_signal(signal.SIGKILL)
    until(lambda: not is_alive(pid), within_s=5.0)
