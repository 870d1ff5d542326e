"""What is said of a source that fails: each fault once when it begins, once when it is over, and never too much."""

from __future__ import annotations

from agent.meters.faults import Faults


def test_a_fault_is_said_when_it_begins_and_when_it_is_over() -> None:
    faults = Faults()
    for _ in range(3):
        faults.failed("VDD_IN", "its power", "vanished")
    faults.answered("VDD_IN", "its power")
    faults.answered("VDD_IN", "its power")
    assert faults.taken() == (
        "VDD_IN: vanished: its power reads as missing from now on",
        "VDD_IN answers again, after: vanished",
    )


def test_what_was_taken_is_not_said_again() -> None:
    faults = Faults()
    faults.note("the child hung and was started again")
    assert faults.taken() == ("the child hung and was started again",)
    assert faults.taken() == ()


def test_a_part_that_never_failed_says_nothing() -> None:
    faults = Faults()
    faults.answered("gpu0", "power")
    assert faults.taken() == ()


def test_parts_that_fail_for_one_reason_are_one_fault() -> None:
    """A GPU that fell off the bus fails in every call; it answers again when all of them do."""
    faults = Faults()
    faults.failed("gpu0", "power", "GPU is lost")
    faults.failed("gpu0", "clock", "GPU is lost")
    faults.answered("gpu0", "power")
    assert faults.taken() == ("gpu0: GPU is lost: power reads as missing from now on",)
    faults.answered("gpu0", "clock")
    assert faults.taken() == ("gpu0 answers again, after: GPU is lost",)


def test_sources_are_told_apart() -> None:
    faults = Faults()
    faults.failed("gpu0", "power", "GPU is lost")
    faults.failed("gpu1", "power", "GPU is lost")
    faults.answered("gpu0", "power")
    assert [note.partition(" ")[0] for note in faults.taken()] == ["gpu0:", "gpu1:", "gpu0"]


def test_another_reason_is_another_fault() -> None:
    faults = Faults()
    faults.failed("VDD_IN", "its power", "busy")
    faults.failed("VDD_IN", "its power", "vanished")
    faults.answered("VDD_IN", "its power")
    assert [note.rpartition(": ")[2] for note in faults.taken()][-1] == "vanished"


def test_notes_that_nobody_takes_do_not_fill_the_memory() -> None:
    """The first ones are kept: what began it."""
    faults = Faults()
    for number in range(1000):
        faults.note(f"note {number}")
    kept = faults.taken()
    assert kept[0] == "note 0"
    assert len(kept) < 100


def test_a_fault_that_comes_and_goes_is_told_a_few_times() -> None:
    """A loose wire must not fill the log and the trial."""
    faults = Faults()
    for _ in range(100):
        faults.failed("VDD_IN", "its power", "vanished")
        faults.answered("VDD_IN", "its power")
    notes = faults.taken()
    assert len(notes) == 9
    assert notes[-1] == "VDD_IN: vanished: its power comes and goes; this is not told again"
