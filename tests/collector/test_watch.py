"""`watch`: which boards are asked, what is made of what they show, and that nothing hostile ends it."""

from __future__ import annotations

import json

import pytest

from collector import app
from collector.live_figures import figure, power_w, sample_of
from collector.settings import Address, BrokerSettings
from collector.watched import ASK_EVERY_S, MOST_BOARDS, Boards, wish
from collector.watching import Watching
from phasewatt import codec, series, topics
from phasewatt.errors import BrokerUnavailable
from phasewatt.messages import Live, Presence, Watch
from phasewatt.traces import Telemetry
from tests.fixtures import wire
from tests.fixtures.records import changed
from tests.fixtures.wire import DEVICE

LIVE, STATUS = topics.live(DEVICE), topics.status(DEVICE)


def sampled(time_s: float = 1.0, boot_id: str = "boot-1", **values: tuple[str, float | None]) -> Telemetry:
    """One row; `a__b` names the column a/b, and each value comes with its unit."""
    columns = [series.pack(name.replace("__", "/"), unit, 1e-3, [value]) for name, (unit, value) in values.items()]
    time = series.pack_times([round(time_s * 1e9)])
    return wire.telemetry(boot_id=boot_id, time=time, values=tuple(columns))


def live(telemetry: Telemetry) -> bytes:
    return codec.pack(codec.encode(Live(schema=codec.SCHEMA, telemetry=telemetry)))


def status(presence: Presence = Presence.ONLINE, device: str = DEVICE) -> bytes:
    return codec.encode(wire.status(presence=presence, device=device))


def powers(*samples: Telemetry) -> dict[str, float | None]:
    before, now = [None, *map(sample_of, samples)][-2:]
    assert now is not None
    return power_w(now, before)


def test_power_is_totalled_by_the_modules_rule():
    """VDDQ of an AGX Orin is inside VIN_SYS_5V0, and a rail that no rule knows counts nowhere."""
    rails = {"VDD_GPU_SOC": 4.0, "VDD_CPU_CV": 2.0, "VIN_SYS_5V0": 3.0, "VDDQ_VDD2_1V8AO": 1.0}
    columns = {f"module__{name}__instant": ("W", value) for name, value in rails.items()}
    assert powers(sampled(**columns, unknown__OTHER__instant=("W", 9.0))) == {"module": pytest.approx(9.0)}


def test_a_board_input_is_a_scope_of_its_own():
    rails = {"VDD_GPU": 4.0, "VDD_CPU_SOC_MSS": 2.0, "VIN_SYS_5V0": 3.0}
    columns = {f"module__{name}__instant": ("W", value) for name, value in rails.items()}
    shown = powers(sampled(**columns, **{"board-input__VIN__instant": ("W", 12.0)}))
    assert shown == {"module": pytest.approx(9.0), "board-input": pytest.approx(12.0)}


def test_a_total_without_one_of_its_rails_is_missing_and_not_smaller():
    columns = {"module__VDD_IN__instant": ("W", None), "module__VDD_SOC__instant": ("W", 1.0)}
    assert powers(sampled(**columns)) == {"module": None}


def test_two_gpus_add_up_and_each_counts_once():
    """The instant reading goes before the average; neither is added to the other."""
    columns = {
        "gpu-board__gpu0__instant": ("W", 100.0),
        "gpu-board__gpu0__average": ("W", 90.0),
        "gpu-board__gpu1__average": ("W", 50.0),
    }
    assert powers(sampled(**columns)) == {"gpu-board": pytest.approx(150.0)}


def counted(time_s: float, joules: float, boot_id: str = "boot-1") -> Telemetry:
    return sampled(time_s, boot_id, **{"cpu-package__package-0__counter": ("J", joules)})


def test_a_counter_is_power_from_its_second_sample_on():
    assert powers(counted(1.0, 50.0)) == {"cpu-package": None}
    assert powers(counted(1.0, 50.0), counted(3.0, 90.0)) == {"cpu-package": pytest.approx(20.0)}


@pytest.mark.parametrize("now", [counted(3.0, 40.0), counted(3.0, 90.0, "boot-2"), counted(1.0, 90.0)])
def test_a_counter_that_began_anew_is_no_power(now):
    assert powers(counted(1.0, 50.0), now) == {"cpu-package": None}


def test_the_first_column_with_a_value_is_the_figure():
    sample = sample_of(sampled(gpu_temperature=("degC", None), temperature=("degC", 51.5)))
    assert sample is not None
    assert figure(sample, "gpu_temperature", "temperature") == 51.5
    assert figure(sample, "gpu_busy") is None


def test_telemetry_without_a_row_is_no_sample():
    assert sample_of(wire.telemetry(time=series.pack_times([]), values=())) is None


def test_named_boards_are_asked_at_once_and_again_before_the_wish_ends():
    boards = Boards(["b", "a"], 0.0)
    assert boards.due(0.0) == ["a", "b"]
    assert boards.due(ASK_EVERY_S - 0.1) == []
    assert boards.due(ASK_EVERY_S) == ["a", "b"]
    assert codec.decode(wish("phasewatt-watch-1"), Watch).for_s > 2 * ASK_EVERY_S


def test_without_names_those_that_are_online_are_asked():
    boards = Boards([], 0.0)
    boards.take(topics.status("gone"), status(Presence.OFFLINE, "gone"), 0.0)
    boards.take(STATUS, status(), 0.0)
    assert boards.due(0.0) == [DEVICE]


def test_a_board_that_goes_is_asked_no_more_and_at_once_when_it_is_back():
    boards = Boards([], 0.0)
    boards.take(STATUS, status(), 0.0)
    boards.due(0.0)
    boards.take(STATUS, status(Presence.OFFLINE), 1.0)
    assert boards.due(100.0) == []
    boards.take(STATUS, status(), 101.0)
    assert boards.due(101.0) == [DEVICE]
    (board,) = boards.shown()
    assert board.silent_s(103.0) == 2.0


def test_silence_counts_from_the_last_sample():
    boards = Boards([DEVICE], 0.0)
    (board,) = boards.shown()
    assert board.silent_s(7.0) == 7.0
    heard = boards.take(LIVE, live(sampled(cpu_busy=("1", 0.25))), 8.0)
    assert heard is not None
    assert board.silent_s(9.0) == 1.0


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        (LIVE, b""),
        (LIVE, b"null"),
        (LIVE, b"[" * 100_000),
        (LIVE, b"\x78\x9c" * 50),
        (LIVE, b" " * (codec.MAX_PAYLOAD_BYTES + 1)),
        (LIVE, codec.pack(b" " * (codec.MAX_PAYLOAD_BYTES + 1))),
        (LIVE, codec.encode(wire.status())),
        (LIVE, live(changed(sampled(), device="board-2"))),
        (LIVE, live(sampled()).replace(b'"steps":[1000000000]', b'"steps":[null]')),
        (STATUS, b'{"device": 1}'),
        (STATUS, status(device="board-2")),
        ("phasewatt/v1/\x1b[2J/live", live(sampled())),
        ("elsewhere", b""),
    ],
)
def test_what_is_no_message_of_a_board_is_counted_and_shows_nothing(topic, payload):
    boards = Boards([DEVICE], 0.0)
    assert boards.take(topic, payload, 1.0) is None
    assert boards.refused == 1
    assert boards.last_refusal is not None
    assert boards.last_refusal.isprintable()
    assert boards.take(LIVE, live(sampled(cpu_busy=("1", 0.5))), 2.0) is not None


def test_samples_of_boards_that_are_not_watched_are_passed_over():
    boards = Boards(["another"], 0.0)
    assert boards.take(LIVE, live(sampled(cpu_busy=("1", 0.5))), 1.0) is None
    assert boards.refused == 0


def test_invented_boards_do_not_fill_the_memory():
    boards = Boards([], 0.0)
    for number in range(MOST_BOARDS + 5):
        boards.take(topics.status(f"b{number}"), status(device=f"b{number}"), 0.0)
    assert len(boards.shown()) == MOST_BOARDS
    assert boards.refused == 5


def test_a_broker_that_is_not_there_is_one_clear_line(capsys):
    assert app.main(["watch", "--broker", "127.0.0.1:1", "--json", "--db", "sqlite://"]) == 1
    assert "broker 127.0.0.1:1: Connection refused; is it running" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("+", "--json"), "device: expected up to 64 letters"),
        (("a/b", "--json"), "device: expected up to 64 letters"),
        ((), "standard output is no terminal; add --json"),
        (("--json", "--broker", "nowhere"), "expected embedded, embedded:PORT or HOST:PORT"),
        (("--json", "--password-file", "/nowhere"), "broker.password_file: expected a file"),
    ],
)
def test_wrong_options_are_one_line(capsys, arguments, words):
    assert app.main(["watch", *arguments, "--db", "sqlite://"]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.broker
def test_a_broker_that_does_not_know_this_user_is_one_clear_line(mosquitto):
    mosquitto.stop()
    mosquitto.configure("allow_anonymous false")
    mosquitto.start()
    with pytest.raises(BrokerUnavailable, match="refused: not authorized; check user name, password and access list"):
        Watching(Address(False, mosquitto.host, mosquitto.port), BrokerSettings(), [])


def test_lines_and_tables_show_no_control_characters():
    """Names of columns come from the board; JSON alone would let some through."""
    from rich.console import Console

    from collector.commands.watch import _line, _table

    boards = Boards([DEVICE], 0.0)
    evil = sampled(**{"bad\x1b[2J\x9b\u202e": ("W\x07", 1.0), "wall__\x9bplug__instant": ("W", 5.0)})
    heard = boards.take(LIVE, live(evil), 1.0)
    assert heard is not None
    line = codec.encode(_line(heard)).decode()
    assert line.isprintable()
    assert set(json.loads(line)["values"]) == {"bad\ufffd[2J\ufffd\ufffd", "wall/\ufffdplug/instant"}
    boards.take(LIVE, b"\x1b[2J", 1.0)
    console = Console(width=120, force_terminal=False)
    with console.capture() as capture:
        console.print(_table(boards, 30.0, None))
    shown = capture.get()
    assert "5.00 W wall" in shown
    assert "silent 29 s" in shown
    assert "messages not understood: 1" in shown
    assert all(line.isprintable() for line in shown.splitlines())


def test_what_is_simulated_says_so_in_line_and_table():
    """Power of a board that is played in a folder must not be taken for a measured one."""
    from rich.console import Console

    from collector.commands.watch import _line, _table

    boards = Boards([DEVICE], 0.0)
    shown = {}
    for simulated in (False, True):
        heard = boards.take(LIVE, live(changed(sampled(wall__plug__instant=("W", 5.0)), simulated=simulated)), 1.0)
        assert heard is not None
        console = Console(width=120, force_terminal=False)
        with console.capture() as capture:
            console.print(_table(boards, 1.0, None))
        shown[simulated] = (_line(heard).simulated, f"{DEVICE} (simulated)" in capture.get())
    assert shown == {False: (False, False), True: (True, True)}
