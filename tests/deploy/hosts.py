"""The installer on a tree that stands for a host, and what it installs from."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INSTALLER = ROOT / "deploy/install-agent.sh"


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


def filled_wheelhouse(folder: Path) -> Path:
    """A wheel of this tree, and the daemon's pins as this environment has them."""
    out = folder / "filled"
    pins = re.findall(
        r"^(msgspec|paho-mqtt|psutil|rich|markdown-it-py|mdurl|Pygments|nvidia-ml-py)==(\S+)",
        (ROOT / "requirements.txt").read_text(),
        re.MULTILINE,
    )
    wanted = [f"{name}=={version}" for name, version in pins]
    pip = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--only-binary=:all:", "--dest", str(out)]
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    with subprocess.Popen([*pip, *wanted, *(["tomli"] if sys.version_info < (3, 11) else [])]) as download:
        subprocess.run(build, check=True, capture_output=True)
    assert download.returncode == 0
    (out / "constraints.txt").write_text("")
    return out
