"""A board's jobs: what is taken, what is refused and why, what a reboot, a cancel and a time-out leave."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent import settings
from agent.job_book import JobBook
from agent.job_rules import JobRefused, JobRules, suite_for
from agent.settings import Settings
from phasewatt import codec, topics
from phasewatt.errors import ConfigInvalid
from phasewatt.fields import Outcome
from phasewatt.jobs import JobGet, JobNotice, JobUpdate, Order, State
from tests.fixtures.job_board import MEMORY_BYTES, JobBoard, close_all

GENERATION = "g1"
RULES = JobRules(suites=("smoke",), engines=("fake", "transformers"))


def order(job: str = "j1", suite: str = "quick", **fields: Any) -> Order:
    return Order(job=job, suite=suite, **fields)


def notice(*orders: Any, held: dict[str, int] | None = None, **fields: Any) -> bytes:
    bodies = tuple(msgspec.Raw(codec.encode(each)) for each in orders)
    whole = {"device": "board-1", "generation": GENERATION, "orders": bodies, "held": held or {}, **fields}
    return codec.encode(JobNotice(**whole))


def said(board: JobBoard) -> dict[str, tuple[State, str | None]]:
    """What the board says of its jobs now."""
    assert board.desk is not None
    board.desk.changed()
    words = [message for message in board.desk.owed() if message.topic == topics.job_update("board-1")]
    reports = [report for word in words for report in codec.decode(codec.unpack(word.payload), JobUpdate).reports]
    return {report.job: (report.state, report.reason) for report in reports}


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    close_all()


@pytest.fixture
def board(tmp_path: Path) -> Any:
    made = JobBoard(tmp_path / "board")
    yield made
    made.outbox.close()


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (order(suite="phases"), r"suite 'phases' is not allowed"),
        (order(suite="smoke", parameters={"batch": "four"}), 'batch: expected int, got "four"'),
        (order(suite="smoke", parameters={"batch": True}), "batch: expected int, got true"),
        (order(suite="smoke", parameters={"measure": 1}), "parameters.measure: no parameter of a job"),
        (order(suite="smoke", parameters={"model": "llama-3-8b"}), r"model 'llama-3-8b' is not allowed.*jobs.models"),
        (order(suite="smoke", parameters={"engine": "served"}), "engine"),
        (order(suite="smoke", parameters={"weights": "path:x"}), "random:SEED alone"),
        (order(suite="smoke", parameters={"weights": "hub:x"}), "random:SEED alone"),
        (order(suite="smoke", parameters={"batch": tuple(range(1, 60))}), "118 cells, more than the 100"),
    ],
)
def test_what_is_not_allowed_is_refused_with_the_reason(asked, why):
    with pytest.raises(JobRefused, match=why):
        suite_for(asked, RULES, MEMORY_BYTES)


def test_nothing_is_allowed_until_the_operator_says_so():
    with pytest.raises(JobRefused, match=r"allows, in jobs\.suites: none"):
        suite_for(order(suite="smoke"), Settings().jobs, MEMORY_BYTES)


def test_a_model_that_cannot_fit_is_refused_with_both_figures():
    rules = msgspec.structs.replace(RULES, models=("llama-3-8b",))
    asked = order(suite="smoke", parameters={"model": "llama-3-8b"})
    with pytest.raises(JobRefused, match=r"its weights take 32.1 GB, and this board has 8.0 GB"):
        suite_for(asked, rules, MEMORY_BYTES)


def test_what_is_allowed_becomes_a_suite():
    suite = suite_for(order(suite="smoke", parameters={"batch": (1, 2), "engine": "fake"}), RULES, MEMORY_BYTES)
    assert {(cell.engine, cell.batch) for cell in suite.cells} == {("fake", 1), ("fake", 2)}


def test_a_job_is_taken_run_and_told_of_until_it_is_heard(board):
    board.desk.hear(notice(order()))
    assert said(board) == {"j1": (State.QUEUED, None)}
    assert board.worker.turn()
    assert said(board) == {"j1": (State.SUCCEEDED, None)}
    version = board.book.find("j1").standing.version
    board.desk.hear(notice(held={"j1": version - 1}))
    assert said(board) == {"j1": (State.SUCCEEDED, None)}
    board.desk.hear(notice(held={"j1": version}))
    assert said(board) == {}
    assert board.outbox.pending() == 3


def test_a_job_that_two_stores_ask_for_runs_once_and_both_hear_of_it(board):
    """The second notice comes while it waits, the third when it is over."""
    board.desk.hear(notice(order()))
    board.desk.hear(notice(order(), generation="g2"))
    assert board.worker.turn()
    board.desk.hear(notice(order(), generation="g3"))
    assert not board.worker.turn()
    assert board.outbox.pending() == 3
    version = board.book.find("j1").standing.version
    for generation in ("g1", "g2"):
        board.desk.hear(notice(held={"j1": version}, generation=generation))
        assert said(board)
    board.desk.hear(notice(held={"j1": version}, generation="g3"))
    assert not said(board)


def test_a_job_goes_on_in_the_cell_where_it_was(tmp_path):
    """The agent is stopped in the second cell; the next life measures the other two, under the same campaign."""
    board = JobBoard(tmp_path)
    board.desk.hear(notice(order()))
    ran = []

    def dies(request: Any, tell: Any, stop: Any, campaigns: Any = None) -> None:
        ran.append(request)
        run_one = board.execute

        def stop_after(report: Any) -> None:
            tell(report)
            if type(report).__name__ == "CellDone":
                raise KeyboardInterrupt

        run_one(request, stop_after, stop, campaigns)

    board.worker._execute = dies
    with pytest.raises(KeyboardInterrupt):
        board.worker.turn()
    board.outbox.close()
    again = JobBoard(tmp_path)
    assert again.book.find("j1").standing.state is State.IN_PROGRESS
    assert again.worker.turn()
    assert said(again) == {"j1": (State.SUCCEEDED, None)}
    items = [item for batch in again.outbox.batches("board-1", "b", again.host.clock()) for item in batch.items]
    trials = [msgspec.json.decode(bytes(item.body)) for item in items]
    assert len({each["cell"] for each in trials}) == len(trials) == 3
    assert {each["campaign"] for each in trials} == {"j1"}


def test_a_job_is_over_although_its_end_was_not_committed(board):
    """Killed after the campaign was closed and before the job was: nothing is measured again."""
    board.desk.hear(notice(order()))
    board.worker.turn()
    with board.outbox.transaction() as db:
        db.execute("UPDATE job SET state = 'in progress'")
    assert board.worker.turn()
    assert board.outbox.pending() == 3
    assert said(board)["j1"][0] is State.SUCCEEDED


def test_a_cell_that_takes_the_board_down_each_time_ends_the_job(board):
    board.desk.hear(notice(order()))
    board.book.change("j1", State.IN_PROGRESS)
    board.book.note_run("j1", 1.0, 6)
    assert board.worker.turn()
    assert said(board)["j1"] == (State.FAILED, "this board went down 6 times within one cell (jobs.most_restarts)")


@pytest.mark.parametrize(("outcome", "state"), [(Outcome.FAILED, State.FAILED), (Outcome.SKIPPED, State.FAILED)])
def test_a_job_without_a_good_cell_failed(board, outcome, state):
    board.outcome = outcome
    board.desk.hear(notice(order()))
    board.worker.turn()
    assert said(board)["j1"] == (state, f"of 3 cells 3 {outcome.value}; see its trials")


def test_a_cancel_ends_what_waits_and_what_runs(board):
    board.desk.hear(notice(order("waits")))
    board.desk.hear(notice(order("waits", cancel=True)))
    assert board.worker.turn()
    assert said(board)["waits"] == (State.CANCELLED, "cancelled before it ended")
    board.cell_s = 30.0
    board.worker.start()
    board.desk.hear(notice(order("runs")))
    _until(lambda: board.book.find("runs").standing.state is State.IN_PROGRESS)
    board.desk.hear(notice(order("runs", cancel=True)))
    _until(lambda: board.book.find("runs").standing.state is State.CANCELLED)
    board.worker.stop()
    assert "while it ran" in said(board)["runs"][1]


def test_a_job_whose_time_is_over_is_ended_and_a_longer_one_is_not_allowed(board):
    board.cell_s = 30.0
    board.desk.hear(notice(order(timeout_s=0.3)))
    assert board.worker.turn()
    assert said(board)["j1"] == (State.TIMED_OUT, "it ran for 0.3 s; what was finished is kept")
    assert board.rules.timeout_s(order(timeout_s=7 * 86400.0)) == board.rules.longest_s


def test_a_stopped_agent_leaves_its_job_to_the_next_life(board):
    board.cell_s = 30.0
    board.worker.start()
    board.desk.hear(notice(order()))
    _until(lambda: board.book.find("j1").standing.state is State.IN_PROGRESS)
    board.worker.stop()
    assert board.book.find("j1").standing.state is State.IN_PROGRESS


def test_the_most_urgent_goes_first_and_what_was_begun_before_it(board):
    board.desk.hear(notice(order("a"), order("b", priority=5), order("c", priority=9)))
    board.book.change("a", State.IN_PROGRESS)
    assert [taken.job for taken in board.book.open()] == ["a", "c", "b"]


def test_a_full_queue_refuses(tmp_path):
    board = JobBoard(tmp_path, most_queued=1)
    board.desk.hear(notice(order("a"), order("b")))
    assert said(board)["b"] == (State.REJECTED, "1 jobs wait on this board already (jobs.most_queued)")


def test_one_bad_order_costs_no_other(board):
    """It is answered by its name; where it has none, an event tells of it."""
    bad = {"job": "bad", "suite": "smoke", "run": "rm -rf /"}
    board.desk.hear(notice({"shell": "x"}, bad, order("good")))
    assert said(board)["bad"][0] is State.REJECTED
    assert "unknown field `run`" in said(board)["bad"][1]
    assert said(board)["good"][0] is State.QUEUED
    assert "job-refused" in board.events[0]


@pytest.mark.parametrize("payload", [b"", b"{", b"\x78\x9c garbage", notice(device="other"), b"[]" * 200_000])
def test_what_is_no_notice_changes_nothing_and_is_told_once(board, payload):
    board.desk.hear(payload)
    board.desk.hear(payload)
    assert board.book.open() == []
    assert len(board.events) == 1


def test_no_sender_fills_the_disk_with_what_is_rejected(board, monkeypatch):
    monkeypatch.setattr("agent.job_book.MOST_KEPT", 5)
    board.desk.hear(notice(order("good")))
    for number in range(20):
        board.desk.hear(notice(order(f"forged-{number}", suite="phases")))
    assert len(said(board)) == 6
    assert [taken.job for taken in board.book.open()] == ["good"]


def test_a_job_that_this_board_lost_is_said_to_be(board):
    """Its outbox was set aside; the store holds its third word."""
    board.desk.hear(notice(order(held=3)))
    assert said(board)["j1"][0] is State.FAILED
    assert not board.worker.turn()


def test_a_board_whose_clock_is_not_set_waits_and_then_refuses(tmp_path):
    now = [1e9]
    board = JobBoard(tmp_path, synchronised=False, clock=lambda: now[0])
    board.desk.hear(notice(order()))
    assert not board.worker.turn()
    assert said(board)["j1"] == (State.QUEUED, "waits: this board's clock is not set (not synchronised)")
    now[0] += 601
    board.worker.turn()
    state, reason = said(board)["j1"]
    assert state is State.REJECTED
    assert "set up NTP" in reason


def test_a_clock_that_is_set_in_time_lets_the_job_begin(tmp_path):
    board = JobBoard(tmp_path, synchronised=False)
    board.desk.hear(notice(order()))
    assert not board.worker.turn()
    board.host.synchronised = True
    assert board.worker.turn()
    assert said(board)["j1"][0] is State.SUCCEEDED


def test_expiry_is_what_is_left_by_the_centre_s_clock(board):
    """No clock of the board is compared: the time that is left counts from when the notice came."""
    board.desk.hear(notice(order("over", expires_in_s=-1.0), order("soon", expires_in_s=0.01)))
    assert said(board)["over"][0] is State.TIMED_OUT
    time.sleep(0.02)
    board.worker.turn()
    assert said(board)["soon"] == (State.TIMED_OUT, "it expired before this board began it")


def test_after_a_reboot_expiry_rests_on_a_set_clock_or_on_the_centre(tmp_path):
    now = [1e9]
    board = JobBoard(tmp_path, clock=lambda: now[0])
    board.desk.hear(notice(order(expires_in_s=100.0)))
    rebooted = JobBook(board.outbox, "boot-2", stopwatch=lambda: 0.0)
    taken = rebooted.find("j1")
    assert rebooted.is_expired(taken, clock_is_set=True) is False
    assert rebooted.is_expired(taken, clock_is_set=False) is None
    now[0] += 101
    assert rebooted.is_expired(taken, clock_is_set=True) is True
    rebooted.meet(order(expires_in_s=50.0), GENERATION)
    assert rebooted.is_expired(rebooted.find("j1"), clock_is_set=False) is False


def test_a_board_asks_when_it_comes(board):
    board.desk.begin("session-1")
    (message,) = board.desk.owed()
    assert message.topic == topics.job_get("board-1")
    assert codec.decode(message.payload, JobGet) == JobGet(device="board-1", session="session-1")
    assert list(board.desk.owed()) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('labels = ["no spaces"]', "labels"),
        ("[jobs]\nlongest_s = 0", "jobs.longest_s"),
        ('[jobs]\nshell = "yes"', "unknown key"),
        ('[jobs]\nsuites = "smoke"', "jobs.suites: expected array"),
    ],
)
def test_a_wrong_allow_list_names_its_key(tmp_path, text, says):
    (tmp_path / "agent.toml").write_text(text)
    with pytest.raises(ConfigInvalid, match=says):
        settings.load(tmp_path / "agent.toml", must_exist=True)


def _until(condition: Any) -> None:
    deadline_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
