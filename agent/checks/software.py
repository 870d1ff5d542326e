"""Python, L4T, and whether torch is the build that this platform needs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from agent import onnx_builds
from agent.checks import Finding, Subject
from agent.jetson.identity import Identity, identify
from agent.orders import Described
from agent.out_of_memory import LARGE_FAIL
from phasewatt.errors import PhasewattError

_GPU_FILES = ("dev/nvidia0", "dev/nvhost-gpu", "dev/nvgpu", "dev/nvhost-ctrl-gpu")
# By major of CUDA. Source: the indexes of the Jetson AI Lab, as NVIDIA's forum names them for each JetPack
_INDEXES = {12: "jp6/cu126", 13: "sbsa/cu130"}
_LAST_TOO_OLD = 35  # releases of L4T up to this one are JetPack 4 and 5, with Python 3.6 and 3.8


def python(subject: Subject) -> Iterator[Finding]:
    """Whether this Python is tested, and is the one that the platform's torch is built for."""
    yield python_finding(sys.version_info[:3], subject.host.jetson)


def python_finding(version: tuple[int, ...], jetson: Identity | None) -> Finding:
    """The same of any version and board."""
    words = ".".join(str(part) for part in version)
    if not (3, 10) <= version < (3, 14):
        return Finding("python", None, f"{words} is not tested", "use 3.10 to 3.13")
    if jetson is not None and _major(jetson) <= _LAST_TOO_OLD:
        verdict = f"{words}, but {_release(jetson)} has torch for its own Python alone, 3.8 or older"
        return Finding("python", None, verdict, "JetPack 6 or newer; here the CPU can be measured, and power")
    return Finding("python", True, words)


def platform(subject: Subject) -> Iterator[Finding]:
    """Releases of a Jetson, and what is known to be broken in one of them."""
    jetson = subject.host.jetson
    if jetson is None:
        return
    if jetson.l4t == LARGE_FAIL:
        verdict = f"{_release(jetson)}: single allocations over 4 GiB fail, so that large models seem not to fit"
        yield Finding("platform", None, verdict, "update to L4T R36.5")
    elif jetson.l4t is None:
        yield Finding("platform", None, "a Jetson that does not tell its release of L4T", "mend /etc/nv_tegra_release")
    else:
        yield Finding("platform", True, f"{_release(jetson)}, made for CUDA {jetson.cuda_major or 'unknown'}")


def engine(subject: Subject) -> Iterator[Finding]:
    """Whether torch runs here, and on the GPU if there is one. It is this host's, also beside a simulated board."""
    here = identify(Path("/"))
    try:
        described = subject.describe()
    except PhasewattError as error:
        yield Finding("engine", False, str(error), _build_for(here) or "pip install 'phasewatt[torch]'")
        return
    yield engine_finding(described, here, has_gpu(Path("/")) or here is not None)


def engine_finding(found: Described, jetson: Identity | None, gpu_is_there: bool) -> Finding:
    """What an engine that answered is worth on such a host."""
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    verdict = f"{versions} on {found.processor or found.accelerator} ({found.accelerator})"
    if found.accelerator != "cpu" or not gpu_is_there:
        return Finding("engine", True, verdict)
    why, remedy = _blind(found.versions.get("cuda"), jetson)
    return Finding("engine", None, f"{verdict}, although there is an NVIDIA GPU: {why}", remedy)


def onnxruntime(subject: Subject) -> Iterator[Finding]:
    """Whether one build of onnxruntime is installed, if there is any."""
    yield from onnxruntime_findings(onnx_builds.installed())


def onnxruntime_findings(found: Mapping[str, str]) -> Iterator[Finding]:
    """The same of any builds; what a build computes on is found out where an engine is started."""
    if told := onnx_builds.conflict(found):
        yield Finding("onnxruntime", None, told, onnx_builds.REMEDY)
    elif found:
        yield Finding("onnxruntime", True, onnx_builds.words(found))


def has_gpu(root: Path) -> bool:
    """Whether the kernel has a device file of an NVIDIA GPU."""
    return any((root / file).exists() for file in _GPU_FILES)


def _blind(cuda: str | None, jetson: Identity | None) -> tuple[str, str]:
    """Why torch does not see the GPU, and what to do."""
    build = _build_for(jetson) or "install the build of torch for this driver's CUDA"
    if cuda is None:
        return "this torch is built for CPUs alone", build
    platforms = None if jetson is None else jetson.cuda_major
    if jetson is not None and platforms is not None and cuda.partition(".")[0] != str(platforms):
        return f"this torch is built for CUDA {cuda}, and {_release(jetson)} has CUDA {platforms}", build
    if jetson is not None:
        remedy = "join the groups video and render (sudo usermod -aG video,render $USER) and log in again"
        return "the build fits; this user may not open the GPU, or its driver does not answer", remedy
    return f"this torch is built for CUDA {cuda}; the driver may be older, or not answer", f"see nvidia-smi; {build}"


def _build_for(jetson: Identity | None) -> str | None:
    """How to get the torch of a Jetson's release; None where it is no Jetson."""
    if jetson is None:
        return None
    index = _INDEXES.get(jetson.cuda_major or 0)
    if index is None:
        return "install the torch that NVIDIA builds for this JetPack"
    return f"install torch from the platform's own index, {index} of the Jetson AI Lab; the general one has none for it"


def _release(jetson: Identity) -> str:
    named = f"JetPack {jetson.jetpack}" if jetson.jetpack else "a Jetson"
    return f"{named} (L4T {jetson.l4t})" if jetson.l4t else named


def _major(jetson: Identity) -> int:
    """Release of L4T; where it is not told, none that is known to be too old."""
    return _LAST_TOO_OLD + 1 if jetson.l4t is None else int(jetson.l4t.partition(".")[0])
