"""`phasewatt-agent meters decode`: lines of another tool in, one JSON object a line out."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import app
from agent.jetson.cutting import MAX_LINE_BYTES, LineCutter
from tests.fixtures.tegrastats import AGX_ORIN, EVERY, NANO, OLD, THOR, TX1

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "agent.app", "meters", "decode", "tegrastats", "-"]
KEYS = {
    *("time", "time_iso", "rails", "total_w", "total_rule", "scope", "board_input_w", "temperatures_c", "gpu_load"),
    *("gpu_clock_hz", "gpu_clocks_hz", "memory_used_bytes", "memory_total_bytes", "memory_free_block_bytes"),
    *("memory_free_blocks", "swap_used_bytes", "swap_total_bytes", "swap_cached_bytes", "cpu_loads", "cpu_clocks_hz"),
    *("emc_load", "emc_clock_hz"),
}


@pytest.fixture
def decoded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[object]:
    """A function from the bytes of a file to the objects that are printed of it."""

    def run(content: bytes) -> list[dict[str, object]]:
        file = tmp_path / "tegrastats.log"
        file.write_bytes(content)
        assert app.main(["meters", "decode", "tegrastats", str(file)]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return run


def test_a_line_becomes_one_object_in_si_units(decoded) -> None:
    (content,) = decoded(f"{AGX_ORIN}\n".encode())
    assert content["rails"] == {
        "VDD_GPU_SOC": 2.797,
        "VDD_CPU_CV": 0.799,
        "VIN_SYS_5V0": 3.215,
        "VDDQ_VDD2_1V8AO": 0.906,
    }
    assert (content["total_w"], content["total_rule"]) == (6.811, "VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0")
    assert (content["scope"], content["board_input_w"]) == ("module", None)
    assert (content["time"], content["time_iso"]) == ("08-15-2025 15:00:57", "2025-08-15T15:00:57")
    assert (content["gpu_load"], content["gpu_clock_hz"], content["gpu_clocks_hz"]) == (0.39, 305000000, [305000000, 0])
    assert content["memory_used_bytes"] == 12601 * 2**20
    assert content["cpu_loads"] == [0.02, 0.0, 0.16, 0.62, None, None]


def test_every_object_has_every_key_and_null_where_a_line_does_not_tell(decoded) -> None:
    contents = decoded("\n".join(EVERY).encode())
    assert len(contents) == len(EVERY)
    assert all(set(content) == KEYS for content in contents)
    content = contents[EVERY.index(TX1)]
    assert content["time"] is None
    assert content["swap_total_bytes"] is None


def test_where_no_rule_holds_there_is_no_total(decoded) -> None:
    (content,) = decoded(OLD.encode())
    assert (content["rails"], content["total_w"], content["total_rule"], content["scope"]) == ({}, None, None, None)


def test_thor_has_the_input_of_its_board_too(decoded) -> None:
    (content,) = decoded(THOR.encode())
    assert (content["total_w"], content["scope"], content["board_input_w"]) == (19.06, "module", 26.6)


def test_other_lines_are_objects_with_an_error_and_their_number_and_blank_ones_nothing(decoded) -> None:
    contents = decoded(f"starting\n\n  \r\n{NANO}\r\n\x80\x81\n{NANO}".encode("latin-1"))
    assert [content.get("line") for content in contents] == [1, None, 5, None]
    assert contents[0] == {"line": 1, "error": "not a line of tegrastats: 'starting'"}
    assert contents[1] == contents[3]
    assert contents[1]["total_w"] == 2.871


def test_a_file_in_two_bytes_a_letter_is_read(decoded) -> None:
    assert [content["total_w"] for content in decoded(f"{NANO}\r\n\r\n{TX1}\r\n".encode("utf-16"))] == [2.871, 2.611]


def test_an_empty_file_has_nothing_to_print(decoded) -> None:
    assert decoded(b"") == []


def test_a_line_without_end_is_cut_and_the_next_one_read(decoded) -> None:
    contents = decoded(b"x" * 10 * MAX_LINE_BYTES + f"\n{NANO}".encode())
    assert ["error" in content for content in contents] == [True, False]


def test_a_cutter_keeps_no_more_than_a_line_may_be_long() -> None:
    cutter = LineCutter()
    assert [cutter.feed(b"y" * 1000) for _ in range(1000)] == [[]] * 1000
    assert cutter.feed(b"y\nnext") == [b"y" * MAX_LINE_BYTES]
    assert cutter.rest() == b"next"
    assert cutter.rest() == b""


@pytest.mark.parametrize("size", [1, 7, 64])
def test_a_cutter_gives_the_same_lines_however_they_come(size: int) -> None:
    text = f"{NANO}\n\n{TX1}\nrest".encode()
    cutter = LineCutter()
    lines = [line for at in range(0, len(text), size) for line in cutter.feed(text[at : at + size])]
    assert [*lines, cutter.rest()] == text.split(b"\n")


def test_from_a_pipe_each_line_is_printed_as_soon_as_it_has_come() -> None:
    """As in `tegrastats | phasewatt-agent meters decode tegrastats -`."""
    with subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as child:
        assert child.stdin is not None and child.stdout is not None
        for line, total_w in ((NANO, 2.871), (TX1, 2.611)):
            child.stdin.write(f"{line}\n".encode())
            child.stdin.flush()
            assert json.loads(child.stdout.readline())["total_w"] == total_w
        child.stdin.close()
        assert child.wait() == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["tegrastats", "absent.log"], "decode: cannot read absent.log: No such file or directory; expected a file"),
        (["tegrastats", "/"], "decode: cannot read /: Is a directory; expected a file"),
        (["jtop", "-"], "decode: no format 'jtop'; known: tegrastats"),
    ],
)
def test_what_cannot_be_decoded_is_one_line_with_a_remedy(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main(["meters", "decode", *arguments]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_meters_without_the_form_still_lists_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["meters", "--state-dir", str(tmp_path), "--meter", "replay:/absent", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["meters"][0]["meter"] == "replay:/absent"
