"""The distribution as a user gets it: built, installed into a clean environment, and used there."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("phasewatt", "agent", "collector")
SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", *PACKAGES)
HEAVY = {"torch", "numpy", "transformers", "matplotlib", "sqlalchemy"}


class Built(NamedTuple):
    """What `python -m build` made of a copy of the tree."""

    sdist: Path
    wheel: Path


class Installed(NamedTuple):
    """A clean environment with the wheel and the `nvml` extra: what the daemon of a board has."""

    home: Path

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment, away from the sources, with an empty home."""
        command = [self.home / "bin" / program, *arguments]
        environment = {"HOME": str(self.home), "PATH": "/usr/bin:/bin"}
        return subprocess.run(command, cwd=self.home, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Built:
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    done = run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)])
    assert "DeprecationWarning" not in done, done
    return Built(next(out.glob("*.tar.gz")), next(out.glob("*.whl")))


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory) -> Installed:
    home = tmp_path_factory.mktemp("clean") / "venv"
    run([sys.executable, "-m", "venv", "--without-pip", str(home)])
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python"), "install", "--quiet"]
    run([*pip, "--constraint", str(ROOT / "requirements.txt"), f"phasewatt[nvml] @ {built.wheel.as_uri()}"])
    return Installed(home)


def run(command: list[str]) -> str:
    """Both streams of a command that must succeed."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout


def files_of_the_packages() -> Iterator[str]:
    """Everything that the packages hold in the tree, by its path."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(ROOT).as_posix()


def test_wheel_holds_the_packages_whole_and_nothing_else(built):
    """Code, suites, migrations, templates and type markers; no tests, no deploy."""
    names = zipfile.ZipFile(built.wheel).namelist()
    assert {name for name in names if ".dist-info/" not in name} == set(files_of_the_packages())


def test_wheel_states_licence_version_and_python(built):
    archive = zipfile.ZipFile(built.wheel)
    metadata = archive.read(next(name for name in archive.namelist() if name.endswith("METADATA"))).decode()
    for line in ("Name: phasewatt", "License-Expression: Apache-2.0", "Requires-Python: >=3.10"):
        assert line in metadata.splitlines()
    assert "License-File: LICENSE" in metadata
    assert any(name.endswith("licenses/LICENSE") for name in archive.namelist())


def test_sdist_holds_what_a_build_needs(built):
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"setup.py", "pyproject.toml", "README.md", "LICENSE"} <= names


def test_daemons_install_pulls_neither_torch_nor_numpy(installed):
    names = installed.run(
        "python", "-c", "import importlib.metadata as m; print(*(d.name.lower() for d in m.distributions()))"
    ).stdout.split()
    assert "nvidia-ml-py" in names
    assert HEAVY.isdisjoint(names)


def test_programs_tell_their_version(installed):
    from phasewatt import __version__

    for program in ("phasewatt-agent", "phasewatt-collector"):
        done = installed.run(program, "--version")
        assert (done.returncode, done.stdout) == (0, f"{program} {__version__}\n")


def test_installed_agent_finds_its_suites(installed):
    done = installed.run("phasewatt-agent", "suites")
    assert done.returncode == 0, done.stderr
    assert "smoke" in done.stdout
    assert "phases" in done.stdout


@pytest.mark.parametrize("program", ["phasewatt-agent", "phasewatt-collector"])
def test_every_command_explains_itself_without_the_heavy_extras(installed, program):
    """Help must not need what only a run needs."""
    done = installed.run(program, "--help")
    assert done.returncode == 0, done.stderr
    assert "usage: " + program in done.stdout


def test_command_that_lacks_its_extra_names_it_in_one_line(installed):
    done = installed.run("phasewatt-collector", "devices")
    assert done.returncode != 0
    assert "phasewatt[collector]" in done.stderr
    assert "Traceback" not in done.stderr


def test_installed_packages_carry_their_types(installed):
    for package in PACKAGES:
        code = f"from importlib import resources; print(resources.files('{package}').joinpath('py.typed').is_file())"
        assert installed.run("python", "-c", code).stdout == "True\n"
