"""What data sheets say of known GPUs: dense peaks, their clock, and memory bandwidth. Pure.

Each entry says how far it can be trusted. Peaks are those of tensor cores without sparsity, by which sheets like to
double them; they hold at the clock beside them, and at another they are scaled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Sheet(NamedTuple):
    """One board; a figure that its sheet does not give is None."""

    name: str
    half_tflops: float  # float16 and bfloat16 by tensor cores, dense, with float32 sums
    single_tflops: float
    memory_gb_s: float
    gpu_mhz: int  # at which the peaks hold
    status: str  # how the figures are known


class Expected(NamedTuple):
    """A sheet's figure for one kind of work, and what it rests on."""

    value: float
    source: str


_SHEET = "data sheet"
# By what the driver calls the GPU: the first entry all of whose words are in the name.
_GPUS: Mapping[tuple[str, ...], Sheet] = {
    ("A100", "40GB", "PCIE"): Sheet("A100 40GB PCIe", 312, 19.5, 1555, 1410, _SHEET),
    ("A100", "80GB", "PCIE"): Sheet("A100 80GB PCIe", 312, 19.5, 1935, 1410, _SHEET),
    ("A100", "80GB", "SXM"): Sheet("A100 80GB SXM", 312, 19.5, 2039, 1410, _SHEET),
    ("H100", "PCIE"): Sheet("H100 PCIe", 756, 51.2, 2000, 1755, "data sheet, in part derived"),
    ("H100", "80GB", "HBM3"): Sheet("H100 SXM", 989.4, 66.9, 3350, 1830, _SHEET),
    ("H200",): Sheet("H200 SXM", 989, 66.9, 4800, 1830, _SHEET),
    ("L4",): Sheet("L4", 121, 30.3, 300, 2040, _SHEET),
    ("RTX", "4090"): Sheet("RTX 4090", 165.2, 82.6, 1008, 2520, _SHEET),
}
# By what the firmware of a Jetson names. A sheet's "TOPS" are sparse and count the DLA: none of that is in here.
_JETSONS: Mapping[str, Sheet] = {
    "Jetson AGX Orin 64GB": Sheet(
        "AGX Orin 64GB", 42.6, 5.3, 204.8, 1300, "derived from the sheet's sparse INT8 figure"
    ),
    "Jetson AGX Orin 32GB": Sheet("AGX Orin 32GB", 26.7, 3.3, 204.8, 930, "derived; its clock is not from a sheet"),
    "Jetson Orin NX 16GB": Sheet("Orin NX 16GB", 15.0, 1.88, 102.4, 918, "derived; its clock is not from a sheet"),
    "Jetson Orin Nano 8GB": Sheet("Orin Nano 8GB", 10.2, 1.28, 68, 625, "derived from the sheet's sparse INT8 figure"),
    "Jetson T5000 (Thor)": Sheet("AGX Thor T5000", 258, 8.06, 273, 1575, "derived from the sheet's dense FP4 figure"),
}


def sheet_of(processor: str | None, module: str | None) -> Sheet | None:
    """The sheet of a GPU by its driver's name, or of a Jetson by its module; None: none is known here."""
    if module is not None:
        return _JETSONS.get(module)
    words = (processor or "").upper().replace("-", " ").split()
    if "GH200" in words or "MIG" in words:
        return None  # another memory; a part of a GPU
    return next((sheet for asked, sheet in _GPUS.items() if all(_has(words, word) for word in asked)), None)


def expected(sheet: Sheet, work: str, dtype: str | None, clock_hz: int | None) -> Expected | None:
    """What `sheet` gives for `work`, peaks at `clock_hz` where that is known; None: the sheet does not tell."""
    if work in ("copy", "read"):
        return Expected(sheet.memory_gb_s * 1e9, f"{sheet.name}: {sheet.memory_gb_s:g} GB/s ({sheet.status})")
    tflops = {"float16": sheet.half_tflops, "bfloat16": sheet.half_tflops, "float32": sheet.single_tflops}
    if work != "matmul" or dtype not in tflops:
        return None
    share = 1.0 if clock_hz is None else clock_hz / (sheet.gpu_mhz * 1e6)
    scaled = "not scaled: the clock is not known" if clock_hz is None else f"scaled to {clock_hz * 1e-6:.0f} MHz"
    told = f"{sheet.name}: {tflops[dtype]:g} TFLOP/s at {sheet.gpu_mhz} MHz ({sheet.status}), {scaled}"
    return Expected(tflops[dtype] * 1e12 * share, told)


def _has(words: list[str], asked: str) -> bool:
    """Whether a word is `asked`, or begins with it where a number follows, as SXM4."""
    return any(word == asked or (word.startswith(asked) and word[len(asked) :].isdigit()) for word in words)
