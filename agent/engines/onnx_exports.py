"""Exported models on disk: each made once, by a child process, known by its content, whole or not there, bounded."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from agent import out_of_memory
from agent.orders import Load
from phasewatt import roofline
from phasewatt.errors import DoesNotFit, EngineFailed

EXPORTER = 1  # raised whenever the same model gives another file
LARGEST = 1_650_000_000  # parameters; "1.5B" models have up to a tenth more
BOUND_BYTES = 8 * 10**9  # of all exports together, the newest one excepted
MANIFEST = "export.json"
_PARTIAL = "partial-"
_PIECE_BYTES = 1 << 22
_LIMIT_S = 1700.0  # within what the agent waits for a model to load
_SIGKILL = -9


Make = Callable[[Load, Path], object]  # writes files and manifest into a folder


class Export(Struct, frozen=True, kw_only=True):
    """What is known of an exported model: the manifest beside its files."""

    parameters: int
    weights_digest: str | None
    drawn_on: str | None
    sha256: dict[str, str]  # by name of file


class Exported(NamedTuple):
    """An export that is whole, and where."""

    folder: Path
    export: Export


def key_of(order: Load, files: Iterable[Path] = ()) -> str:
    """Name of the export of a model: of its shape, weights, dtype, attention and exporter, whatever it is called.

    `files` are those that hold the weights where they are no random ones.
    """
    shape = msgspec.structs.replace(order.architecture, name="")
    seed = order.weights if order.weights.startswith("random:") else None
    content = msgspec.json.encode([EXPORTER, shape, seed, order.dtype, order.attention])
    total = hashlib.sha256(content)
    for file in sorted(files):
        total.update(f"\n{file.name} {digest_of(file)}".encode())
    return total.hexdigest()[:32]


def of(
    order: Load,
    cache: Path,
    files: Iterable[Path] = (),
    make: Make | None = None,
    free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
) -> Exported:
    """The export of that model from `cache`, made there first if need be, by `make` or else by a child process.

    Raises:
        EngineFailed: it is too large to export, the export failed, or the one that is there is damaged.
        DoesNotFit: there is not enough memory or disk for it.
    """
    parameters = roofline.parameter_count(order.architecture)
    if parameters > LARGEST:
        raise EngineFailed(
            f"engine onnxruntime exports models of up to 1.5B parameters; {order.architecture.name} has "
            f"{parameters / 1e9:.1f}B: choose a smaller one, or engine transformers"
        )
    folder = cache / key_of(order, files)
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        _check_room(order, cache, free_bytes(cache))
        _add(order, cache, folder, make or in_child)
    found = Exported(folder, _checked(folder))
    os.utime(folder)
    keep_within(cache, BOUND_BYTES, besides=folder)
    return found


def _add(order: Load, cache: Path, folder: Path, make: Make) -> None:
    """A new export, under its name only once it is whole."""
    for left in cache.glob(f"{_PARTIAL}*"):  # of an export that was cut off: one agent works here at a time
        shutil.rmtree(left, ignore_errors=True)
    partial = cache / f"{_PARTIAL}{secrets.token_hex(4)}"
    partial.mkdir()
    try:
        make(order, partial)
        partial.rename(folder)
    except OSError as error:
        raise EngineFailed(f"the export failed: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_room(order: Load, cache: Path, free: int) -> None:
    """Raise DoesNotFit where the disk has no room for the files."""
    needed = roofline.weight_bytes(order.architecture, order.dtype) * 21 // 20  # rotary tables and padding
    if free < needed:
        raise DoesNotFit(f"the export needs {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free in {cache}")


def in_child(order: Load, folder: Path) -> None:
    """Write the export of a model into `folder`, by a child process.

    Raises:
        EngineFailed, DoesNotFit: as `of`.
    """
    command = [sys.executable, "-m", "agent.engines.onnx_exporter", str(folder)]
    try:
        done = subprocess.run(
            command, input=msgspec.json.encode(order), capture_output=True, check=False, timeout=_LIMIT_S
        )
    except subprocess.TimeoutExpired as error:
        raise EngineFailed(f"the export took longer than {_LIMIT_S:.0f} s") from error
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode == _SIGKILL:
        raise DoesNotFit("the export was killed, as the kernel does when memory runs out")
    if done.returncode and (sign := out_of_memory.sign_in(said)):
        raise DoesNotFit(out_of_memory.reason_here(sign))
    if done.returncode:
        raise EngineFailed(f"the export failed: {said.splitlines()[-1] if said else f'code {done.returncode}'}")


def _checked(folder: Path) -> Export:
    """The manifest of an export whose files are as they were written; one that is damaged is removed."""
    try:
        export = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Export)
        wrong = next((name for name, digest in export.sha256.items() if digest_of(folder / name) != digest), None)
    except (OSError, msgspec.MsgspecError) as error:
        wrong, export = f"{MANIFEST} or a file that it names: {error}", None
    if wrong is None and export is not None:
        return export
    shutil.rmtree(folder, ignore_errors=True)
    raise EngineFailed(f"the export in {folder} was damaged ({wrong}) and is removed: run again to make it anew")


def keep_within(cache: Path, bound_bytes: int, besides: Path) -> None:
    """Remove the exports that were used longest ago until the rest is within the bound."""
    others = [folder for folder in cache.iterdir() if folder.is_dir() and folder != besides]
    total = _size(besides)
    for folder in sorted(others, key=lambda each: each.stat().st_mtime, reverse=True):
        total += _size(folder)
        if total > bound_bytes:
            shutil.rmtree(folder, ignore_errors=True)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def digest_of(file: Path) -> str:
    """SHA-256 of what is in `file`."""
    total = hashlib.sha256()
    with file.open("rb") as opened:
        while piece := opened.read(_PIECE_BYTES):
            total.update(piece)
    return total.hexdigest()
