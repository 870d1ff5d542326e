"""What operators look at: a real Prometheus asks a real collector, and is put each query of dashboard and alerts."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy

from tests.fixtures.broker import free_port
from tests.fixtures.sensors import recording

COMPOSE = Path(__file__).resolve().parents[2] / "deploy/compose"
PASSWORD = "correct horse battery staple"
PATIENCE_S = 60.0


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: apt-get install prometheus")
    return found


def shipped(name: str) -> Any:
    """A file of the compose folder, read."""
    text = (COMPOSE / name).read_text()
    if name.endswith(".json"):
        return json.loads(text)
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: pip install PyYAML")
    return yaml.safe_load(text)


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = shipped("grafana/dashboards/fleet.json")["panels"]
    return found


def expressions() -> list[str]:
    """All that is asked of Prometheus."""
    targets = [
        target["expr"].replace("$board", ".*") for panel in panels() for target in panel["targets"] if "expr" in target
    ]
    rules = [rule["expr"] for group in shipped("prometheus/alerts.yml")["groups"] for rule in group["rules"]]
    assert targets and rules
    return [*targets, *rules]


class Prometheus(NamedTuple):
    """One that runs."""

    port: int

    def ask(self, path: str, **arguments: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(arguments)}"
        with urllib.request.urlopen(url, timeout=20) as said:
            answer = json.load(said)
        assert answer["status"] == "success", answer
        return answer["data"]

    def value(self, query: str) -> float | None:
        """Of the only series that answers; None: none does."""
        found = self.ask("query", query=query)["result"]
        assert len(found) <= 1, found
        return float(found[0]["value"][1]) if found else None

    def until(self, query: str) -> float:
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(OSError):
                if (found := self.value(query)) is not None:
                    return found
            assert time.monotonic() < deadline_s, f"no answer to {query}"
            time.sleep(0.3)


@contextlib.contextmanager
def prometheus(folder: Path, target: str, password: Path) -> Iterator[Prometheus]:
    """One with the shipped settings, but for where collector and password are, and how often it asks."""
    executable, port = program("prometheus"), free_port()
    text = (COMPOSE / "prometheus/prometheus.yml").read_text()
    for shipped_words, ours in (
        ("collector:9464", target),
        ("/run/secrets/scrape_password", str(password)),
        ("scrape_interval: 30s", "scrape_interval: 1s"),
        ("scrape_timeout: 25s", "scrape_timeout: 1s"),
        ("evaluation_interval: 30s", "evaluation_interval: 1s"),
    ):
        assert shipped_words in text
        text = text.replace(shipped_words, ours)
    (folder / "prometheus.yml").write_text(text)
    shutil.copy(COMPOSE / "prometheus/alerts.yml", folder)
    command = [executable, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb"]
    with (folder / "log").open("w") as log:
        child = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
        try:
            yield Prometheus(port)
        finally:
            child.terminate()
            child.wait(30)


@pytest.mark.broker
def test_prometheus_reads_the_fleet_with_what_is_shipped(fleet, tmp_path):
    """Power of a board arrives there; no query of dashboard or alerts is in error, or asks for a figure that is not."""
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    password.chmod(0o600)
    arguments = ("--broker", "embedded:0", "--web", ":0", "--web-password-file", str(password))
    collector = fleet.started("collector.app", "serve", "--db", fleet.db, *arguments)
    found = re.match(r"collector ready: broker (\S+?),.* page http://(127\.0\.0\.1:\d+)/$", collector.line)
    assert found, collector.line
    recording(tmp_path / "r", [10.0] * 20000)
    fleet.daemon("board", "--device", "board-7", "--broker", found[1], "--meter", f"replay:{tmp_path / 'r'}")
    with prometheus(tmp_path, found[2], password) as asked:
        assert asked.until('phasewatt_board_power_watts{board="board-7",scope="module"}') == pytest.approx(10.0)
        assert asked.until("phasewatt_board_online") == 1.0
        known = asked.ask("targets/metadata", match_target='{job="phasewatt"}')
        names = {each["metric"] for each in known} | {f"{each['metric']}_total" for each in known}
        for query in expressions():
            asked.ask("query", query=query)
            assert {name for name in re.findall(r"phasewatt_\w+", query) if name not in names} == set(), query
        for panel in panels():
            if panel["type"] == "stat":  # of what is always known
                assert asked.value(panel["targets"][0]["expr"]) is not None, panel["title"]
        rules = [rule for group in asked.ask("rules")["groups"] for rule in group["rules"]]
        assert {rule["health"] for rule in rules} <= {"ok", "unknown"}, rules  # unknown: not looked at yet
        assert collector.end() == 0
        assert asked.until('up{job="phasewatt"} == 0') == 0.0


def test_settings_and_rules_are_what_prometheus_takes():
    for check in (("config", "--syntax-only", "prometheus.yml"), ("rules", "alerts.yml")):
        command = [program("promtool"), "check", *check]
        done = subprocess.run(command, cwd=COMPOSE / "prometheus", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


RULES = """
rule_files: [RULES]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {series: 'phasewatt_board_silent{board="a"}', values: "0x9 1x99"}
      - {series: 'phasewatt_board_silent{board="b"}', values: "0x99"}
      - {series: 'phasewatt_board_records_dropped_total{board="a", kind="telemetry"}', values: "5x99"}
      - {series: 'phasewatt_board_records_dropped_total{board="b", kind="telemetry"}', values: "0x49 9x50"}
      - {series: 'phasewatt_board_online{board="a"}', values: "0x99"}
      - {series: 'phasewatt_board_online{board="b"}', values: "0x99"}
      - {series: 'phasewatt_board_revoked{board="a"}', values: "0x99"}
      - {series: 'phasewatt_board_revoked{board="b"}', values: "1x99"}
      - {series: 'phasewatt_board_records_lost{board="a"}', values: "3x99"}
      - {series: 'phasewatt_board_records_pending{board="a"}', values: "0x99"}
      - {series: 'phasewatt_board_records_lost{board="b"}', values: "3x99"}
      - {series: 'phasewatt_board_records_pending{board="b"}', values: "1x99"}
      - {series: 'phasewatt_board_certificate_expiry_timestamp_seconds{board="a"}', values: "3888000x99"}
      - {series: 'phasewatt_board_certificate_expiry_timestamp_seconds{board="b"}', values: "9888000x99"}
    alert_rule_test:
      - eval_time: 90m
        alertname: BoardSilent
        exp_alerts:
          - exp_labels: {severity: warning, board: a}
            exp_annotations: {summary: "a is online and sends nothing. See to its link and its power."}
      - eval_time: 90m
        alertname: RecordsGivenUp
        exp_alerts:
          - exp_labels: {severity: warning, board: b, kind: telemetry}
            exp_annotations:
              summary: b gave up telemetry records at its disk cap. Give it a link, or a larger cap.
      - eval_time: 90m
        alertname: RecordsLost
        exp_alerts:
          - exp_labels: {severity: warning, board: a}
            exp_annotations:
              summary: "a has nothing left to send, and 3 records neither came nor were given up: see its log."
      - eval_time: 90m
        alertname: BoardOffline
        exp_alerts:
          - exp_labels: {severity: warning, board: a}
            exp_annotations: {summary: a has been offline for an hour.}
      - eval_time: 90m
        alertname: CertificateEnds
        exp_alerts:
          - exp_labels: {severity: warning, board: a}
            exp_annotations:
              summary: "The certificate of a ends in 44d 22h 30m 0s: phasewatt-collector enroll a --renew, and
                join on the board."
"""


def test_alerts_fire_for_the_boards_that_want_a_person_and_for_no_other(tmp_path):
    file = tmp_path / "rules.yml"
    file.write_text(RULES.replace("RULES", str(COMPOSE / "prometheus/alerts.yml")))
    done = subprocess.run([program("promtool"), "test", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_panels_lie_side_by_side_and_ask_sources_that_are_there():
    sources = {source["uid"] for source in shipped("grafana/datasources/phasewatt.yaml")["datasources"]}
    assert {panel["datasource"]["uid"] for panel in panels()} == sources
    assert len({panel["id"] for panel in panels()}) == len(panels())
    places = [(panel["title"], panel["gridPos"]) for panel in panels()]
    for (one, a), (other, b) in itertools.combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        below = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or below, (one, other)
    assert all(place["x"] + place["w"] <= 24 for _, place in places)


@pytest.mark.postgres
def test_queries_to_the_database_find_what_is_stored(new_database):
    from collector.store import open_store
    from tests.fixtures import records, wire

    url = new_database()
    with contextlib.closing(open_store(url, create=True)) as store:
        store.quarantine("board-7", "t", b"x", "not JSON", 1.7e9)
        store.ingest(wire.batch_of(trial := records.trial(), device=trial.device), 1.7e9)
    queries = {
        panel["title"]: target["rawSql"] for panel in panels() for target in panel["targets"] if "rawSql" in target
    }
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        found = {title: connection.exec_driver_sql(query).all() for title, query in queries.items()}
    engine.dispose()
    assert [row[:2] for row in found["Trials"]] == [(trial.device, trial.suite)]
    assert [row[:3] for row in found["Put aside, by reason"]] == [("board-7", "not JSON", 1)]
