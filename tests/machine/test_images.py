"""The container images, really built and run, on a base made by debootstrap: no registry is reached."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.machine import kits, roots

pytestmark = [pytest.mark.images, pytest.mark.timeout(900)]

BASE = "localhost/phasewatt-test-base"
_PATIENCE_S = 90.0


class Buildah(NamedTuple):
    """The builder with a storage of its own."""

    storage: Path

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(arguments)}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout.strip()

    def command(self, *arguments: str) -> list[str]:
        places = ["--root", str(self.storage / "root"), "--runroot", str(self.storage / "run")]
        return ["buildah", *places, *arguments]

    def size_mb(self, image: str) -> float:
        """Of all layers together."""
        found = json.loads(self("images", "--json", image))[0]["size"]
        number, unit = found.split()
        return float(number) * {"KB": 1e-3, "MB": 1.0, "GB": 1e3}[unit]


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    roots.need("debootstrap", "buildah")
    made = Buildah(tmp_path_factory.mktemp("storage"))
    root = roots.debian("amd64")
    container = made("from", "scratch")
    made("copy", "--quiet", container, str(root), "/")
    made("commit", "--quiet", "--rm", container, BASE)
    yield made
    made("rm", "--all")
    made("rmi", "--all", "--force")


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the images are built from."""
    there = kits.make(tmp_path_factory.mktemp("context") / "kit")
    command = [sys.executable, "tools/wheelhouse.py", "--collector", "--out", str(there / "wheelhouse-collector")]
    command += ["--machine", "x86_64", "--only", "3.11"]
    done = subprocess.run(command, cwd=kits.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return there


def built(buildah: Buildah, context: Path, name: str, figure: Callable[[str], None]) -> str:
    image = f"localhost/phasewatt-test-{name}"
    file = str(context / "deploy/images" / f"{name}.Dockerfile")
    began_s = time.monotonic()
    arguments = ("--isolation", "chroot", "--build-arg", f"BASE={BASE}", "--format", "docker", "-f", file, "-t", image)
    buildah("bud", "--quiet", *arguments, str(context))
    added = buildah.size_mb(image) - buildah.size_mb(BASE)
    figure(f"image {name}: built in {time.monotonic() - began_s:.0f} s, {added:.0f} MB over its base")
    return image


class Running:
    """A container's program, as its image says to start it."""

    def __init__(self, buildah: Buildah, image: str, *arguments: str) -> None:
        self._buildah = buildah
        self.config = json.loads(buildah("inspect", "--type", "image", image))["Docker"]["config"]
        self.container = buildah("from", image)
        self._process = subprocess.Popen(
            buildah.command(
                "run", "--isolation", "chroot", self.container, "--", *self.config["Entrypoint"], *arguments
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def line(self, begins: str) -> str:
        """The first line that begins so."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(begins):
                return line
        raise AssertionError(f"no line {begins!r}, and it ended")

    def inside(self, *command: str) -> int:
        """Exit status of a command beside it."""
        run = self._buildah.command("run", "--isolation", "chroot", self.container, "--", *command)
        return subprocess.run(run, capture_output=True, check=False).returncode

    def end(self) -> None:
        """Stop it."""
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()


def test_the_agents_image_reports_and_is_healthy(
    buildah: Buildah, context: Path, fleet: Any, figure: Callable[[str], None]
) -> None:
    image = built(buildah, context, "agent", figure)
    _, broker = fleet.collector()
    state = ("--state-dir", "/var/lib/phasewatt-agent")
    running = Running(buildah, image, "serve", *state, "--broker", broker, "--device", "contained-1")
    try:
        assert running.config["User"] == "10001:10001"
        assert running.config["Cmd"] == ["serve", *state]
        assert "contained-1" in running.line("agent ready")
        health = running.config["Healthcheck"]["Test"][1:]
        assert running.inside(*health) == 0
        assert running.inside("test", "-w", "/opt/phasewatt") != 0
        deadline_s = time.monotonic() + _PATIENCE_S
        while "contained-1" not in fleet.collect("devices", "--json").stdout:
            assert time.monotonic() < deadline_s, "it did not report"
            time.sleep(0.5)
    finally:
        running.end()
    assert running.inside(*health) == 1


def test_the_collectors_image_serves(buildah: Buildah, context: Path, figure: Callable[[str], None]) -> None:
    image = built(buildah, context, "collector", figure)
    running = Running(buildah, image, *serve("embedded:0"))
    try:
        assert running.config["User"] == "10002:10002"
        assert "broker 127.0.0.1:" in running.line("collector ready")
        broker = ("/var/lib/phasewatt-broker", "--host", "collector.example", "--host", "broker")
        assert running.inside("phasewatt-collector", "broker-config", *broker) == 0
        assert running.inside("phasewatt-collector", "enroll", "orin-lab-1", "--out", "/tmp/orin-lab-1.bundle") == 0
        for file in named_by_the_compose_file():
            assert running.inside("test", "-r", file) == 0, file
    finally:
        running.end()


def named_by_the_compose_file() -> list[str]:
    settings = (kits.ROOT / "deploy/compose/collector.toml").read_text()
    return [*re.findall('_file = "(.+)"', settings), "/var/lib/phasewatt-broker/mosquitto.conf"]


def serve(broker: str) -> tuple[str, ...]:
    return ("serve", "--db", "sqlite:////var/lib/phasewatt-collector/collector.db", "--broker", broker)
