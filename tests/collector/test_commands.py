"""The collector's command line as a process: what it prints, how it ends, and that no input gives a traceback."""

from __future__ import annotations

import contextlib
import csv
import gzip
import json
import os
import queue
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from msgspec import Raw
from paho.mqtt.enums import CallbackAPIVersion

from collector.store import Store, open_store
from phasewatt import codec, topics
from phasewatt.fields import Kind, Outcome, Phase, Scope
from phasewatt.messages import CollectorState, ExportHeader, Presence
from phasewatt.metrics import METRICS
from tests.fixtures import records, wire
from tests.fixtures.wire import DEVICE

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "collector.app"]
INVALID = 2
INTERRUPTED = 130
TIMEOUT_S = 60


class Shell:
    """Runs the program with a state directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "state"
        self.environment = {**os.environ, "XDG_STATE_HOME": str(self.state), "PYTHONWARNINGS": "error"}

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PROGRAM, *map(str, arguments)],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def works(self, *arguments: object) -> str:
        """What a command printed that must succeed without a word of complaint."""
        done = self.run(*arguments)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def fails(self, *arguments: object) -> str:
        """The one line with which a command must fail."""
        done = self.run(*arguments)
        assert done.returncode in {1, INVALID}
        assert done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith("phasewatt-collector: ")
        return done.stderr

    @contextlib.contextmanager
    def running(self, *arguments: object) -> Iterator[subprocess.Popen[str]]:
        """A command as a process, which is gone afterwards."""
        process = subprocess.Popen(
            [*PROGRAM, *map(str, arguments)],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            yield process
            process.kill()

    @contextlib.contextmanager
    def store(self) -> Iterator[Store]:
        """The default database."""
        (self.state / "phasewatt").mkdir(parents=True, exist_ok=True)
        with contextlib.closing(open_store(f"sqlite:///{self.state}/phasewatt/collector.db", create=True)) as store:
            yield store


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def filled(shell: Shell) -> Shell:
    """Two trials, one of them failed, one simulated; a status, facts, and something put aside."""
    runs = (records.phase_run(Phase.PREFILL, [0.5, 0.25, 1.0]),)
    good = records.trial(
        runs=runs,
        conditions=records.conditions(simulated=True, versions={"torch": "2.13", "python": "3.11"}),
        energy=(records.phase_energy(Phase.PREFILL, 100.0),),
        energy_reason=None,
    )
    failed = records.trial(
        outcome=Outcome.FAILED, reason="out of memory\x1b[31m", work=None, started_unix_s=1e300, cell="large"
    )
    with shell.store() as store:
        store.put_facts(wire.facts(), 1.8e9)
        store.put_status(wire.status(), 1.8e9)
        store.ingest(wire.batch_of(good, failed), 1.8e9)
        store.quarantine(DEVICE, "topic", b"", "broken", 1.8e9)
    return shell


def client(port: int) -> mqtt.Client:
    connected = mqtt.Client(CallbackAPIVersion.VERSION2)
    connected.connect("127.0.0.1", port)
    connected.loop_start()
    return connected


def test_serve_says_when_it_is_ready_and_stops_cleanly(shell):
    with shell.running("serve", "--broker", "embedded:0") as process:
        ready, _, port_and_db = process.stdout.readline().partition("127.0.0.1:")
        assert ready == "collector ready: broker "
        port, _, db = port_and_db.partition(", db ")
        assert db.strip() == f"sqlite:///{shell.state}/phasewatt/collector.db"
        board = client(int(port))
        for number in range(20):
            batch = wire.batch_of(*wire.events(5), first_seq=1 + 5 * number)
            board.publish(topics.batch(DEVICE, batch.kind), codec.encode(batch), 1).wait_for_publish(TIMEOUT_S)
        board.disconnect()
        board.loop_stop()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=TIMEOUT_S)
        assert (process.returncode, out) == (0, "")
        assert "Traceback" not in err
    with shell.store() as store:
        assert store.receipt_for(DEVICE, wire.EPOCH).high_water > 0


@pytest.mark.broker
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 0), (signal.SIGKILL, -9)])
def test_collector_that_ends_is_seen_offline_however_it_ends(shell, mosquitto, number, code):
    seen: queue.Queue[Presence] = queue.Queue()
    with shell.running("serve", "--broker", f"{mosquitto.host}:{mosquitto.port}") as process:
        assert process.stdout.readline().startswith("collector ready")
        board = client(mosquitto.port)
        board.on_message = lambda *parts: seen.put(codec.decode(parts[2].payload, CollectorState).presence)
        board.subscribe(topics.collector_state("+"), 1)
        assert seen.get(timeout=TIMEOUT_S) is Presence.ONLINE
        process.send_signal(number)
        assert process.wait(TIMEOUT_S) == code
        assert seen.get(timeout=TIMEOUT_S) is Presence.OFFLINE
        board.disconnect()
        board.loop_stop()


def test_serve_can_be_stopped_while_its_broker_is_away(shell):
    with shell.running("serve", "--broker", "127.0.0.1:1") as process:
        assert "cannot be reached: [Errno 111] Connection refused" in process.stderr.readline()
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0
        assert process.stdout.read() == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--broker", "embedded:0.0.0.0:1883"], "run mosquitto"),
        (["--broker", "nonsense"], "expected embedded, embedded:PORT or HOST:PORT, got 'nonsense'"),
        (["--broker", "h:1", "--ca-file", "/absent.pem"], "broker.ca_file: expected a file, got '/absent.pem'"),
        (["--config", "/absent.toml"], "/absent.toml"),
        (["--broker", "embedded:0", "--db", "nonsense"], "expected sqlite:///FILE"),
        (["--broker", "embedded:0", "--db", "sqlite:////absent/a.db"], "directory /absent does not exist"),
    ],
)
def test_serve_refuses_in_one_line(shell, arguments, words):
    assert words in shell.fails("serve", *arguments)


@pytest.mark.parametrize("arguments", [["devices"], ["trials"], ["export", "a.jsonl"]])
def test_reading_makes_no_database(shell, arguments):
    assert "`phasewatt-collector serve` or `import` makes one" in shell.fails(*arguments)
    assert list(shell.state.rglob("*.db")) == []


def test_devices_as_json(filled):
    """The status that was put in is of a moment long ago or ahead, so its remarks depend on today and stand apart."""
    answer = json.loads(filled.works("devices", "--json"))
    answer["devices"][0].pop("remarks")
    answer["devices"][0].pop("silent_since_unix_s")
    refusal = {"reason": "broken", "topic": "topic", "occurrences": 1, "first_unix_s": 1.8e9, "last_unix_s": 1.8e9}
    assert answer == {
        "schema": "devices/0",
        "devices": [
            {
                "device": DEVICE,
                "model": "a board",
                "module": None,
                "carrier": None,
                "presence": "online",
                "first_seen_unix_s": 1.8e9,
                "last_seen_unix_s": 1.8e9,
                "trials": 2,
                "pending": 3,
                "dropped": {"trace": 2},
                "labels": [],
                "telemetry_interval_s": 120.0,
                "certificate_ends_unix_s": None,
                "quarantined": 1,
                "key_conflicts": 0,
                "missing": 0,
                "withheld": 0,
                "contenders": [],
                "clock": {
                    "synchronised": True,
                    "offset_bound_s": 0.01,
                    "sent_unix_s": wire.STARTED_UNIX_S + 1,
                    "received_unix_s": 1.8e9,
                },
                "epochs": [
                    {
                        "epoch": wire.EPOCH,
                        "high_water": 2,
                        "stored": 2,
                        "rejected": 0,
                        "withheld": 0,
                        "missing": 0,
                        "dropped": 2,
                        "removed": 0,
                        "first_unix_s": 1.8e9,
                        "last_unix_s": 1.8e9,
                    }
                ],
                "refusals": [refusal],
            }
        ],
        "refusals": [],
    }


def test_what_no_device_is_named_in_is_counted_too(shell):
    with shell.store() as store:
        for number in range(3):
            store.quarantine(None, "phasewatt/v1/-/status", b"", f"topic is no board's {number % 2}", 1.8e9)
    assert "of no device: 3 messages put aside, most often: topic is no board's 0" in shell.works("devices")
    answer = json.loads(shell.works("devices", "--json"))
    assert [(row["reason"], row["occurrences"]) for row in answer["refusals"]] == [
        ("topic is no board's 0", 2),
        ("topic is no board's 1", 1),
    ]


def test_refusals_stand_below_the_table(filled):
    assert f"{DEVICE}: 1 refused, most often (1): broken" in filled.works("devices")


def test_telemetry_by_the_hour_is_of_whole_records_and_of_what_others_left(shell):
    hour = 1_700_000_000 // 3600 * 3600
    with shell.store() as store:
        for number in range(2):
            record = wire.telemetry(started_unix_s=hour + 60.0 * number)
            store.ingest(wire.batch_of(record, first_seq=number + 1), 1.8e9 + number)
        store.remove(Kind.TELEMETRY, 1.8e9 + 0.5)
        (left,) = [each for each in store.telemetry_hours(DEVICE) if each.name == store.telemetry_hours(DEVICE)[0].name]
    answer = json.loads(shell.works("telemetry", DEVICE, "--all", "--json"))
    assert answer["schema"] == "telemetry/0"
    (shown,) = [each for each in answer["hours"] if each["name"] == left.name]
    assert (shown["hour_unix_s"], shown["samples"]) == (hour, 2 * left.samples)
    assert (shown["mean"], shown["highest"]) == (left.mean, left.highest)
    assert left.name in shell.works("telemetry", DEVICE, "--all")
    assert "no telemetry of that time" in shell.works("telemetry", DEVICE)
    assert "is known" in shell.fails("telemetry", "board-9")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--share", "centres"], "the embedded broker has no shared subscriptions"),
        (["--share", "a/b", "--broker", "127.0.0.1:1"], "--share: expected up to 64 letters"),
        (["--name", "#"], "--name: expected up to 64 letters"),
    ],
)
def test_serving_in_a_group_needs_a_broker_and_names(shell, arguments, words):
    assert words in shell.fails("serve", *arguments)


def test_devices_as_a_table(filled):
    header, line, *_ = filled.works("devices").splitlines()
    assert " ".join(header.split()) == "DEVICE MODEL PRESENCE LAST SEEN TRIALS PENDING MISSING DROPPED QUARANTINED"
    assert line.split()[:3] == [DEVICE, "a", "board"]
    assert line.split()[3].startswith("online")
    assert line.split()[-5:] == ["2", "3", "0", "2", "1"]


def test_devices_tell_what_stands_out_below_the_table(shell):
    with shell.store() as store:
        store.put_status(wire.status(telemetry_interval_s=60.0), 1.7e9)
        store.ingest(wire.batch([wire.item(9, wire.events(1)[0])]), 1.7e9)
    _, line, silent, missing = shell.works("devices").splitlines()
    assert " online, silent " in line
    assert silent.startswith(f"{DEVICE}: silent since ")
    assert (
        missing == f"{DEVICE}: epoch {wire.EPOCH}: 8 rows up to 9 missing, 2 given up at its disk cap, 3 may still come"
    )


def test_db_check_of_a_sound_store(filled):
    assert "sound: 2 trial, 0 trace, 0 telemetry, 0 event records" in filled.works("db", "check")
    answer = json.loads(filled.works("db", "check", "--json"))
    assert (answer["schema"], answer["sound"], answer["faults"], answer["gaps"]) == ("db-check/0", True, [], [])
    assert answer["devices"][0]["epochs"][0]["stored"] == 2


def test_db_check_tells_faults_and_gaps(shell):
    with shell.store() as store:
        store.ingest(wire.batch([wire.item(seq, wire.events(seq)[-1]) for seq in (1, 5)]), 1.7e9)
        with store._writing() as connection:
            connection.exec_driver_sql("DELETE FROM event WHERE record_id = (SELECT min(record_id) FROM event)")
    done = shell.run("db", "check")
    assert done.returncode == 1
    assert "its event is not there" in done.stderr
    assert f"missing: {DEVICE} epoch {wire.EPOCH} rows 2 to 4" in done.stdout
    assert "NOT SOUND" in done.stdout


def test_db_vacuum_removes_what_is_too_old(shell):
    with shell.store() as store:
        store.ingest(wire.batch_of(wire.telemetry()), 1.7e9)
        store.ingest(wire.batch_of(*wire.events(2), first_seq=2), 1.7e9)
    assert "1 telemetry records went by age" in shell.works("db", "vacuum")
    assert "2 event records went by age" in shell.works("db", "vacuum", "--keep-event", "1")
    assert "sound: 0 trial, 0 trace, 0 telemetry, 0 event records" in shell.works("db", "check")


def test_db_vacuum_obeys_its_settings(shell, tmp_path):
    with shell.store() as store:
        store.ingest(wire.batch_of(wire.telemetry()), 1.7e9)
    config = tmp_path / "collector.toml"
    config.write_text('[retention]\ntelemetry_days = "forever"\n')
    assert "telemetry" not in shell.works("db", "vacuum", "--config", config)
    assert "1 telemetry" in shell.works("db", "vacuum", "--config", config, "--keep-telemetry", "3")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["vacuum", "--keep-telemetry", "soon"], "--keep-telemetry: expected days"),
        (["vacuum", "--keep-trace", "0"], "--keep-trace: expected days"),
        (["vacuum", "--keep-trace", "nan"], "--keep-trace: expected days"),
        (["check"], "does not exist"),
        (["upgrade"], "does not exist"),
        (["restore", "absent.db"], "absent.db does not exist"),
        (["restore", "pyproject.toml"], "is not a phasewatt database"),
        (["backup", "a.db", "--db", "postgresql://h/n"], "pg_dump"),
    ],
)
def test_db_refuses_in_one_line(shell, arguments, words):
    if arguments[0] == "vacuum":
        shell.store().__enter__().close()
    assert words in shell.fails("db", *arguments)


def test_db_backup_is_put_back_under_a_serving_collector(shell, tmp_path):
    """Also by hand: the copy has a generation of its own from the beginning."""
    copy = tmp_path / "copy.db"
    with shell.store() as store, shell.running("serve", "--broker", "embedded:0") as process:
        assert process.stdout.readline().startswith("collector ready")
        before = store.ingest(wire.batch_of(*wire.events(3)), 1.8e9).generation
        assert str(copy) in shell.works("db", "backup", copy)
        store.ingest(wire.batch([wire.item(4, wire.events(4)[-1])]), 1.8e9)
        assert "boards will send again" in shell.works("db", "restore", copy)
        receipt = store.receipt_for(DEVICE, wire.EPOCH)
        assert receipt.high_water == 3
        again = store.ingest(wire.batch([wire.item(4, wire.events(4)[-1])]), 1.8e9)
        assert again.ranges == ((4, 4),)
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0
    with contextlib.closing(open_store(f"sqlite:///{copy}")) as put_back_by_hand:
        assert len({before, receipt.generation, put_back_by_hand.generation}) == 3
    assert sorted(path.name for path in tmp_path.glob("copy*")) == ["copy.db"]
    assert "sound" in shell.works("db", "check")


def test_db_restore_refuses_a_damaged_copy_and_leaves_the_store(filled, tmp_path):
    copy = tmp_path / "copy.db"
    filled.works("db", "backup", copy)
    whole = copy.read_bytes()
    copy.write_bytes(whole[:4096] + b"\xa5" * (len(whole) - 4096))
    assert str(copy) in filled.fails("db", "restore", copy)
    assert "sound: 2 trial" in filled.works("db", "check")


def test_db_restore_without_a_file_draws_a_generation(filled):
    with filled.store() as store:
        before = store.generation
        assert "new generation" in filled.works("db", "restore")
        assert store.receipt_for(DEVICE, wire.EPOCH).generation != before


def test_trials_as_json(filled):
    answer = json.loads(filled.works("trials", "--json"))
    assert answer["schema"] == "trials/0"
    failed, good = answer["trials"]
    assert (failed["outcome"], failed["model"], failed["batch"]) == ("failed", None, None)
    assert good["simulated"] is True
    assert (good["model"], good["prompt_tokens"], good["output_tokens"], good["engine"]) == ("tiny", 4, 3, "fake")
    assert (good["origin"], good["conditions"]["engine"]) == ("store", "fake")
    (energy,) = good["energy"]
    assert (energy["scope"], energy["energy_j"], energy["doubts"], energy["check"]) == ("module", 100.0, [], None)


def test_trials_as_a_table_say_simulated_and_steer_no_terminal(filled):
    out = filled.works("trials")
    failed, good = out.splitlines()[1:]
    assert "\x1b" not in out
    assert "out of memory\ufffd[31m" in failed
    assert good.endswith("simulated")
    assert "4/3" in good


def test_trials_are_chosen_by_options(filled):
    assert "no trial matches" in filled.works("trials", "--engine", "none such")
    chosen = json.loads(filled.works("trials", "--json", "--outcome", "ok", "--limit", "1", "--suite", "smoke"))
    assert [trial["outcome"] for trial in chosen["trials"]] == ["ok"]


def test_export_comes_back_as_it_was(filled, tmp_path):
    file = tmp_path / "all.jsonl.gz"
    assert "2 records written" in filled.works("export", file)
    assert gzip.decompress(file.read_bytes()).startswith(b'{"phasewatt":"export"')
    other = f"sqlite:///{tmp_path}/other.db"
    assert "2 records stored" in filled.works("import", "--db", other, file)
    assert "2 records stored" in filled.works("import", "--db", other, file)
    with filled.store() as store, contextlib.closing(open_store(other)) as copy:
        assert list(copy.batches()) == list(store.batches())


def test_export_of_one_device_holds_no_other(filled, tmp_path):
    with filled.store() as store:
        store.ingest(wire.batch_of(*wire.events(3, device="board-2"), device="board-2"), 1.8e9)
    assert "3 records written" in filled.works("export", "--device", "board-2", tmp_path / "one.jsonl")
    assert "3 records stored" in filled.works("import", "--db", f"sqlite:///{tmp_path}/b.db", tmp_path / "one.jsonl")


def test_csv_has_a_row_for_each_trial_and_metric(filled, tmp_path):
    assert "2 trials written" in filled.works("export", "--format", "csv", tmp_path / "all.csv")
    with (tmp_path / "all.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(METRICS)
    by_metric = {row["metric"]: row for row in rows if row["outcome"] == "ok"}
    latency = by_metric["prefill_latency"]
    assert (latency["median"], latency["minimum"], latency["maximum"], latency["values"]) == ("0.5", "0.25", "1.0", "3")
    assert (latency["unit"], latency["scope"], latency["simulated"], latency["prompt_tokens"]) == ("s", "", "True", "4")
    assert latency["versions"] == "python=3.11;torch=2.13"
    energy = by_metric["prefill_energy"]
    assert (energy["median"], energy["scope"], energy["half_width"]) == ("50.0", Scope.MODULE.value, "0.5")
    assert by_metric["itl"]["median"] == ""
    assert "not run" in by_metric["itl"]["missing_because"]


def test_export_that_cannot_be_written_leaves_the_old_file(filled, tmp_path):
    assert "cannot be written: No such file or directory" in filled.fails("export", tmp_path / "absent" / "a.jsonl")
    (tmp_path / "taken").mkdir()
    assert "cannot be written" in filled.fails("export", tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def exported(*lines: bytes) -> bytes:
    return b"".join(line + b"\n" for line in lines)


HEADER = codec.encode(ExportHeader(phasewatt="export", schema=codec.SCHEMA, device=DEVICE))
FIRST = codec.encode(wire.batch_of(*wire.events(4)))
SECOND = codec.encode(wire.batch_of(*wire.events(3), first_seq=5))
BAD_ITEM = codec.encode(wire.batch([wire.item(5, wire.telemetry(), body=Raw(b"{}")), wire.item(6, wire.events(6)[-1])]))
FAULTS = {
    "empty": (b"", "bad.jsonl is empty; expected a file written by `phasewatt-agent export`", 0),
    "text": (b"hello\n", "bad.jsonl line 1: no phasewatt export", 0),
    "binary": (bytes(range(256)) * 100, "bad.jsonl line 1: no phasewatt export", 0),
    "another export": (HEADER.replace(b'"export"', b'"archive"'), "bad.jsonl line 1: no phasewatt export", 0),
    "header is a batch": (exported(FIRST), "bad.jsonl line 1: no phasewatt export", 0),
    "cut short": (exported(HEADER, FIRST, SECOND)[:-20], "bad.jsonl line 3: not a valid Batch", 4),
    "a line damaged": (exported(HEADER, FIRST, b"{]", SECOND), "bad.jsonl line 3: not a valid Batch", 4),
    "a line empty": (exported(HEADER, FIRST, b"", SECOND), "bad.jsonl line 3: not a valid Batch", 4),
    "another device": (
        exported(HEADER, FIRST, SECOND.replace(b"board-1", b"board-2")),
        "bad.jsonl line 3: a batch of board-2 in an export of board-1",
        4,
    ),
    "endless line": (exported(HEADER, FIRST, b" " * codec.MAX_INFLATED_BYTES * 2), "bad.jsonl line 3: ", 4),
    "gzip cut short": (gzip.compress(exported(HEADER, FIRST, SECOND))[:-30], "data is damaged or cut short", None),
    "gzip damaged": (gzip.compress(b"hello")[:10] + b"\xff" * 30, "line 1: the compressed data is damaged", 0),
    "not gzip after all": (b"\x1f\x8bhello", "bad.jsonl line 1: the compressed data is damaged", 0),
    "a bad record": (exported(HEADER, FIRST, BAD_ITEM), "5 records stored, 1 put aside, the first: not a valid e", 5),
}


@pytest.mark.parametrize(("content", "words", "stored"), FAULTS.values(), ids=FAULTS)
def test_faulty_file_is_named_with_its_line_and_what_was_good_stays(shell, tmp_path, content, words, stored):
    file = tmp_path / "bad.jsonl"
    file.write_bytes(content)
    line = shell.fails("import", file)
    assert words in line
    with shell.store() as store:
        held = sum(len(batch.items) for batch in store.batches())
    assert stored in {None, held}
    if stored:
        assert f"{held} records" in line


@pytest.mark.parametrize("path", ["absent.jsonl", "."])
def test_path_that_is_no_file_is_named(shell, tmp_path, path):
    assert str(tmp_path / path) in shell.fails("import", tmp_path / path)


def test_fault_in_one_file_keeps_no_other_out(shell, tmp_path):
    good = tmp_path / "good.jsonl"
    good.write_bytes(exported(HEADER, FIRST))
    done = shell.run("import", tmp_path / "absent.jsonl", good)
    assert done.returncode == INVALID
    assert "4 records stored" in done.stdout


def test_gzipped_file_is_known_by_its_content(shell, tmp_path):
    file = tmp_path / "export.jsonl"
    file.write_bytes(gzip.compress(exported(HEADER, FIRST)))
    assert "4 records stored" in shell.works("import", file)


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["trials", "--limit", "0"], ["trials", "--outcome", "fine"]])
def test_wrong_usage_is_explained(shell, arguments):
    done = shell.run(*arguments)
    assert done.returncode == INVALID
    assert "usage: " in done.stderr
    assert "Traceback" not in done.stderr


def test_interrupted_import_says_so_in_one_line_and_keeps_what_it_stored(shell, tmp_path):
    file = tmp_path / "long.jsonl"
    (event,) = wire.events(1)
    file.write_bytes(exported(HEADER, *(codec.encode(wire.batch_of(event, first_seq=seq)) for seq in range(1, 20_000))))
    with shell.store() as store, shell.running("import", file) as process:
        while not store.receipt_for(DEVICE, wire.EPOCH).high_water:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=TIMEOUT_S)
        assert (process.returncode, out, err) == (INTERRUPTED, "", "phasewatt-collector: interrupted\n")
        assert 0 < store.receipt_for(DEVICE, wire.EPOCH).high_water < 19_999


def test_reader_that_leaves_early_gives_no_traceback(filled):
    command = f"{' '.join(PROGRAM)} trials --json | true"
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=filled.environment, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
