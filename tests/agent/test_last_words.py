"""Why an engine's process died, from the end of what it said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.last_words import LastWords
from agent.orders import Described, Resolve
from agent.stopping import Stop
from agent.worker_process import WorkerProcess
from phasewatt.errors import DoesNotFit, EngineFailed

ORDER = Resolve(model="stories15m", weights="random:1", accelerator="cpu")
SLACK_S = 60.0


@pytest.fixture
def dying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of an engine's code, found before ours by the child alone: it dies as the test writes it."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "sitecustomize.py").write_text("import dying")
    return tmp_path / "dying.py"


def _died(code: str, file: Path) -> EngineFailed:
    file.write_text(f"import os, sys\nif '-m' in sys.orig_argv:\n    {code}")
    process = WorkerProcess("fake", Stop())
    try:
        with pytest.raises(EngineFailed) as told:
            process.ask(ORDER, Described, SLACK_S)
    finally:
        process.close()
    return told.value


def test_what_a_process_said_last_is_its_reason(dying: Path) -> None:
    """The last line, cut, and without characters that would steer a terminal."""
    told = _died("os.write(2, b'first\\nworse\\x1b[31m: ' + b'x' * 9000 + b'end\\n\\n'); os._exit(7)", dying)
    assert not isinstance(told, DoesNotFit)
    assert str(told).startswith("the engine's process ended with code 7: xxx")
    assert len(str(told)) < 400


def test_a_process_that_ran_out_of_memory_does_not_fit(dying: Path) -> None:
    """By the driver's words, which come before others."""
    told = _died("os.write(2, b'NvMapMemAllocInternalTagged: 1075072515 error 12\\nAborted\\n'); os.abort()", dying)
    assert isinstance(told, DoesNotFit)
    assert "out of memory: NvMapMemAllocInternalTagged: 1075072515 error 12" in str(told)


def test_a_process_that_said_nothing_has_its_code(dying: Path) -> None:
    assert str(_died("os._exit(3)", dying)) == "the engine's process ended with code 3"
    assert isinstance(_died("os.kill(os.getpid(), 9)", dying), DoesNotFit)


def test_a_child_that_says_a_lot_never_waits_for_a_reader() -> None:
    """Far more than a pipe holds; the end is kept, in bounds."""
    read, write = os.pipe()
    words = LastWords(os.fdopen(read, "rb", buffering=0))
    for number in range(2000):
        os.write(write, b"%04d %s\n" % (number, b"y" * 250))
    os.close(write)
    kept = words.text()
    words.close()
    assert kept.endswith("1999 " + "y" * 250)
    assert len(kept) <= 4096


def test_a_pipe_that_something_else_holds_open_does_not_hang() -> None:
    read, write = os.pipe()
    words = LastWords(os.fdopen(read, "rb", buffering=0))
    os.write(write, b"said\n")
    assert words.text() == "said"
    os.close(write)
    words.close()
