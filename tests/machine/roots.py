"""Debian roots, made once by debootstrap and kept in a cache; a test works on a layer over one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

RELEASE = "bookworm"
_PACKAGES = {
    "amd64": "systemd,systemd-sysv,dbus,python3,python3-venv,ca-certificates,iproute2,procps",
    "arm64": "python3,python3-venv,ca-certificates",
}


def cache() -> Path:
    """Where roots and kits are kept between runs."""
    home = os.environ.get("XDG_CACHE_HOME") or ("/var/cache" if os.geteuid() == 0 else Path.home() / ".cache")
    there = Path(home) / "phasewatt-test"
    there.mkdir(parents=True, exist_ok=True)
    return there


def need(*programs: str) -> None:
    """Skip the test where it cannot run: not root, or a program is missing."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes mounts and namespaces")
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [program for program in programs if shutil.which(program, path=path) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)}: not installed; apt-get install debootstrap systemd-container")


def debian(architecture: str) -> Path:
    """A root with Python, and with systemd where it is to boot; minutes at the first time."""
    whole = cache() / f"{RELEASE}-{architecture}"
    if not whole.is_dir():
        part = whole.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        command = ["debootstrap", f"--arch={architecture}", "--variant=minbase"]
        command += [f"--include={_PACKAGES[architecture]}", RELEASE, str(part), *_mirror()]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:]
        part.rename(whole)
    return whole


def _mirror() -> list[str]:
    """Where this machine gets its own packages of that release from; nothing: debootstrap's own choice."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", f"Codename: {RELEASE}", "Component: main"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.split()[:1]
