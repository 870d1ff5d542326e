"""An agent that was really installed, offline and under a root of its own: one story, in the order of the file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.hosts import INSTALLER, content, install, refused

pytestmark = pytest.mark.timeout(600)  # an environment is made, which takes seconds where nothing else runs
STATE = "var/lib/phasewatt-agent"
BY_STEPS = """
root="" dry_run=false user=nobody state={state} program={program}
. {here}/installer/say.sh
. {here}/installer/service.sh
runuser() {{ shift 3; "$@"; }}
show_doctor
"""


@pytest.fixture(scope="module")
def board(tmp_path_factory, wheels, enroll) -> Path:
    """The root of a host whose agent joined by a bundle that ends in 20 days."""
    root = tmp_path_factory.mktemp("board")
    (root / "etc").mkdir()
    bundle = enroll("board-2", days=20)
    done = install(root, "--wheelhouse", wheels, "--bundle", bundle, "--python", sys.executable)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "this board is board-2, and delivers to collector.example:8883" in done.stdout
    return root


def again(board: Path, wheels: Path, *options: object) -> subprocess.CompletedProcess[str]:
    return install(board, "--wheelhouse", wheels, "--python", sys.executable, *options)


def program(board: Path) -> Path:
    return board / "opt/phasewatt/current/bin/phasewatt-agent"


def test_the_program_answers(board):
    said = subprocess.run([program(board), "--version"], capture_output=True, text=True, check=True)
    assert said.stdout.startswith("phasewatt-agent ")


def test_a_bundle_is_joined_under_the_names_that_the_board_will_have(board):
    joined = (board / STATE / "joined.toml").read_text()
    assert f'ca_file = "/{STATE}/identity/ca.pem"' in joined and str(board) not in joined
    assert (board / STATE / "identity/board.pem").stat().st_mode & 0o777 == 0o600


def test_the_installer_ends_with_what_doctor_says_of_the_certificate(board, enroll, tmp_path):
    """Its last step, with the installed agent, on this host."""
    join = [program(board), "join", enroll("board-3", days=20), "--state-dir", tmp_path]
    subprocess.run(join, capture_output=True, check=True)
    steps = BY_STEPS.format(state=tmp_path, program=program(board), here=INSTALLER.parent)
    done = subprocess.run(["sh", "-c", steps], capture_output=True, text=True, check=False)
    said = " ".join(done.stdout.split())
    assert "what this host can measure" in said
    assert "identity: certificate of board-3, good until" in said and "days from now" in said
    assert "-> phasewatt-collector enroll board-3 --renew, and phasewatt-agent join here" in said


def test_a_second_run_keeps_what_is_there(board, wheels):
    before = (board / STATE / "joined.toml").read_text()
    done = again(board, wheels)
    assert done.returncode == 0 and "is here already" in done.stdout and "stays as it is" in done.stdout
    assert (board / STATE / "joined.toml").read_text() == before


def test_a_bundle_of_another_board_changes_nothing(board, wheels, enroll):
    (board / STATE / "device").write_text("board-2\n")  # as the first start leaves it
    before = content(board)
    done = again(board, wheels, "--bundle", enroll("board-4"))
    refused(done, "a bundle for board-4, and this board is board-2", "enroll board-2", board, before)


def test_a_bundle_that_join_refuses_is_not_put_in_use(board, wheels, enroll, tmp_path):
    """Damaged, which `join` alone sees."""
    damaged = tmp_path / "damaged.bundle"
    damaged.write_text(enroll("board-5").read_text().replace("board-5", "board-2"))
    before = (board / STATE / "joined.toml").read_text()
    done = again(board, wheels, "--bundle", damaged)
    assert done.returncode == 1 and "damaged or changed" in done.stderr and "nothing was put in use" in done.stderr
    assert (board / STATE / "joined.toml").read_text() == before


def test_secrets_that_settings_name_become_credentials(board, wheels, tmp_path):
    (tmp_path / "word").write_text("secret\n")
    config = tmp_path / "agent.toml"
    config.write_text('device = "board-2"\n[broker]\naddress = "127.0.0.1:1"\nusername = "u"\npassword_file = "word"\n')
    done = again(board, wheels, "--config", config)
    assert done.returncode == 0, done.stdout + done.stderr
    secret = board / "etc/phasewatt/credentials/password_file"
    assert secret.read_text() == "secret\n" and secret.stat().st_mode & 0o777 == 0o600
    settings = (board / STATE / "agent.toml").read_text()
    assert 'password_file = "/run/credentials/phasewatt-agent.service/password_file"' in settings
    dropped = (board / "etc/systemd/system/phasewatt-agent.service.d/credentials.conf").read_text()
    assert "LoadCredential=password_file:/etc/phasewatt/credentials/password_file\n" in dropped


def test_removal_keeps_records_and_purge_keeps_nothing(board):
    assert install(board, "--uninstall").returncode == 0
    assert not (board / "opt/phasewatt").exists() and (board / STATE / "agent.toml").is_file()
    assert install(board, "--uninstall", "--purge").returncode == 0
    assert not any(path.is_file() or path.is_symlink() for path in board.rglob("*"))
