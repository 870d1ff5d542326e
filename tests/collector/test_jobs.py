"""Jobs in the centre: what is submitted, made due, handed out, heard of and ended; on every database."""

from __future__ import annotations

import contextlib
import json
import random
from pathlib import Path
from typing import Any

import pytest

from collector import app, job_spec, schedules
from collector.dispatching import Dispatcher
from collector.inbox import Message
from collector.job_spec import JobRow
from collector.store import Store, open_store
from phasewatt import codec, jobs, topics
from phasewatt.errors import ConfigInvalid
from phasewatt.jobs import JobGet, JobNotice, JobUpdate, Order, Report, State
from phasewatt.messages import Presence
from tests.fixtures import wire
from tests.fixtures.job_board import JobBoard
from tests.fixtures.records import changed, trial

NOW = 1.76e9
DAY_S = 86400.0
ONCE = 'suite = "smoke"\n[targets]\ndevices = ["board-1"]\n'
NIGHTLY = ONCE + '[schedule]\ncron = "0 2 * * *"\n'


class Centre:
    """A dispatcher with a clock that a test moves; what it publishes is kept."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.now_s = NOW
        self.sent: list[tuple[str, bytes]] = []
        clock = lambda: self.now_s  # noqa: E731 - one line, twice used
        self.dispatcher = Dispatcher(
            store, lambda topic, body: self.sent.append((topic, body)), lambda: True, clock=clock, stopwatch=clock
        )

    def submit(self, text: str, name: str = "j1") -> None:
        job = JobRow(name, job_spec.parse(text, "job.toml"), self.now_s)
        first = [] if job.spec.schedule else job_spec.executions_of(job, None, self.store.devices(), self.now_s)
        assert self.store.jobs.submit(job, first) is None

    def step(self, passed_s: float = 0.0) -> list[JobNotice]:
        self.now_s += passed_s
        self.sent.clear()
        self.dispatcher.step()
        return self.notices()

    def notices(self) -> list[JobNotice]:
        return [codec.decode(codec.unpack(body), JobNotice) for _, body in self.sent]

    def say(self, word: Any, device: str = "board-1") -> list[JobNotice]:
        topic = topics.job_get(device) if isinstance(word, JobGet) else topics.job_update(device)
        self.sent.clear()
        self.dispatcher.answer([Message(topic, codec.encode(word))])
        return self.notices()

    def report(self, job: str, version: int, state: State, **fields: Any) -> list[JobNotice]:
        return self.say(JobUpdate(device="board-1", reports=(Report(job=job, version=version, state=state, **fields),)))

    def states(self) -> dict[str, State]:
        return {each.id: each.standing.state for each in self.store.jobs.executions()}


def orders(notice: JobNotice) -> dict[str, Order]:
    found = [codec.decode(bytes(body), Order) for body in notice.orders]
    return {order.job: order for order in found}


@pytest.fixture
def centre(store: Store) -> Centre:
    """A store that knows one board, which is online and has a label."""
    store.put_status(wire.status(device="board-1"), NOW)
    store.put_facts(wire.facts(device="board-1", labels=("orin",)), NOW)
    return Centre(store)


def test_a_job_is_handed_out_until_the_board_shows_that_it_has_it(centre):
    centre.submit(ONCE)
    (notice,) = centre.step()
    assert orders(notice)["j1"].suite == "smoke"
    assert centre.step(1) == []
    assert len(centre.step(30)) == 1
    (answer,) = centre.report("j1", 1, State.QUEUED, cells=2)
    assert answer.held == {"j1": 1}
    assert centre.step(3600) == []
    centre.report("j1", 2, State.IN_PROGRESS, cells=2, done=1)
    (answer,) = centre.report("j1", 1, State.QUEUED)
    assert answer.held == {"j1": 2}
    centre.report("j1", 3, State.SUCCEEDED, cells=2, done=2)
    assert centre.states() == {"j1": State.SUCCEEDED}


def test_a_board_that_is_off_is_not_called_and_asks_when_it_comes(centre):
    centre.store.put_status(wire.status(device="board-1", presence=Presence.OFFLINE), NOW + 1)
    centre.submit(ONCE)
    assert centre.step(60) == []
    (notice,) = centre.say(JobGet(device="board-1", session="s2"))
    assert list(orders(notice)) == ["j1"]


def test_a_week_off_leaves_what_still_makes_sense(centre):
    """Of a nightly schedule the newest; of what expired, nothing; what does not expire waits."""
    centre.store.put_status(wire.status(device="board-1", presence=Presence.OFFLINE), NOW + 1)
    centre.submit(NIGHTLY, "nightly")
    centre.submit(f"expires_after_s = 3600\n{ONCE}", "short")
    centre.submit(ONCE, "patient")
    for _ in range(7):
        centre.step(DAY_S)
    (notice,) = centre.say(JobGet(device="board-1", session="s2"))
    newest = f"nightly.{schedules.stamp(schedules.newest_due('0 2 * * *', 'UTC', 0, centre.now_s))}"
    assert sorted(orders(notice)) == sorted([newest, "patient"])
    states = centre.states()
    assert states["short"] is State.TIMED_OUT
    assert [state for name, state in states.items() if name.startswith("nightly")].count(State.CANCELLED) == 6
    reasons = {each.standing.reason for each in centre.store.jobs.executions("nightly")}
    assert f"superseded by {newest}" in reasons


def test_a_centre_that_was_away_makes_one_of_what_it_missed(centre):
    centre.submit(NIGHTLY, "nightly")
    centre.step(30 * DAY_S)
    assert len(centre.states()) == 1
    centre.step(1)
    assert len(centre.states()) == 1


def test_two_collectors_on_one_store_make_an_occurrence_once(centre):
    centre.submit(NIGHTLY, "nightly")
    other = Centre(centre.store)
    other.now_s = centre.now_s + DAY_S
    centre.step(DAY_S)
    other.step()
    assert len(centre.states()) == 1


def test_two_stores_name_an_occurrence_alike(tmp_path):
    names = []
    for name in ("a", "b"):
        with contextlib.closing(open_store(f"sqlite:///{tmp_path / name}.db", create=True)) as store:
            store.put_status(wire.status(device="board-1"), NOW)
            made = Centre(store)
            made.submit(NIGHTLY, "nightly")
            made.step(DAY_S + len(names))
            names += made.states()
    assert len(set(names)) == 1


def test_targets_that_are_nobody_are_rejected_with_the_reason(centre):
    centre.submit('suite = "smoke"\n[targets]\ndevices = ["nobody"]\nlabels = ["orin", "none"]')
    found = {each.device: each.standing for each in centre.store.jobs.executions("j1")}
    assert found["nobody"].reason == "no device 'nobody' is known here"
    assert found["label:none"].reason == "no device has the label 'none'"
    assert {device: standing.state for device, standing in found.items()} == {
        "nobody": State.REJECTED,
        "label:none": State.REJECTED,
        "board-1": State.QUEUED,
    }


def test_a_cancel_is_said_until_the_board_has_done_it(centre):
    centre.submit(ONCE)
    centre.report("j1", 1, State.IN_PROGRESS)
    (execution,) = centre.store.jobs.executions("j1")
    assert centre.store.jobs.change(execution, jobs.cancelled(execution.standing, "x"), NOW)
    (notice,) = centre.step()
    assert orders(notice)["j1"].cancel
    assert len(centre.step(31)) == 1
    centre.report("j1", 2, State.CANCELLED)
    assert centre.step(31) == []


def test_a_change_that_did_not_see_the_boards_word_is_refused(centre):
    """The expected revision: whoever is late looks again."""
    centre.submit(ONCE)
    (seen,) = centre.store.jobs.executions("j1")
    centre.report("j1", 1, State.IN_PROGRESS)
    assert not centre.store.jobs.change(seen, jobs.cancelled(seen.standing, "x"), NOW)
    assert centre.states() == {"j1": State.IN_PROGRESS}


def test_words_on_unknown_jobs_get_no_answer_and_change_nothing(centre):
    assert centre.report("of-another-store", 1, State.QUEUED) == []
    assert centre.states() == {}


@pytest.mark.parametrize(
    "payload", [b"{", b"", codec.encode(JobGet(device="other", session="s")), b"x" * (codec.MAX_PAYLOAD_BYTES + 1)]
)
def test_what_is_no_word_is_put_aside_and_counted(centre, payload):
    centre.dispatcher.answer([Message(topics.job_get("board-1"), payload)])
    assert centre.sent == []
    (row,) = centre.store.devices()
    assert row.quarantined == 1


def test_the_trials_of_a_job_are_found_by_it(centre):
    centre.submit(NIGHTLY, "nightly")
    centre.step(DAY_S)
    (name,) = centre.states()
    made = changed(trial(), device="board-1", campaign=name)
    centre.store.ingest(wire.batch_of(made, changed(made, campaign="by hand"), device="board-1"), NOW)
    assert centre.store.jobs.trials_of("nightly") == {(name, "board-1"): 1}
    ((due, found),) = centre.store.jobs.canaries()
    assert (schedules.stamp(due), found.campaign) == (name.partition(".")[2], name)


def test_over_a_pipe_that_loses_doubles_and_delays_two_stores_and_a_board_agree(tmp_path):
    """Real desk, book and worker against two real stores that were given the same jobs: each runs once, all agree."""
    draw = random.Random(11)
    board = JobBoard(tmp_path / "board")
    with contextlib.ExitStack() as stack:
        stores = [
            stack.enter_context(contextlib.closing(open_store(f"sqlite:///{tmp_path / name}.db", create=True)))
            for name in ("a", "b")
        ]
        centres = [Centre(store) for store in stores]
        for centre in centres:
            centre.store.put_status(wire.status(device="board-1"), NOW)
            for number in range(6):
                centre.submit(ONCE.replace("smoke", "quick" if number else "phases"), f"j{number}")
        _converse(board, centres, draw)
        expected = {f"j{number}": State.SUCCEEDED for number in range(1, 6)} | {"j0": State.REJECTED}
        assert [centre.states() for centre in centres] == [expected, expected]
    assert board.outbox.pending() == 5 * 3
    board.outbox.close()


def _converse(board: JobBoard, centres: list[Centre], draw: random.Random) -> None:
    """Let them talk over a lossy pipe until it carries everything, then until nothing is left to say."""
    late: list[tuple[str, bytes]] = []
    for turn in range(160):
        lossy = turn < 100
        if turn % 20 == 0:
            board.desk.begin(f"session-{turn}")
        board.desk.changed()
        spoken = [(message.topic, message.payload) for message in board.desk.owed()]
        for centre in centres:
            centre.now_s += 31
            centre.sent.clear()
            for topic, body in [each for each in spoken if not lossy or draw.random() < 0.3]:
                centre.dispatcher.answer([Message(topic, body)] * draw.choice((1, 2)))
            centre.dispatcher.step()
            late += [each for each in centre.sent if not lossy or draw.random() < 0.3]
        draw.shuffle(late)
        cut = draw.randint(0, len(late)) if lossy else 0
        for _, body in late[cut:]:
            board.desk.hear(body)
        late = late[:cut]
        if draw.random() < 0.3:
            board.worker.turn()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "missing required field `suite`"),
        ('suite = "smoke"\n[targets]', "targets: expected devices or labels"),
        (f'shell = "x"\n{ONCE}', "unknown key"),
        (ONCE.replace("smoke", "../x"), "suite"),
        (f'name = "a/b"\n{ONCE}', "name: expected"),
        (f"priority = 1000\n{ONCE}", "priority: expected int"),
        (f'timeout_s = "1h"\n{ONCE}', "timeout_s: expected float"),
        (f'{ONCE}[schedule]\ncron = "0 25 * * *"', "schedule.cron: Bad hour"),
        (f'{ONCE}[schedule]\ncron = "@daily"', "schedule.cron: expected five fields"),
        (f'{ONCE}[schedule]\ncron = "0 2 * * *"\ntimezone = "Moon"', "schedule.timezone: no time zone"),
        (f'{ONCE}[parameters]\nmodel = "/etc/x"', "parameters"),
        (f"{ONCE}[parameters]\nbatch = {list(range(64))}\nmodel = {['x' * 60] * 60}", "more than 3000 bytes"),
    ],
)
def test_a_wrong_job_file_names_its_key(text, says):
    with pytest.raises(ConfigInvalid, match=says):
        job_spec.parse(text, "job.toml")


def test_a_schedule_keeps_to_its_time_zone_over_the_change_of_clocks():
    """02:30 in Berlin: on the day when the clocks go back it comes once; 24 or 25 hours lie between two nights."""
    saturday = 1_792_800_000.0  # 2026-10-24 00:00 UTC
    dues = [
        schedules.newest_due("30 2 * * *", "Europe/Berlin", 0, saturday + day * DAY_S + 12 * 3600) for day in (0, 1)
    ]
    assert [schedules.stamp(due) for due in dues] == ["20261024T0030Z", "20261025T0030Z"]
    after = schedules.next_due("30 2 * * *", "Europe/Berlin", dues[1])
    assert schedules.stamp(after) == "20261026T0130Z"


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `jobs` on a store that knows one board; gives exit code, output and errors."""
    url = f"sqlite:///{tmp_path / 'c.db'}"
    with contextlib.closing(open_store(url, create=True)) as store:
        store.put_status(wire.status(device="board-1"), NOW)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = app.main(["jobs", *arguments, "--db", url])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_submit_show_list_and_cancel(command, tmp_path):
    (tmp_path / "job.toml").write_text(NIGHTLY + 'timezone = "Europe/Berlin"\n')
    (tmp_path / "once.toml").write_text(ONCE)
    assert command("submit", str(tmp_path / "job.toml"), "--id", "nightly")[0] == 0
    assert command("submit", str(tmp_path / "job.toml"), "--id", "nightly")[0] == 0
    code, _, said = command("submit", str(tmp_path / "once.toml"), "--id", "nightly")
    assert (code, said.count("\n")) == (2, 1)
    assert "asks for something else" in said
    assert command("submit", str(tmp_path / "once.toml"), "--id", "once")[0] == 0
    shown = json.loads(command("show", "once", "--json")[1])
    assert shown["schema"] == "jobs/0"
    assert shown["jobs"][0]["runs"][0]["state"] == "queued"
    assert "cancelled" in command("cancel", "once")[1]
    listed = json.loads(command("list", "--json")[1])["jobs"]
    assert {job["job"]: (job["states"], job["cancelled"]) for job in listed} == {
        "once": ({"cancelled": 1}, True),
        "nightly": ({}, False),
    }
    assert "Europe/Berlin" in command("list")[1]
    command("cancel", "nightly")
    assert json.loads(command("show", "nightly", "--json")[1])["jobs"][0]["next_due_unix_s"] is None


def test_what_cannot_be_is_one_line(command, tmp_path):
    (tmp_path / "nobody.toml").write_text(ONCE.replace("board-1", "nobody"))
    assert command("show", "x") == (2, "", "phasewatt-collector: no job 'x'; `jobs list` shows them\n")
    assert command("submit", str(tmp_path / "none.toml"))[0] == 2
    code, shown, _ = command("submit", str(tmp_path / "nobody.toml"))
    assert code == 1
    assert "no device 'nobody' is known here" in shown
