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
    sweeps = {"input-sweep", "output-sweep", "batch-sweep", "context-sweep"}
    others = {"smoke", "phases", "precision", "sustained", "paper", "several-gpus", "engines", "served", "ceilings"}
    assert others | sweeps == set(suites)
    for suite in suites.values():
        assert len({cell.label for cell in suite.cells}) == len(suite.cells)
        assert bool(suite.cells) != (suite.name == "ceilings")


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
        ('about = "x"\ncells = []\n', "s.toml: cells: expected one or more, or ceilings = true in [measure], got none"),
        ("about = \n", "s.toml: not valid TOML"),
        (CELL + f"batch = {list(range(1, 1002))}\n", "s.toml: 1001 cells, more than the 1000"),
        (CELL + 'model = "a\\u001b[31m"\n', "s.toml: cells[0].model: "),
        ("x = " + "[" * 5000, "s.toml: not valid TOML"),
        (CELL + "batch = []\n", "s.toml: no cell is left: an empty list sweeps nothing"),
        (CELL + 'dtype = "int8"\n', "s.toml: cells[0].dtype: "),
        (CELL + 'engine = "vllm"\n', "engine: no engine 'vllm'; known: transformers, onnxruntime, served, fake"),
        (CELL + 'weights = "meta/llama"\n', "weights: expected random:SEED, path:DIR or hub:OWNER/NAME"),
        (CELL + f'weights = "path:{"d" * 190}/{"e" * 300}"\n', "s.toml: cells[0].weights: "),
        (_measured("energy_target = 0"), "s.toml: measure.energy_target: expected float > 0"),
        (_measured("energy_target = 1.5"), "s.toml: measure.energy_target: expected float <= 1"),
        (_measured('energy_target = "2 %"'), 's.toml: measure.energy_target: expected float, got "2 %"'),
        (_measured("longest_window_s = -1"), "s.toml: measure.longest_window_s: expected float >= 0"),
        (_measured("longest_windows = 1"), "s.toml: measure: unknown key `longest_windows`"),
        (_measured("repeats = 0"), "s.toml: measure.repeats: expected int >= 1, got 0"),
        (_measured("repeats = 1000"), "s.toml: measure.repeats: expected int <= 100, got 1000"),
        (_measured("cool_to_c = 0"), "s.toml: measure.cool_to_c: expected float > 0"),
        (_measured('course_s = "5s"'), 's.toml: measure.course_s: expected float, got "5s"'),
        (CELL + 'phases = "prefill and decode"\n', "s.toml: cells[0].phases: "),
        (CELL + 'phases = ""\n', "s.toml: cells[0].phases: "),
        ("seed = -1\n" + CELL, "s.toml: seed: expected int >= 0, got -1"),
        ("seeds = 1\n" + CELL, "s.toml: unknown key `seeds`"),
    ],
)
def test_a_wrong_file_is_one_line_with_key_value_and_expectation(text: str, message: str) -> None:
    """What a user reads names the place."""
    with pytest.raises(ConfigInvalid) as raised:
        cells.parse("s", text, {}, "s.toml")
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_a_cell_measures_all_phases_unless_it_names_some() -> None:
    """In their own order whatever that of the words; the label says so, and else is as it always was."""
    plain = cells.parse("s", CELL, {}, "s.toml").cells[0]
    assert [phase.value for phase in plain.measured] == ["prefill", "decode", "request"]
    assert "only" not in plain.label
    some = cells.parse("s", CELL + 'phases = "decode,prefill"\n', {}, "s.toml").cells[0]
    assert [phase.value for phase in some.measured] == ["prefill", "decode"]
    assert some.label == f"{plain.label} prefill+decode only"
    swept = cells.parse("s", CELL + 'phases = ["prefill", "decode"]\n', {}, "s.toml").cells
    assert [cell.phases for cell in swept] == ["prefill", "decode"]


def test_a_load_is_told_by_what_is_no_prompt() -> None:
    """Lengths, batch, threads and phases are measured on one model; mode and attention are another load."""
    suite = cells.parse("s", CELL + 'batch = [1, 2]\nthreads = [1, 2]\nmode = ["eager", "graph"]\n', {}, "s.toml")
    assert len({cell.load_key for cell in suite.cells}) == 2


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


def test_how_a_model_is_run_is_part_of_the_label_where_it_is_not_as_usual() -> None:
    """So that labels of cells that were measured before stay as they are."""
    plain = cells.parse("s", CELL, {}, "s.toml").cells[0]
    assert plain.label == "smollm2-135m random:7 float32 batch=1 8/4 transformers eager sdpa auto seed=1"
    chosen = {"tf32": True, "fused_weights": True, "prefill_chunk": 4, "experts": "batched_mm", "mode": "compiled"}
    tuned = cells.parse("s", CELL, chosen, "s.toml").cells[0]
    assert "transformers compiled sdpa auto tf32 fused chunk=4 experts=batched_mm seed=1" in tuned.label
    shared = cells.parse("s", CELL, {"tensor_parallel": 2}, "s.toml").cells[0]
    assert "sdpa auto tensor=2 seed=1" in shared.label
    with pytest.raises(ConfigInvalid, match="tensor_parallel: not with engine 'fake'; engine transformers shares"):
        cells.parse("s", CELL, {"tensor_parallel": 2, "engine": "fake"}, "s.toml")


def test_a_chunk_of_no_tokens_is_refused() -> None:
    """By its key."""
    with pytest.raises(ConfigInvalid, match="prefill_chunk"):
        cells.parse("s", CELL + "prefill_chunk = 0\n", {}, "s.toml")
