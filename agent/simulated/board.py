"""A simulated board in a folder: made, stepped to a moment, and asked for the joules that its module truly took."""

from __future__ import annotations

import fcntl
import inspect
import math
import os
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from agent.simulated import layout, waveforms
from agent.simulated.boards import BOARDS, INA3221, Board
from agent.simulated.files import Files
from agent.simulated.programs import nvpmodel, tegrastats
from agent.simulated.sensor import Sensors
from agent.simulated.waveforms import Waveform
from phasewatt.errors import ConfigInvalid

MARKER = "simulated-board.json"  # without it, a folder with something in it is not touched
_SCHEMA = "simulated-board/0"
_FAULTS = "faults"
_MADE = ("etc", "proc", "sys", "usr", "var", _FAULTS)  # the folders of a board
_WARMING_S = 20.0
_STATE_EVERY_S = 1.0


class ToldRail(Struct, frozen=True):
    """Where one rail's power is read, for tegrastats: the product of the files times `scale_mw`."""

    label: str
    files: tuple[str, ...]
    scale_mw: float


class Marker(Struct, frozen=True):
    """What is simulated in a folder; the truth follows from it."""

    schema: str
    board: str
    power: str
    seed: int
    noise_share: float
    started_ns: int  # second 0 of the power, on this host's monotonic clock
    rails: tuple[ToldRail, ...]
    gpu: str
    gpu_load: str
    gpcs: int
    emc: str


class SimulatedBoard:
    """The board of a folder.

    A file of a name that `layout.fault_names` gives, put into its folder `faults`, makes that fault until it is gone:
    `rail-LABEL` has a rail vanish, `current-LABEL` its current fail, `zone-TYPE` a thermal zone; `tegrastats` hangs it.
    """

    def __init__(
        self,
        root: Path,
        name: str,
        power: str,
        seed: int = 1,
        noise_share: float = 0.005,
        started_ns: int | None = None,
    ) -> None:
        """Make the tree as it is at `started_ns` (None: now).

        Raises:
            ConfigInvalid: the folder holds something else, or there is no such board or power.
        """
        _check_folder(root)
        if name not in BOARDS:
            raise ConfigInvalid(f"board: expected one of {', '.join(BOARDS)}; got {name!r}")
        self.root = root
        self.board = BOARDS[name]
        self.started_ns = time.monotonic_ns() if started_ns is None else started_ns
        self._wave = waveforms.parse(power)
        self._sensors = Sensors(self.board, self._wave, seed, noise_share)
        self._number: int | None = None
        self._stated_s = -math.inf
        self._warmth = self._load(0.0)
        self._faults: frozenset[str] = frozenset()
        _clear(root)
        root.mkdir(parents=True, exist_ok=True)
        self._files = Files(root)
        marker = _marker(name, self.board, _kept(power, root), seed, noise_share, self.started_ns)
        self._make(marker)

    def step(self, now_ns: int) -> int:
        """Bring the files to a moment; the moment in ns at which they change next."""
        at_s = (now_ns - self.started_ns) * 1e-9
        number, present = self._sensors.number_at(at_s), self._present()
        if number != self._number or present != self._faults:
            stated = at_s - self._stated_s >= _STATE_EVERY_S or present != self._faults
            contents = layout.rails(self.board, self._sensors.shown(number))
            contents |= layout.state(self.board, self._state(at_s)) if stated else {}
            contents |= layout.fixed(self.board) if present != self._faults else {}
            self._files.put(layout.faults(self.board, present, contents))
            self._number, self._faults = number, present
        return self.started_ns + math.ceil(self._sensors.shows_s(number + 1) * 1e9)

    def energy_j(self, start_ns: int, end_ns: int) -> float:
        """Energy of the module between two moments of the monotonic clock, exactly."""
        return self._wave.energy_j((start_ns - self.started_ns) * 1e-9, (end_ns - self.started_ns) * 1e-9)

    def fault(self, name: str) -> None:
        """Make a fault, at the next step."""
        if name not in layout.fault_names(self.board):
            raise ValueError(f"no fault {name!r}; known: {', '.join(layout.fault_names(self.board))}")
        (self.root / _FAULTS / name).touch()

    def mend(self, name: str) -> None:
        """End a fault, at the next step."""
        (self.root / _FAULTS / name).unlink(missing_ok=True)

    def _make(self, marker: Marker) -> None:
        self._files.put({MARKER: msgspec.json.format(msgspec.json.encode(marker)) + b"\n"})
        self._files.put(layout.fixed(self.board))
        self._files.link(layout.links(self.board))
        self._files.program("usr/bin/tegrastats", _program(inspect.getsource(tegrastats)))
        self._files.program("usr/sbin/nvpmodel", _program(inspect.getsource(nvpmodel)))
        (self.root / _FAULTS).mkdir()
        self.step(self.started_ns)

    def _present(self) -> frozenset[str]:
        try:
            return frozenset(path.name for path in (self.root / _FAULTS).iterdir())
        except OSError:  # the folder was taken away, and with it every fault
            return frozenset()

    def _state(self, at_s: float) -> layout.State:
        load = self._load(at_s)
        if math.isfinite(self._stated_s):
            self._warmth += (load - self._warmth) * -math.expm1(-(at_s - self._stated_s) / _WARMING_S)
        self._stated_s = at_s
        return layout.State(load, self._warmth)

    def _load(self, at_s: float) -> float:
        """How busy: 0 at half of the idle power, 1 at full power."""
        idle_w, busy_w = self.board.power_w[0] / 2, self.board.power_w[1]
        mean_w = self._wave.energy_j(at_s - _STATE_EVERY_S, at_s) / _STATE_EVERY_S
        return min(1.0, max(0.0, (mean_w - idle_w) / (busy_w - idle_w)))


def true_power(root: Path) -> tuple[Waveform, int]:
    """The power of the board in a folder, and its second 0 on this host's monotonic clock in ns.

    Raises:
        ConfigInvalid: there is no simulated board.
    """
    try:
        marker = msgspec.json.decode((root / MARKER).read_bytes(), type=Marker)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigInvalid(f"{root}: no simulated board is in this folder") from error
    return waveforms.parse(marker.power, root), marker.started_ns


def lock_folder(root: Path) -> int:
    """A descriptor of the folder, made if need be, that keeps it for this process alone until it is closed.

    Raises:
        ConfigInvalid: it holds something else, cannot be made, or another process plays a board in it.
    """
    _check_folder(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ConfigInvalid(f"{root}: {error.strerror}; name a folder that can be written") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(folder)
        raise ConfigInvalid(f"{root}: a board is played in it already; end that one, or name another folder") from error
    return folder


def _check_folder(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise ConfigInvalid(f"{root}: expected a folder")
    if root.is_dir() and not (root / MARKER).is_file() and any(root.iterdir()):
        raise ConfigInvalid(f"{root}: this folder holds something that is no simulated board; name an empty or new one")


def _clear(root: Path) -> None:
    """Take away the tree of an earlier simulation, which may have been of another board."""
    for name in _MADE:
        shutil.rmtree(root / name, ignore_errors=True)


def _kept(power: str, root: Path) -> str:
    """`power` for the marker; the file of a CSV is copied beside it, so that the truth stays what was played."""
    form, _, file = power.partition(":")
    if form != "csv":
        return power
    kept = root / "power.csv"
    if Path(file).resolve() != kept.resolve():
        shutil.copyfile(file, kept)
    return f"csv:{kept.name}"


def _marker(name: str, board: Board, power: str, seed: int, noise_share: float, started_ns: int) -> Marker:
    return Marker(
        schema=_SCHEMA,
        board=name,
        power=power,
        seed=seed,
        noise_share=noise_share,
        started_ns=started_ns,
        rails=tuple(_told(board)),
        gpu=f"sys/class/devfreq/{board.gpu}",
        gpu_load=board.gpu_load,
        gpcs=board.gpcs,
        emc=board.emc,
    )


def _told(board: Board) -> Iterable[ToldRail]:
    """The rails in tegrastats's order: as the board has them."""
    folders = {monitor.address: monitor.folder for monitor in layout.monitors(board)}
    for rail in board.rails:
        folder = folders[rail.address]
        if rail.told and rail.chip is INA3221:
            files = (f"{folder}/in{rail.channel}_input", f"{folder}/curr{rail.channel}_input")
            yield ToldRail(rail.label, files, 1e-3)
        elif rail.told:
            yield ToldRail(rail.label, (f"{folder}/power1_input",), 1e-3)


def _program(source: str) -> str:
    """A program that needs this Python, and nothing that is installed in it."""
    return f"#!{sys.executable} -IS\n{source}"
