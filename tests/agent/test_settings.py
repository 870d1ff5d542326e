"""The settings of the agent: where the kernel's files are, and which meters that leaves."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from agent import meters, settings
from agent.commands import options
from agent.settings import Settings
from phasewatt.errors import ConfigInvalid


def _given(tmp_path: Path, *arguments: str) -> Settings:
    parser = argparse.ArgumentParser()
    parser.add_argument("--state-dir", type=Path, default=tmp_path / "state")
    options.add_settings(parser)
    return options.settings_of(parser.parse_args(arguments))


def _file(tmp_path: Path, text: str) -> str:
    (tmp_path / "agent.toml").write_text(text)
    return str(tmp_path / "agent.toml")


@pytest.fixture
def board(tmp_path: Path) -> Path:
    folder = tmp_path / "a board"
    folder.mkdir()
    return folder


def test_without_a_word_of_it_this_host_is_measured(tmp_path: Path) -> None:
    assert _given(tmp_path).root == "/"


def test_a_root_may_stand_in_the_file_or_in_a_flag_and_the_flag_wins(tmp_path: Path, board: Path) -> None:
    file = _file(tmp_path, f'root = "{board}"\n')
    assert _given(tmp_path, "--config", file).root == str(board)
    assert _given(tmp_path, "--config", file, "--root", str(tmp_path)).root == str(tmp_path)


def test_a_relative_root_is_made_whole(tmp_path: Path, board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sampler's process reads there too, wherever it runs."""
    monkeypatch.chdir(tmp_path)
    assert _given(tmp_path, "--root", "a board").root == str(board)


@pytest.mark.parametrize("name", ["absent", "file"])
def test_a_root_that_is_no_folder_is_refused_by_its_key(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigInvalid, match=r"^root: expected the folder of a simulated board, got .*" + name):
        _given(tmp_path, "--root", str(tmp_path / name))
    with pytest.raises(ConfigInvalid, match=r"^root: expected the folder"):
        settings.load(Path(_file(tmp_path, f'root = "{tmp_path / name}"\n')), must_exist=True)


def test_a_simulated_board_is_read_by_the_meters_that_it_has(board: Path) -> None:
    """What this host has besides is not of that board."""
    assert meters.asked_for(None, str(board)) == (f"ina3221:{board}", f"tegrastats:{board}")
    assert meters.asked_for(None) == ("nvml", "rapl", "ina3221", "tegrastats")


def test_meters_that_are_named_are_read_of_the_board_in_question(board: Path) -> None:
    """Of the simulated one where it has them, whose name they may carry already; and none is none."""
    assert meters.asked_for(("rapl",), str(board)) == ("rapl",)
    assert meters.asked_for(("tegrastats",), str(board)) == (f"tegrastats:{board}",)
    assert meters.asked_for(("ina3221:/another",), str(board)) == ("ina3221:/another",)
    assert meters.asked_for(("ina3221", "rapl")) == ("ina3221", "rapl")
    assert meters.asked_for((meters.NO_METER,), str(board)) == ()


def test_jtop_is_never_chosen_by_itself() -> None:
    """Its licence is a user's choice."""
    assert "jtop" in meters.METERS
    assert "jtop" not in meters.asked_for(None)
