"""Lines of tegrastats, in every layout that is known, and in none."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.jetson.line import MAX_CHARACTERS, Line, NotTegrastats, parse
from phasewatt import rails
from phasewatt.fields import Scope
from tests.fixtures import tegrastats as lines

CHECKOUT = Path(__file__).parents[2]
# Lines that others recorded are not ours to ship: they are tested where they lie.
RECORDED = next(CHECKOUT.parent.glob("*/data/tegrastats"), CHECKOUT / "no recordings")
ABSENT = "no recorded lines beside the checkout, in ../*/data/tegrastats"
MEBI = 2**20

TOTALS = (  # by module, from the makers' documents: the rails that are summed
    ("TX1", ("VDD_IN",)),
    ("TX2", ("VDD_IN",)),
    ("Nano", ("POM_5V_IN",)),
    ("AGX Xavier", ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V")),
    ("Xavier NX", ("VDD_IN",)),
    ("Orin NX", ("VDD_IN",)),
    ("Orin Nano", ("VDD_IN",)),
    ("AGX Orin", ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")),
    ("AGX Thor", ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0")),
)
KNOWN_GAPS = {"tx2_restart.log": [5]}  # lines are missing before this one: its means are of more than the log holds


def told(text: str | bytes) -> Line:
    found = parse(text)
    assert isinstance(found, Line)
    return found


def watts(line: Line) -> dict[str, float]:
    return {name: rail.now_w for name, rail in line.rails.items()}


def total_w(line: Line, scope: Scope = Scope.MODULE) -> float | None:
    total = rails.totals(line.rails).get(scope)
    return None if total is None else rails.total_w(watts(line), total)


def printed_mw(text: str, rail: str) -> int:
    """The first figure behind a rail's name, found without the parser."""
    words = text.split()
    return int(words[len(words) - words[::-1].index(rail)].split("/")[0].removesuffix("mW"))


@pytest.mark.parametrize(
    ("text", "expected_w"),
    [
        (lines.TX1, 2.611),
        (lines.TX2, 3.510),
        (lines.NANO, 2.871),
        (lines.XAVIER, 0.463 + 0.311 + 0.930 + 0.0 + 0.620 + 1.480),
        (lines.XAVIER_NX, 5.601),
        (lines.ORIN_NX, 5.310),
        (lines.AGX_ORIN, 2.797 + 0.799 + 3.215),
        (lines.AGX_ORIN_39, -0.398 + 3.268 + 5.500),
        (lines.THOR, 3.560 + 7.900 + 7.600),
        (lines.OLD, None),
    ],
)
def test_every_layout_gives_the_total_of_its_module(text: str, expected_w: float | None) -> None:
    found = total_w(told(text))
    assert found == (None if expected_w is None else pytest.approx(expected_w))


def test_thor_has_the_input_of_its_board_beside_the_module() -> None:
    assert total_w(told(lines.THOR), Scope.BOARD_INPUT) == pytest.approx(26.6)


def test_rails_that_are_not_connected_are_none() -> None:
    assert list(told(lines.AGX_ORIN).rails) == ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"]


def test_now_mean_and_peak_of_a_rail_are_kept_apart_and_negatives_stay() -> None:
    assert told(lines.AGX_ORIN_39).rails["VDD_GPU_SOC"] == (-0.398, 0.120, 5.139)
    assert told(lines.AGX_ORIN).rails["VDD_CPU_CV"] == (0.799, 0.780, None)


def test_a_rail_a_temperature_and_a_core_list_of_one_name_are_three_things() -> None:
    found = told(lines.XAVIER)
    assert (found.rails["GPU"].now_w, found.temperatures_c["GPU"]) == (0.463, 30.5)
    assert (found.rails["CPU"].now_w, found.temperatures_c["CPU"]) == (0.311, 38.0)
    assert found.cpu_loads == (0.03, 0.0, None, None, 0.01, 0.0, None, None)


def test_engines_and_counts_are_no_rails() -> None:
    assert "APE" not in told(lines.ORIN_NX).rails
    assert "VIC_FREQ" not in told(lines.ORIN_NX).rails
    assert not {"MTS", "fg", "bg", "IRAM", "RAM", "SWAP"} & set(told(lines.TX2 + " " + lines.NANO).rails)


def test_a_zone_that_is_off_has_no_temperature() -> None:
    assert told(lines.ORIN_NX).temperatures_c == {"CV0": None, "CPU": 47.5, "SOC2": 46.0, "GPU": 45.9, "tj": 48.8}
    assert told(lines.AGX_ORIN_39).temperatures_c == {"cpu": 52.9, "gpu": 47.6}


@pytest.mark.parametrize(
    ("printed", "load", "clocks_mhz"),
    [
        ("GR3D_FREQ 41%", 0.41, None),
        ("GR3D_FREQ 62%@306", 0.62, (306,)),
        ("GR3D_FREQ 0%@[305,305]", 0.0, (305, 305)),
        ("GR3D_FREQ 39%@[305,0]", 0.39, (305, 0)),
        ("GR3D_FREQ 63%@[621]", 0.63, (621,)),
        ("GR3D_FREQ @0", None, (0,)),
        ("GR3D_FREQ @[1574,1574,1574]", None, (1574, 1574, 1574)),
        ("GR3D 14%@76", 0.14, (76,)),
        ("GR3D_FREQ off", None, None),
        ("GR3D_FREQ 255%", None, None),
        ("", None, None),
    ],
)
def test_gpu_load_and_clocks(printed: str, load: float | None, clocks_mhz: tuple[int, ...] | None) -> None:
    found = told(f"RAM 1/2MB {printed} cpu@40C")
    clocks_hz = None if clocks_mhz is None else tuple(clock * 10**6 for clock in clocks_mhz)
    assert (found.gpu_load, found.gpu_clocks_hz) == (load, clocks_hz)
    assert found.gpu_clock_hz == (None if clocks_hz is None else max(clocks_hz))


@pytest.mark.parametrize(
    ("printed", "load", "clock_hz"),
    [
        ("EMC_FREQ 3%@3199", 0.03, 3_199_000_000),
        ("EMC_FREQ 0%", 0.0, None),
        ("EMC_FREQ @4266", None, 4_266_000_000),
        ("EMC 10%@1600", 0.1, 1_600_000_000),
        ("", None, None),
    ],
)
def test_memory_controller_load_and_clock(printed: str, load: float | None, clock_hz: int | None) -> None:
    found = told(f"RAM 1/2MB {printed} cpu@40C")
    assert (found.emc_load, found.emc_clock_hz) == (load, clock_hz)


def test_memory_is_in_bytes() -> None:
    found = told(lines.NANO)
    assert (found.memory_used_bytes, found.memory_total_bytes) == (1012 * MEBI, 3964 * MEBI)
    assert (found.free_block_bytes, found.free_blocks) == (128 * 1024, 2)
    assert (found.swap_used_bytes, found.swap_total_bytes, found.swap_cached_bytes) == (7 * MEBI, 4096 * MEBI, 2 * MEBI)


def test_what_a_line_does_not_tell_is_none() -> None:
    found = told(lines.TX1)
    assert (found.time, found.swap_used_bytes, found.swap_total_bytes) == (None, None, None)
    found = told(lines.NOT_ROOT)
    assert (found.emc_load, found.gpu_load, found.gpu_clock_hz) == (None, 0.07, None)


def test_cores_have_a_load_and_a_clock_each_or_one_clock_together() -> None:
    assert told(lines.TX2).cpu_loads == (0.45, None, None, 0.31, 0.12, 0.09)
    clocks_hz = told(lines.TX2).cpu_clocks_hz
    assert clocks_hz == (2_030_000_000, None, None, 2_030_000_000, 2_031_000_000, 2_033_000_000)
    assert told(lines.OLD).cpu_loads == (0.17, 0.13, None, 0.02)
    assert told(lines.OLD).cpu_clocks_hz == (408_000_000, 408_000_000, None, 408_000_000)


def test_time_is_as_printed_and_in_order_of_year_month_day() -> None:
    found = told(lines.AGX_ORIN)
    assert (found.time, found.time_iso) == ("08-15-2025 15:00:57", "2025-08-15T15:00:57")
    assert told("13-45-2025 15:00:57 RAM 1/2MB").time_iso is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "an empty line"),
        ("step 5/10 done in 3 s", "not a line of tegrastats: 'step 5/10 done in 3 s'"),
        ("RAM 11", "not a line of tegrastats: 'RAM 11'"),
        ("tegrastats is already running", "not a line of tegrastats: 'tegrastats is already running'"),
        ("x" * 100, f"not a line of tegrastats: '{'x' * 60}'..."),
        (b"\xff\x80\x01", "not a line of tegrastats: "),
    ],
)
def test_another_line_is_refused_in_one_line(text: str | bytes, reason: str) -> None:
    found = parse(text)
    assert isinstance(found, NotTegrastats)
    assert found.reason.startswith(reason)
    assert "\n" not in found.reason
    assert found.blank == (text == "")


def test_a_cut_line_gives_what_is_there_and_no_half_of_anything() -> None:
    """Neither the core that was cut nor the rail, and memory without its total is no rail."""
    found = told("RAM 1012/3964MB (lfb 2x4MB) CPU [12%@1479,4%@14")
    assert (found.memory_used_bytes, found.cpu_loads) == (1012 * MEBI, (0.12,))
    assert watts(told("tj@48C VDD_IN 5310mW/5305mW VDD_CPU_GPU_CV 77")) == {"VDD_IN": 5.31}
    assert watts(told("cpu@40C RAM 936/3964")) == {}


def test_the_tail_of_a_line_is_known_by_its_rails() -> None:
    assert watts(told("VDD_IN 3510/3540 VDD_SYS_CPU 1101/1090")) == {"VDD_IN": 3.51, "VDD_SYS_CPU": 1.101}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"])
def test_bytes_are_read_in_any_encoding(encoding: str) -> None:
    """A pipe into a file on another system may write two bytes a letter."""
    assert told(lines.AGX_ORIN.encode(encoding)) == told(lines.AGX_ORIN)


@pytest.mark.parametrize("hostile", ["A 1" * 50_000, "CPU [" + "1%@2," * 30_000, "1/2" * 40_000, "a@1C/" * 20_000])
def test_long_and_repeating_text_is_cut_and_done_with(hostile: str) -> None:
    """Beyond the limit nothing is read: no line of tegrastats is so long."""
    assert parse(hostile + " " + lines.TX1) == parse(hostile[:MAX_CHARACTERS])


def test_numbers_beyond_any_board_are_none_of_its() -> None:
    found = told("RAM 1/2MB VDD_IN 9999999999999mW/1mW cpu@99999C GR3D_FREQ 1%@99999999999")
    assert (found.rails, found.temperatures_c, found.gpu_clock_hz) == ({}, {}, None)


def _flipped(draw: random.Random, line: bytes, other: bytes) -> bytes:
    changed = bytearray(line)
    for _ in range(draw.randint(1, 6)):
        changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def _cut(draw: random.Random, line: bytes, other: bytes) -> bytes:
    start, end = sorted(draw.choices(range(len(line) + 1), k=2))
    return line[start:end]


def _doubled(draw: random.Random, line: bytes, other: bytes) -> bytes:
    start, end = sorted(draw.choices(range(len(line) + 1), k=2))
    return line[:end] + line[start:end] * draw.randint(1, 3) + line[end:]


def _spliced(draw: random.Random, line: bytes, other: bytes) -> bytes:
    return line[: draw.randrange(len(line))] + other[draw.randrange(len(other)) :]


def _lengthened(draw: random.Random, line: bytes, other: bytes) -> bytes:
    """A digit or sign, many times: numbers that no machine word holds."""
    at = draw.randrange(len(line))
    more = draw.choice((b"9", b"-", b"/", b"@", b"[", b"%", b"\xd9\xa3")) * draw.choice((9, 99, 999, 4999))
    return line[:at] + more + line[at:]


MUTATIONS: tuple[Callable[[random.Random, bytes, bytes], bytes], ...] = (
    _flipped,
    _cut,
    _doubled,
    _spliced,
    _lengthened,
)


def test_a_hundred_thousand_mutated_lines_raise_nothing() -> None:
    """Each gives a record or a reason, and what it gives is within bounds and can be printed as JSON."""
    draw = random.Random(4)
    seeds = [line.encode() for line in lines.EVERY]
    given = {Line: 0, NotTegrastats: 0}
    for number in range(100_000):
        mutate = MUTATIONS[number % len(MUTATIONS)]
        found = parse(mutate(draw, draw.choice(seeds), draw.choice(seeds)))
        given[type(found)] += 1
        if isinstance(found, Line):
            assert all(abs(rail.now_w) < 1e6 for rail in found.rails.values())
            assert found.gpu_load is None or 0 <= found.gpu_load <= 1
    assert given[Line] > 50_000
    assert given[NotTegrastats] > 100


@pytest.fixture(scope="module")
def recorded() -> list[dict[str, str]]:
    """Lines that other people recorded or wrote for tests, with their board."""
    if not RECORDED.is_dir():
        pytest.skip(ABSENT)
    return [json.loads(row) for row in (RECORDED / "lines.jsonl").read_text(encoding="utf-8").splitlines()]


def test_recorded_lines_have_the_total_of_their_board(recorded: list[dict[str, str]]) -> None:
    seen = 0
    for row in recorded:
        if row["kind"] in ("recorded", "fixture"):
            summed = next(names for board, names in TOTALS if row["board"].startswith(board))
            expected_w = sum(printed_mw(row["line"], name) for name in summed) * 1e-3
            assert total_w(told(row["line"])) == pytest.approx(expected_w, abs=1e-9), row["line"]
            seen += 1
    assert seen >= 35


def test_recorded_lines_have_memory_and_cores(recorded: list[dict[str, str]]) -> None:
    """Every one tells its memory, as many cores as stand in the brackets, and as many temperatures as end in C."""
    for row in (row for row in recorded if row["kind"] in ("recorded", "fixture")):
        found, text = told(row["line"]), row["line"]
        assert f"RAM {(found.memory_used_bytes or 0) // MEBI}/{(found.memory_total_bytes or 0) // MEBI}MB" in text
        assert len(found.cpu_loads or ()) == text.partition("CPU [")[2].partition("]")[0].count(",") + 1
        assert len(found.temperatures_c) == sum("@" in word and word.endswith("C") for word in text.split())


def test_edited_lines_and_fragments_give_what_they_have(recorded: list[dict[str, str]]) -> None:
    """What others made for their parsers: nothing falls over, and a rail is found where one is printed."""
    for row in (row for row in recorded if row["kind"] not in ("recorded", "fixture")):
        assert bool(told(row["line"]).rails) == ("mW" in row["line"])


def _means(path: Path) -> tuple[int, list[int], list[int]]:
    """Of a log: values whose second figure is the mean of the first ones since a start; where are starts, and gaps."""
    checked, starts, gaps = 0, [], []
    since: list[dict[str, float]] = []
    for index, text in enumerate(path.read_bytes().splitlines()):
        found = told(text)
        if since and _agrees(found, [*since, watts(found)]):
            since.append(watts(found))
        elif _agrees(found, [watts(found)]):
            starts.append(index)
            since = [watts(found)]
        else:
            gaps.append(index)
            since = []
        checked += len(found.rails) if since else 0
    return checked, starts, gaps


def _agrees(found: Line, since: list[dict[str, float]]) -> bool:
    """Whether the second figure of every rail is the mean of the first ones, which are whole mW."""
    means_w = {name: sum(powers_w[name] for powers_w in since) / len(since) for name in found.rails}
    return all(abs((rail.mean_w or 0.0) - means_w[name]) < 0.001 + 1e-9 for name, rail in found.rails.items())


@pytest.mark.parametrize(
    ("log", "values", "starts"),
    [
        ("agx_orin_64gb_llm.log", 129, [0]),
        ("nano_4gb.log", 342, [0]),
        ("tx2_restart.log", 42, [0, 6]),
        ("xavier_nx_burn.log", 309, [0]),
    ],
)
def test_the_second_figure_is_the_mean_since_tegrastats_started(log: str, values: int, starts: list[int]) -> None:
    """Within 1 mW on every value of a log, and begun anew where tegrastats was: so it is of no phase."""
    if not RECORDED.is_dir():
        pytest.skip(ABSENT)
    assert _means(RECORDED / log) == (values, starts, KNOWN_GAPS.get(log, []))
