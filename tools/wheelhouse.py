"""Fills a directory with all that a board without a network installs the agent from: `make wheelhouse`.

The pinned set of the daemon from requirements.txt, as wheels for aarch64 and x86-64 and Python 3.10 to 3.13, the wheel
of this tree, and the pins. torch is not in it: which build is right is the board's own matter, docs/boards.md says.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
DAEMON, COLLECTOR = "# The daemon: library and agent\n", "# The collector\n"
# What the collector's packages need, and other sections name.
SHARED = ("click", "typing_extensions", "packaging", "cffi", "pycparser", "anyio", "idna")
MACHINES = ("aarch64", "x86_64")
MINORS = range(10, 14)
# JetPack 6 has glibc 2.35 and Debian 12 has 2.36; the newest tag that a pinned wheel carries is 2.34.
TAGS = ("manylinux2014", "manylinux_2_17", "manylinux_2_28", "manylinux_2_34")
SUMS = "SHA256SUMS"
PINS = "constraints.txt"


def main() -> int:
    """Fill the directory; pip's own words where a wheel cannot be had."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, help="directory (default: wheelhouse, or wheelhouse-collector)")
    parser.add_argument("--collector", action="store_true", help="for the collector instead, PostgreSQL included")
    parser.add_argument("--machine", choices=MACHINES, action="append", help="for these alone, repeatable")
    parser.add_argument("--only", metavar="3.N", action="append", help="for these Pythons alone, repeatable")
    arguments = parser.parse_args()
    pins = pins_of((ROOT / "requirements.txt").read_text(encoding="utf-8"), arguments.collector)
    out = arguments.out or ROOT / ("wheelhouse-collector" if arguments.collector else "wheelhouse")
    out.mkdir(parents=True, exist_ok=True)
    for python in arguments.only or [f"3.{minor}" for minor in MINORS]:
        for machine in arguments.machine or MACHINES:
            download(applying(pins, python, machine), python, machine, out)
    wheel = build_wheel(out)
    (out / PINS).write_text("".join(f"{pin}\n" for pin in pins), encoding="utf-8")
    write_sums(out)
    wheels = list(out.glob("*.whl"))
    size = sum(path.stat().st_size for path in wheels)
    print(f"wheelhouse: {wheel.name} and {len(wheels) - 1} more, {size / 1e6:.1f} MB, in {out}")
    return 0


def pins_of(requirements: str, collector: bool = False) -> list[Requirement]:
    """The pins of the daemon, or those of the collector too, from their sections of requirements.txt."""
    pins = section(requirements, DAEMON)
    if collector:
        others = (pin for part in requirements.split("\n\n") for pin in parsed(part) if pin.name in SHARED)
        pins += [*section(requirements, COLLECTOR), *others]
    return pins


def section(requirements: str, heading: str) -> list[Requirement]:
    """The pins under a heading."""
    return parsed(requirements.partition(heading)[2].partition("\n\n")[0])


def parsed(lines: str) -> list[Requirement]:
    """The pins in some lines, without their comments."""
    bare = (re.split(r"\s+#", line)[0].strip() for line in lines.splitlines())
    return [Requirement(line) for line in bare if line and not line.startswith("#")]


def applying(pins: Iterable[Requirement], python: str, machine: str) -> list[str]:
    """Those that a Python on a machine needs, without markers: pip would ask them of the Python that it runs by."""
    there = {"python_version": python, "platform_machine": machine, "sys_platform": "linux"}
    return [f"{pin.name}{pin.specifier}" for pin in pins if pin.marker is None or pin.marker.evaluate(there)]


def download(wanted: Sequence[str], python: str, machine: str, out: Path) -> None:
    """Wheels of `wanted` that run on such a Python and machine."""
    tag = python.replace(".", "")
    platforms = [part for name in TAGS for part in ("--platform", f"{name}_{machine}")]
    abis = ["--implementation", "cp", "--python-version", python, "--abi", f"cp{tag}", "--abi", "abi3", "--abi", "none"]
    pip = [sys.executable, "-m", "pip", "download", "-qq", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--only-binary=:all:", *platforms, *abis, "--dest", str(out), *wanted], check=True)


def build_wheel(out: Path) -> Path:
    """The wheel of this tree, the only one of its name in `out`."""
    for old in out.glob("phasewatt-*.whl"):
        old.unlink()
    with tempfile.TemporaryDirectory() as built:
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", built, str(ROOT)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            sys.exit(f"wheelhouse: the wheel cannot be built:\n{done.stdout}")
        made = next(Path(built).glob("phasewatt-*.whl"))
        return Path(shutil.move(made, out / made.name))


def write_sums(out: Path) -> None:
    """Digests of all wheels, for `sha256sum --check`."""
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(out.glob("*.whl"))]
    (out / SUMS).write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
