"""Suites: what ships loads, lists are swept, and a wrong file is told key, value and expectation."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import cells
from phasewatt.errors import ConfigInvalid

CELL = 'about = "x"\n[[cells]]\nprompt_tokens = 8\noutput_tokens = 4\n'


def test_every_shipped_suite_loads() -> None:
    """Names are file names; labels tell the cells of a suite apart."""
    suites = cells.shipped()
    assert {"smoke", "phases", "engines"} <= set(suites)
    for suite in suites.values():
        assert len({cell.label for cell in suite.cells}) == len(suite.cells) > 0


def test_lists_are_swept_as_a_product() -> None:
    """Two lists of two give four cells."""
    suite = cells.parse("s", CELL + 'threads = [1, 2]\ndtype = ["float32", "bfloat16"]\n', {}, "s.toml")
    assert [(cell.threads, cell.dtype) for cell in suite.cells] == [
        (1, "float32"),
        (1, "bfloat16"),
        (2, "float32"),
        (2, "bfloat16"),
    ]


def test_overrides_win_over_cells_and_cells_over_defaults() -> None:
    """And cells that become equal are measured once."""
    text = CELL.replace("[[cells]]", '[defaults]\nmodel = "stories15m"\nbatch = 3\n[[cells]]\nbatch = [1, 2]')
    assert [cell.batch for cell in cells.parse("s", text, {}, "s.toml").cells] == [1, 2]
    only = cells.parse("s", text, {"batch": 7}, "s.toml").cells
    assert [(cell.batch, cell.model) for cell in only] == [(7, "stories15m")]


def test_a_campaign_is_the_same_while_cells_and_method_are() -> None:
    """The digest ignores the suite's name and notices a changed cell or window."""
    one = cells.parse("one", CELL, {}, "one.toml")
    assert one.digest == cells.parse("two", CELL, {}, "two.toml").digest
    assert one.digest != cells.parse("one", CELL, {"batch": 2}, "one.toml").digest
    assert one.digest != cells.parse("one", CELL.replace("[[", "[measure]\nidle_s = 9\n[["), {}, "one.toml").digest


def _measured(line: str) -> str:
    return CELL.replace("[[", f"[measure]\n{line}\n[[")


def test_how_sure_an_energy_must_be_is_part_of_the_method() -> None:
    """Two percent within half a minute, unless said otherwise; another aim is another campaign."""
    plain = cells.parse("s", CELL, {}, "s.toml")
    assert (plain.measure.energy_target, plain.measure.longest_window_s) == (0.02, 30.0)
    surer = cells.parse("s", _measured("energy_target = 0.005\nlongest_window_s = 120"), {}, "s.toml")
    assert (surer.measure.energy_target, surer.measure.longest_window_s) == (0.005, 120.0)
    longer = cells.parse("s", _measured("longest_window_s = 120"), {}, "s.toml")
    assert len({plain.digest, surer.digest, longer.digest}) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CELL.replace("= 8", '= "512"'), 's.toml: cells[0].prompt_tokens: expected int, got "512"'),
        (CELL.replace("= 8", "= [8, 0]"), "s.toml: cells[0].prompt_tokens: expected int >= 1, got 0"),
        (CELL + 'colour = "red"\n', "s.toml: cells[0]: unknown key `colour`"),
        ('about = "x"\n[[cells]]\noutput_tokens = 4\n', "s.toml: cells[0]: missing required field `prompt_tokens`"),
        ('about = "x"\ncells = []\n', "s.toml: cells: expected array of length >= 1, got []"),
        ("about = \n", "s.toml: not valid TOML"),
        (CELL + f"batch = {list(range(1, 1002))}\n", "s.toml: 1001 cells, more than the 1000"),
        (CELL + 'model = "a\\u001b[31m"\n', "s.toml: cells[0].model: "),
        ("x = " + "[" * 5000, "s.toml: not valid TOML"),
        (CELL + "batch = []\n", "s.toml: no cell is left: an empty list sweeps nothing"),
        (CELL + 'dtype = "int8"\n', "s.toml: cells[0].dtype: "),
        (CELL + 'engine = "vllm"\n', "engine: no engine 'vllm'; known: transformers, onnxruntime, fake"),
        (CELL + 'weights = "meta/llama"\n', "weights: expected random:SEED, path:DIR or hub:OWNER/NAME"),
        (CELL + f'weights = "path:{"d" * 190}/{"e" * 300}"\n', "s.toml: cells[0].weights: "),
        (_measured("energy_target = 0"), "s.toml: measure.energy_target: expected float > 0"),
        (_measured("energy_target = 1.5"), "s.toml: measure.energy_target: expected float <= 1"),
        (_measured('energy_target = "2 %"'), 's.toml: measure.energy_target: expected float, got "2 %"'),
        (_measured("longest_window_s = -1"), "s.toml: measure.longest_window_s: expected float >= 0"),
        (_measured("longest_windows = 1"), "s.toml: measure: unknown key `longest_windows`"),
    ],
)
def test_a_wrong_file_is_one_line_with_key_value_and_expectation(text: str, message: str) -> None:
    """What a user reads names the place."""
    with pytest.raises(ConfigInvalid) as raised:
        cells.parse("s", text, {}, "s.toml")
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_unknown_suite_lists_the_known_ones(tmp_path: Path) -> None:
    """A name that is none, and a file that is not there."""
    with pytest.raises(ConfigInvalid, match=r"no suite 'smok'; known: .*smoke"):
        cells.load("smok", {})
    with pytest.raises(ConfigInvalid, match=r"cannot read .*absent\.toml"):
        cells.load(str(tmp_path / "absent.toml"), {})


def test_a_users_own_file_is_a_suite(tmp_path: Path) -> None:
    """Its name is the file's."""
    (tmp_path / "mine.toml").write_text(CELL)
    suite = cells.load(str(tmp_path / "mine.toml"), {})
    assert (suite.name, len(suite.cells)) == ("mine", 1)
