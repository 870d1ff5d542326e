"""`tegrastats` of a simulated board: a line every interval in the layout of L4T R36, from the files of the board."""

from __future__ import annotations

import itertools
import json
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

_ENGINES = "NVENC off NVDEC off NVJPG off NVJPG1 off VIC off OFA off NVDLA0 off NVDLA1 off PVA0_FREQ off APE 174"
_HANG = "faults/tegrastats"
_LOOK_S = 0.05


def main(arguments: list[str], root: Path) -> int:
    """Print lines until nobody reads them."""
    interval_s = int(arguments[arguments.index("--interval") + 1]) / 1e3 if "--interval" in arguments else 1.0
    board = json.loads((root / "simulated-board.json").read_text(encoding="utf-8"))
    sums_mw: dict[str, int] = {}
    due_s = time.monotonic()
    for count in itertools.count(1):
        while (root / _HANG).exists():
            time.sleep(_LOOK_S)
        try:
            sys.stdout.write(f"{line(root, board, sums_mw, count)}\n")
            sys.stdout.flush()
        except BrokenPipeError:
            return 1
        due_s = max(due_s + interval_s, time.monotonic())
        time.sleep(due_s - time.monotonic() if due_s > time.monotonic() else 0)
    return 0


def line(root: Path, board: dict[str, Any], sums_mw: dict[str, int], count: int) -> str:
    """The board as it is now; `sums_mw` of each rail over the `count` lines so far gives its second figure."""
    now = datetime.now().astimezone().strftime("%m-%d-%Y %H:%M:%S")
    parts = [now, *_memory(root), _cpus(root, board), *_clocks(root, board), _ENGINES, *_temperatures(root)]
    for rail in board["rails"]:
        values = [_number(root / file) for file in rail["files"]]
        if None in values:
            continue
        power_mw = float(rail["scale_mw"])
        for value in values:
            power_mw *= value or 0
        label = rail["label"]
        sums_mw[label] = sums_mw.get(label, 0) + int(power_mw)
        parts.append(f"{label} {int(power_mw)}mW/{int(sums_mw[label] / count)}mW")
    return " ".join(parts)


def _memory(root: Path) -> list[str]:
    rows = (row.split() for row in (root / "proc/meminfo").read_text(encoding="ascii").splitlines())
    mib = {row[0].rstrip(":"): int(row[1]) // 1024 for row in rows}
    used, swapped = mib["MemTotal"] - mib["MemAvailable"], mib["SwapTotal"] - mib["SwapFree"]
    return [f"RAM {used}/{mib['MemTotal']}MB (lfb 258x4MB)", f"SWAP {swapped}/{mib['SwapTotal']}MB (cached 0MB)"]


def _cpus(root: Path, board: dict[str, Any]) -> str:
    load = (_number(root / board["gpu_load"]) or 0) // 40
    mhz = {
        int(cpu): (_number(policy / "scaling_cur_freq") or 0) // 1000
        for policy in (root / "sys/devices/system/cpu/cpufreq").glob("policy*")
        for cpu in (policy / "affected_cpus").read_text(encoding="ascii").split()
    }
    return f"CPU [{','.join(f'{load}%@{mhz[cpu]}' for cpu in sorted(mhz))}]"


def _clocks(root: Path, board: dict[str, Any]) -> list[str]:
    load = (_number(root / board["gpu_load"]) or 0) // 10
    emc = root / board["emc"]
    emc_hz = _number(emc / "rate") or _number(emc / "cur_freq") or 0
    gpu_mhz = (_number(root / board["gpu"] / "cur_freq") or 0) // 10**6
    return [
        f"EMC_FREQ {load // 2}%@{emc_hz // 10**6}",
        f"GR3D_FREQ {load}%@[{','.join([str(gpu_mhz)] * board['gpcs'])}]",
    ]


def _temperatures(root: Path) -> list[str]:
    zones = sorted((root / "sys/class/thermal").glob("thermal_zone*"), key=lambda zone: (len(zone.name), zone.name))
    known = [((zone / "type").read_text(encoding="ascii").strip(), _number(zone / "temp")) for zone in zones]
    return [f"{name.removesuffix('-thermal')}@{milli / 1000:g}C" for name, milli in known if milli is not None]


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path(__file__).resolve().parents[2]))
