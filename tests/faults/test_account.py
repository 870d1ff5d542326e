"""The checker of the fault matrix: each thing that could be wrong is seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from phasewatt.fields import Kind
from tests.faults import journal, seeded
from tests.faults.account import account_of
from tests.faults.journal import Journal, Key, Told, row_of

EVENTS = [seeded.event("b", f"event {number}", 0.0) for number in range(4)]
ROWS = [row_of(event) for event in EVENTS]
KEYS = [Key("b", "e", seq) for seq in range(1, 5)]
KEPT = dict(zip(KEYS[:2], ROWS[:2], strict=True))
TOLD = Told(kept=KEPT, open=frozenset({ROWS[2].digest}), refused=frozenset({ROWS[3].digest}))
WHOLE = list(KEPT.items())


def test_all_rows_once_is_no_fault():
    assert account_of([TOLD], WHOLE).faults() == []


def test_a_row_that_was_under_way_when_its_board_died_may_be_there():
    assert account_of([TOLD], [*WHOLE, (KEYS[2], ROWS[2])]).faults() == []


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (WHOLE[:1], "1 missing"),
        ([WHOLE[0], (KEYS[1], ROWS[3])], "1 stored with another body"),
        ([*WHOLE, (KEYS[3], ROWS[0])], "stored twice"),
        ([*WHOLE, WHOLE[0]], "stored twice"),
        ([*WHOLE, (KEYS[3], ROWS[3])], "1 stored and never committed"),
        ([*WHOLE, (KEYS[2], ROWS[2]), (KEYS[3], ROWS[2])], "stored twice"),
    ],
    ids=["missing", "altered", "under two keys", "one key twice", "refused", "open, but twice"],
)
def test_each_fault_is_named(stored, words):
    assert words in account_of([TOLD], stored).faults()[0]


def test_what_was_given_up_may_be_missing_and_no_more():
    found = account_of([TOLD], [])
    assert found.faults({"event": 2}) == []
    assert "1 missing" in found.faults({"event": 1, "trace": 5})[0]


def test_a_journal_tells_kept_open_and_refused_apart(tmp_path: Path):
    """A kill between plan and outcome leaves the plan open, also when it cut the line of the outcome."""
    written = Journal(tmp_path / "j")
    written.plan(EVENTS[:2])
    written.kept("e", [1, 2])
    written.plan([EVENTS[3]])
    written.refused()
    written.plan([EVENTS[2]])
    with (tmp_path / "j").open("a") as file:
        file.write("kep")
    Journal(tmp_path / "j")  # the next life
    assert journal.read(tmp_path / "j", "b") == TOLD


def test_a_seed_draws_all_kinds_and_nothing_twice():
    drawn = seeded.appends("seed", "b", lambda: 0.0)
    rows = [row_of(record) for _ in range(60) for record in next(drawn)]
    assert {row.kind for row in rows} == set(Kind)
    assert len({row.digest for row in rows}) == len(rows)
