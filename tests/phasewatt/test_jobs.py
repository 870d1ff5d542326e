"""The state machine of jobs: which steps there are, and that words which are lost, doubled or late change nothing."""

from __future__ import annotations

import random

import pytest

from phasewatt import codec, jobs
from phasewatt.errors import RecordRejected
from phasewatt.jobs import NEXT, Order, Report, Standing, State

FINAL = [state for state in State if state.is_final]


def test_five_states_are_final_and_have_no_step():
    assert {state.value for state in FINAL} == {"succeeded", "failed", "timed out", "rejected", "cancelled"}
    for state in FINAL:
        with pytest.raises(ValueError, match="no step from"):
            jobs.moved(Standing(state=state), State.IN_PROGRESS)


def test_a_job_ends_well_only_by_way_of_its_running():
    with pytest.raises(ValueError, match="no step from queued to succeeded"):
        jobs.moved(Standing(), State.SUCCEEDED)
    begun = jobs.moved(Standing(), State.IN_PROGRESS, cells=4)
    done = jobs.moved(begun, State.SUCCEEDED, done=4)
    assert (done.version, done.cells, done.done) == (2, 4, 4)


def test_words_in_any_order_doubled_and_lost_end_in_the_newest():
    """Whatever the pipe does, who has heard the last word holds what the board holds."""
    draw = random.Random(7)
    for _ in range(300):
        standing, words = Standing(), []
        while not standing.state.is_final:
            standing = jobs.moved(standing, draw.choice(sorted(NEXT[standing.state], key=lambda state: state.value)))
            words.append(jobs.report_of("j", standing))
        heard = [word for word in words[:-1] for _ in range(draw.randint(0, 2))] + [words[-1]]
        draw.shuffle(heard)
        held = Standing()
        for word in heard:
            held = jobs.heard(held, word) or held
        assert (held.state, held.version) == (standing.state, standing.version)


def test_a_cancel_that_came_too_late_is_no_cancel():
    """The board had ended it before: its word stands."""
    wished = jobs.cancelled(Standing(State.IN_PROGRESS, 2), "not wanted")
    assert wished == Standing(State.IN_PROGRESS, 2, cancel=True)
    assert wished.needs_word
    done = jobs.heard(wished, Report(job="j", version=3, state=State.SUCCEEDED))
    assert done.state is State.SUCCEEDED
    assert not done.needs_word


@pytest.mark.parametrize("end", [jobs.cancelled, jobs.expired])
def test_a_board_that_took_what_the_centre_ended_is_told_again(end):
    """Its word had been lost: the job runs, and the wish to end it stays."""
    ended = end(Standing(), "over")
    assert ended.state.is_final
    held = jobs.heard(ended, Report(job="j", version=2, state=State.IN_PROGRESS))
    assert (held.state, held.cancel, held.needs_word) == (State.IN_PROGRESS, True, True)


def test_what_a_board_took_is_not_ended_behind_its_back():
    assert jobs.expired(Standing(State.QUEUED, 1), "over") is None
    assert jobs.cancelled(Standing(State.SUCCEEDED, 4), "over") is None


def test_nothing_follows_a_boards_last_word():
    """A copy of its disk, or a forger."""
    assert jobs.heard(Standing(State.SUCCEEDED, 4), Report(job="j", version=9, state=State.IN_PROGRESS)) is None


@pytest.mark.parametrize(
    "change",
    [
        {"suite": "/etc/passwd"},
        {"suite": "../smoke"},
        {"suite": "http://x/y"},
        {"parameters": {"weights": "path:/models/x"}},
        {"parameters": {"model": "a; rm -rf"}},
        {"parameters": {"model": "https://x"}},
        {"parameters": {"model": {"nested": 1}}},
        {"parameters": {"batch": []}},
        {"parameters": {"$(x)": 1}},
        {"timeout_s": 0},
        {"job": "a/b"},
        {"shell": "reboot"},
    ],
    ids=str,
)
def test_no_path_no_url_no_shell_can_be_said(change):
    order = {"job": "j", "suite": "smoke", **change}
    with pytest.raises(RecordRejected, match="not a valid Order"):
        codec.decode(codec.encode(order), Order)
