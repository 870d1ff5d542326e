"""The built wheel, installed and tested on every Python from 3.10 to 3.13 that this machine has.

Each gets an environment of its own, `.venv-3.10` and so on, which the next run reuses. The tests run from a copy
without the sources beside it, so that what is imported is what was installed. torch is left out: it has no wheel for
every Python, and it is several GB where the wheel is a CUDA one; the tests that need a model skip and say so. They are
installed all at a time and tested one after another, as many tests at a time as in `make test`; what they print is kept
in a file each and shown when it fails.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "matrix"
MINORS = range(10, 14)
EXTRAS = "nvml,collector,postgres,parquet,dataframe,dev"
NOT_THE_WHEEL = ("tests/test_house.py", "tests/test_package.py", "tests/deploy")  # about the tree, which is not copied
# Kill storms, restores, hostile streams, simulated sensors by the thousand, looks at pages, what needs a quiet clock:
# no version of Python changes them.
_SYSTEM = ("restore", "managed_broker", "jobs", "watch", "simulated_board", "monitoring")
_COLLECTOR = ("report_browser", "findings_browser", "page_browser", "report_chapters", "hostile")
ONCE_IS_ENOUGH = (
    *("tests/faults", "tests/machine", "tests/security", "tests/pages"),
    *(f"tests/system/test_{name}.py" for name in _SYSTEM),
    *(f"tests/collector/test_{name}.py" for name in _COLLECTOR),
    *("tests/phasewatt/test_energy_coverage.py", "tests/agent/test_calibrating.py"),
)
LONG = "tests/agent/test_tegrastats_line.py::test_a_hundred_thousand_mutated_lines_raise_nothing"
# Whole programs run on the oldest, which lacks most; the collector on the oldest and the newest; the rest on all.
NEWEST = (*ONCE_IS_ENOUGH, "tests/system")
BETWEEN = (*NEWEST, "tests/collector")
WORKERS = 3
OF_THE_MODEL = "torch|onnx|gguf"  # what these tests need beside torch, and without torch shows nothing
MISSING = "not on this machine, not tested"
ASKS = "import sys; print(*sys.version_info[:2], sep='.')"


def main() -> int:
    """Test the wheel on every Python found; 0 if all passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--every", action="store_true", help="a missing Python fails, and so does a skip but torch's")
    parser.add_argument("--only", metavar="3.N", help="this Python alone")
    parser.add_argument(
        "--others", action="store_true", help="but the Python of this environment: `make test` runs on it"
    )
    arguments = parser.parse_args()
    own = f"3.{sys.version_info.minor}" if arguments.others else None
    versions = [arguments.only] if arguments.only else [f"3.{minor}" for minor in MINORS if f"3.{minor}" != own]
    wheel = build_wheel()
    with ThreadPoolExecutor(len(versions)) as pool:
        pythons = dict(zip(versions, pool.map(lambda version: environment(version, wheel), versions), strict=True))
    verdicts = {version: test_on(version, python, arguments.every) for version, python in pythons.items()}
    for version, verdict in verdicts.items():
        print(f"matrix: Python {version}: {verdict}")
    failed = any(verdict.startswith("failed") for verdict in verdicts.values())
    missing = any(verdict == MISSING for verdict in verdicts.values())
    return int(failed or (arguments.every and missing) or all(verdict == MISSING for verdict in verdicts.values()))


def build_wheel() -> Path:
    """The wheel of this tree, freshly built."""
    shutil.rmtree(WORK, ignore_errors=True)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(WORK), str(ROOT)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        sys.exit(f"matrix: the wheel cannot be built:\n{done.stdout}")
    return next(WORK.glob("phasewatt-*.whl"))


def test_on(version: str, python: Path | None, strict: bool) -> str:
    """What the tests said on one Python; None: it is not here."""
    if python is None:
        return MISSING
    begun = time.monotonic()
    there = copy_of_tests(version)
    said = there / "output.txt"
    with said.open("wb") as output:
        command = [str(python), "-m", "pytest", *options(version, strict)]
        done = subprocess.run(command, cwd=there, stdout=output, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        print(f"matrix: Python {version}:\n{said.read_text(errors='replace')}", flush=True)
    verdict = "passed" if done.returncode == 0 else f"failed (pytest's exit status {done.returncode})"
    return f"{verdict} in {time.monotonic() - begun:.0f} s"


def find(version: str) -> Path | None:
    """A working interpreter of that version on PATH or among pyenv's."""
    return next((path for path in candidates(version) if answers(path) == version), None)


def candidates(version: str) -> Iterator[Path]:
    """Where an interpreter of that version may be."""
    on_path = shutil.which(f"python{version}")
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    return itertools.chain(
        [Path(sys.executable)] if answers(Path(sys.executable)) == version else [],
        pyenv.glob(f"{version}.*/bin/python"),
        [Path(on_path)] if on_path else [],
    )


def answers(python: Path) -> str | None:
    """The version that an interpreter gives of itself; None if it does not run."""
    done = subprocess.run([python, "-c", ASKS], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def environment(version: str, wheel: Path) -> Path | None:
    """The interpreter of an environment that has the pinned set without torch, and this wheel; None: no such Python."""
    interpreter = find(version)
    if interpreter is None:
        return None
    home = ROOT / f".venv-{version}"
    python = home / "bin" / "python"
    stamp = home / ".installed"
    wanted = hashlib.sha256((ROOT / "requirements.txt").read_bytes() + (ROOT / "setup.py").read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"matrix: installing for Python {version}", flush=True)
        subprocess.run([interpreter, "-m", "venv", "--clear", home], check=True)
        install(python, "--constraint", str(ROOT / "requirements.txt"), f"phasewatt[{EXTRAS}] @ {wheel.as_uri()}")
        stamp.write_text(wanted)
    install(python, "--no-deps", "--force-reinstall", str(wheel))
    return python


def install(python: Path, *arguments: str) -> None:
    """Install into the environment of `python`."""
    pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    subprocess.run([*pip, *arguments], check=True)


def copy_of_tests(version: str) -> Path:
    """A folder with the tests, what some of them look at, and their settings: no package under test."""
    there = WORK / version
    for name in ("tests", "benchmarks", "docs"):
        shutil.copytree(ROOT / name, there / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", there)
    return there


def options(version: str, strict: bool) -> list[str]:
    """Arguments of pytest."""
    left_out = {MINORS[0]: ONCE_IS_ENOUGH, MINORS[-1]: NEWEST}.get(int(version.removeprefix("3.")), BETWEEN)
    ignored = [f"--ignore={path}" for path in (*NOT_THE_WHEEL, *left_out)]
    at_a_time = ["-n", str(WORKERS), "--dist", "loadfile"]
    skips = ["--no-skips", f"--may-skip={OF_THE_MODEL}|no recorded lines|no collected peaks"] if strict else []
    return ["-q", "-m", "not gpu and not jetson", f"--deselect={LONG}", *at_a_time, *ignored, *skips]


if __name__ == "__main__":
    sys.exit(main())
