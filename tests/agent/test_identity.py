"""Which Jetson this is, from trees laid out as releases R32 to R39 lay them out."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.jetson.identity import Identity, identify
from tests.fixtures.kernel_tree import tree

COMPATIBLE = "proc/device-tree/compatible"
RELEASE = "etc/nv_tegra_release"


def release(major: int, revision: str) -> dict[str, str]:
    return {RELEASE: f"# R{major} (release), REVISION: {revision}, GCID: 1, BOARD: generic, EABI: aarch64, DATE: now"}


def package(name: str, version: str, status: str = "install ok installed") -> str:
    return f"Package: {name}\nStatus: {status}\nArchitecture: arm64\nVersion: {version}\nDescription: words\n"


@pytest.mark.parametrize(
    ("compatible", "major", "revision", "expected", "cuda"),
    [
        (
            "nvidia,p3737-0000+p3701-0005\0nvidia,p3701-0005\0nvidia,tegra234\0",
            *(36, "4.3"),
            Identity("Jetson AGX Orin 64GB", "p3737-0000", "36.4.3", "6.2"),
            12,
        ),
        (
            "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0",
            *(36, "4.7"),
            Identity("Jetson Orin Nano 8GB (developer kit)", "p3768-0000", "36.4.7", "6.2.1"),
            12,
        ),
        (
            "nvidia,p3449-0000-b00+p3448-0000-b00\0nvidia,jetson-nano\0nvidia,tegra210\0",
            *(32, "7.6"),
            Identity("Jetson Nano 4GB (developer kit)", "p3449-0000", "32.7.6", "4.6.6"),
            10,
        ),
        (
            "nvidia,p3509-0000+p3668-0001\0nvidia,tegra194\0",
            *(35, "6.1"),
            Identity("Jetson Xavier NX 8GB", "p3509-0000", "35.6.1", "5.1.5"),
            11,
        ),
        (
            "nvidia,p4071-0000+p3834-0008\0nvidia,p3834-0008\0nvidia,tegra264\0",
            *(38, "2.1"),
            Identity("Jetson T5000 (Thor)", "p4071-0000", "38.2.1", "7.0"),
            13,
        ),
        (
            "nvidia,p3737-0000+p3701-0004\0nvidia,p3701-0004\0nvidia,tegra234\0",
            *(39, "2.0"),
            Identity("Jetson AGX Orin 32GB", "p3737-0000", "39.2.0", "7.2"),
            13,
        ),
    ],
)
def test_boards_are_told_by_part_number_and_release(
    tmp_path: Path, compatible: str, major: int, revision: str, expected: Identity, cuda: int
) -> None:
    """Of every major release, and the CUDA that a build of torch must be made for."""
    found = identify(tree(tmp_path, {COMPATIBLE: compatible} | release(major, revision)))
    assert found == expected
    assert found.cuda_major == cuda


def test_a_kit_that_names_no_module_is_told_by_its_own_number(tmp_path: Path) -> None:
    """One device tree serves AGX Xaviers of several sizes, so the size is not told."""
    files = {
        COMPATIBLE: "nvidia,p2972-0000\0nvidia,tegra194\0",
        "proc/device-tree/nvidia,dtsfilename": "/dvs/t19x/kernel-dts/tegra194-p2888-0001-p2822-0000.dts\0",
    }
    found = identify(tree(tmp_path, files))
    assert found == Identity("Jetson AGX Xavier", "p2822-0000", None, None)
    assert found.cuda_major is None


@pytest.mark.parametrize(
    ("compatible", "module", "carrier"),
    [
        ("acme,p9001-0000+p3701-0099\0nvidia,tegra234\0", "p3701-0099", "p9001-0000"),
        ("nvidia,p3701-0099\0nvidia,tegra234\0", "p3701-0099", None),
        ("nvidia,tegra234\0", None, None),
    ],
)
def test_unknown_numbers_are_given_as_they_stand(
    tmp_path: Path, compatible: str, module: str | None, carrier: str | None
) -> None:
    found = identify(tree(tmp_path, {COMPATIBLE: compatible}))
    assert found is not None
    assert (found.module, found.carrier) == (module, carrier)


def test_packages_tell_what_the_release_file_does_not(tmp_path: Path) -> None:
    """L4T by its core package where the file is absent; JetPack by its own package before the table."""
    listed = [
        package("nvidia-jetpack-runtime", "9.9"),
        package("nvidia-l4t-core", "36.4.3-20250107174145"),
        package("nvidia-jetpack", "6.2+b77"),
    ]
    files = {COMPATIBLE: "nvidia,tegra234\0", "var/lib/dpkg/status": "\n".join(listed)}
    found = identify(tree(tmp_path, files))
    assert found is not None
    assert (found.l4t, found.jetpack) == ("36.4.3", "6.2")
    assert found.versions == {"l4t": "36.4.3", "jetpack": "6.2"}


def test_a_package_that_was_removed_tells_nothing(tmp_path: Path) -> None:
    removed = package("nvidia-jetpack", "6.0+b1", status="deinstall ok config-files")
    found = identify(tree(tmp_path, {"var/lib/dpkg/status": removed} | release(36, "9.9")))
    assert found is not None
    assert (found.l4t, found.jetpack) == ("36.9.9", None)


def test_other_hosts_are_none(tmp_path: Path) -> None:
    """A server, and an arm64 board of another maker."""
    assert identify(tmp_path) is None
    assert identify(tree(tmp_path, {COMPATIBLE: "raspberrypi,5-model-b\0brcm,bcm2712\0"})) is None
