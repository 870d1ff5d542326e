"""Which Jetson this is: module, carrier board, and releases of L4T and JetPack. Read from files under a root."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from agent.kernel_files import text

_PART = r"p[0-9]{4}-[0-9]{4}"
_CARRIED = re.compile(rf"({_PART})(?:-[a-z][0-9]+)?\+({_PART})")  # carrier, module; a board revision may stand between
_SINGLE = re.compile(_PART)
_RELEASE = re.compile(r"# R([0-9]+) \(release\), REVISION: ([0-9.]+)")
_VERSION = re.compile(r"[0-9]+(?:\.[0-9]+)*")

# Source: NVIDIA Jetson Linux Developer Guides, "Jetson Modules and Configurations", R32.7 to R38.4
MODULES: Mapping[str, str] = {
    "p2180-1000": "Jetson TX1",
    "p3310-1000": "Jetson TX2",
    "p3489-0000": "Jetson TX2i",
    "p3489-0888": "Jetson TX2 4GB",
    "p3636-0001": "Jetson TX2 NX",
    "p3448-0000": "Jetson Nano 4GB (developer kit)",
    "p3448-0002": "Jetson Nano 4GB",
    "p3448-0003": "Jetson Nano 2GB",
    "p2888-0001": "Jetson AGX Xavier 16GB",
    "p2888-0003": "Jetson AGX Xavier 32GB",
    "p2888-0004": "Jetson AGX Xavier 32GB",
    "p2888-0005": "Jetson AGX Xavier 64GB",
    "p2888-0008": "Jetson AGX Xavier Industrial 32GB",
    "p3668-0000": "Jetson Xavier NX 8GB (developer kit)",
    "p3668-0001": "Jetson Xavier NX 8GB",
    "p3668-0003": "Jetson Xavier NX 16GB",
    "p3701-0000": "Jetson AGX Orin (developer kit)",
    "p3701-0004": "Jetson AGX Orin 32GB",
    "p3701-0005": "Jetson AGX Orin 64GB",
    "p3701-0008": "Jetson AGX Orin Industrial 64GB",
    "p3767-0000": "Jetson Orin NX 16GB",
    "p3767-0001": "Jetson Orin NX 8GB",
    "p3767-0003": "Jetson Orin Nano 8GB",
    "p3767-0004": "Jetson Orin Nano 4GB",
    "p3767-0005": "Jetson Orin Nano 8GB (developer kit)",
    "p3834-0000": "Jetson T4000 (Thor)",
    "p3834-0008": "Jetson T5000 (Thor)",
}
# Kits whose device tree names the kit alone. Source: device trees of R32
KITS: Mapping[str, str] = {
    "p2371-2180": "Jetson TX1",
    "p2771-0000": "Jetson TX2",
    "p3450-0000": "Jetson Nano 4GB (developer kit)",
    "p2972-0000": "Jetson AGX Xavier",
}
# Source: https://developer.nvidia.com/embedded/jetpack-archive
JETPACKS: Mapping[str, str] = {
    "32.4.3": "4.4",
    "32.4.4": "4.4.1",
    "32.5.0": "4.5",
    "32.5.1": "4.5.1",
    "32.5.2": "4.5.1",
    "32.6.1": "4.6",
    "32.7.1": "4.6.1",
    "32.7.2": "4.6.2",
    "32.7.3": "4.6.3",
    "32.7.4": "4.6.4",
    "32.7.5": "4.6.5",
    "32.7.6": "4.6.6",
    "35.1.0": "5.0.2",
    "35.2.1": "5.1",
    "35.3.1": "5.1.1",
    "35.4.1": "5.1.2",
    "35.5.0": "5.1.3",
    "35.6.0": "5.1.4",
    "35.6.1": "5.1.5",
    "35.6.2": "5.1.5",
    "36.3.0": "6.0",
    "36.4.0": "6.1",
    "36.4.3": "6.2",
    "36.4.4": "6.2.1",
    "36.4.7": "6.2.1",
    "36.5.0": "6.2.2",
    "38.2.0": "7.0",
    "38.2.1": "7.0",
    "38.4.0": "7.1",
    "39.2.0": "7.2",
    "39.2.1": "7.2.1",
}
# By major release of L4T: JetPack 4, 5, 5, 6, 7, 7. Source: release notes of each JetPack
_CUDA_MAJORS: Mapping[int, int] = {32: 10, 34: 11, 35: 11, 36: 12, 38: 13, 39: 13}


class Identity(NamedTuple):
    """A Jetson by name; a figure that it does not tell is None."""

    module: str | None
    carrier: str | None
    l4t: str | None  # "36.4.3"
    jetpack: str | None  # "6.2"

    @property
    def cuda_major(self) -> int | None:
        """The CUDA that this release is made for, and that a build of torch must be made for too."""
        return None if self.l4t is None else _CUDA_MAJORS.get(int(self.l4t.partition(".")[0]))

    @property
    def versions(self) -> dict[str, str]:
        """What is known of its releases, by name."""
        return {name: value for name, value in (("l4t", self.l4t), ("jetpack", self.jetpack)) if value is not None}


def identify(root: Path) -> Identity | None:
    """The Jetson whose files are under `root`; None: it is none."""
    compatible = (text(root / "proc/device-tree/compatible") or "").split("\0")
    l4t = _l4t(root)
    if l4t is None and not any(name.startswith(("nvidia,tegra", "nvidia,p")) for name in compatible):
        return None
    tree_file = text(root / "proc/device-tree/nvidia,dtsfilename") or ""  # R32 and R35
    carrier, module = _parts(compatible, tree_file.rpartition("/")[2])
    jetpack = _installed(root, "nvidia-jetpack") or (JETPACKS.get(_whole(l4t)) if l4t else None)
    return Identity(MODULES.get(module or "", module), carrier, l4t, jetpack)


def _parts(compatible: list[str], tree_file: str) -> tuple[str | None, str | None]:
    """Part numbers of carrier and module; the module of a kit by its name."""
    for name in compatible:
        if carried := _CARRIED.search(name):
            return carried[1], carried[2]
    single = [part for name in compatible for part in _SINGLE.findall(name)]
    modules = [part for part in single if part in MODULES] or [KITS[part] for part in single if part in KITS]
    of_file = _SINGLE.findall(tree_file)  # one file serves modules of several sizes: the last resort
    modules += [part for part in of_file if part in MODULES]
    modules += single
    carriers = [part for part in (*of_file, *single) if part not in (*MODULES, *modules[:1])]
    return next(iter(carriers), None), next(iter(modules), None)


def _l4t(root: Path) -> str | None:
    said = _RELEASE.search(text(root / "etc/nv_tegra_release") or "")
    return f"{said[1]}.{said[2]}" if said else _installed(root, "nvidia-l4t-core")


def _whole(l4t: str) -> str:
    """With three numbers, as the table has them: "36.3" is "36.3.0"."""
    return ".".join([*l4t.split("."), "0", "0"][:3])


def _installed(root: Path, package: str) -> str | None:
    """Version of a Debian package without its build, such as "6.2.1" of "6.2.1+b38"; None: not installed."""
    for entry in (text(root / "var/lib/dpkg/status") or "").split("\n\n"):
        if entry.startswith(f"Package: {package}\n") and "\nStatus: install ok installed" in entry:
            version = _VERSION.match(entry.partition("\nVersion: ")[2])
            return version[0] if version else None
    return None
