"""`phasewatt-agent meters decode FORMAT FILE|-`: what another tool printed, as one JSON object a line."""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import msgspec

from agent.jetson import line as tegrastats
from agent.jetson.cutting import LineCutter
from phasewatt import rails
from phasewatt.errors import ConfigInvalid
from phasewatt.fields import Scope

STANDARD_INPUT = "-"
_PIECE_BYTES = 65536


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The format and the file."""
    parser.add_argument("format", metavar="FORMAT", help=f"what printed the lines: {', '.join(FORMATS)}")
    parser.add_argument("file", metavar="FILE", help="file with such lines; - for standard input, as from a pipe")


def run(args: argparse.Namespace) -> int:
    """Print an object for every line that is not blank, as soon as it has come.

    Raises:
        ConfigInvalid: no such format, or the file cannot be read.
    """
    decode = FORMATS.get(args.format)
    if decode is None:
        raise ConfigInvalid(f"decode: no format {args.format!r}; known: {', '.join(FORMATS)}")
    with _opened(args.file) as stream:
        for number, line in enumerate(_lines(stream, args.file), start=1):
            content = decode(line)
            if content is not None:
                told = {"line": number, **content} if "error" in content else content
                print(msgspec.json.encode(told).decode(), flush=True)
    return 0


def decode_tegrastats(line: bytes) -> dict[str, object] | None:
    """The content of one line; None of a blank one."""
    found = tegrastats.parse(line)
    if isinstance(found, tegrastats.NotTegrastats):
        return None if found.blank else {"error": found.reason}
    powers_w = {name: rail.now_w for name, rail in found.rails.items()}
    totals = rails.totals(powers_w)
    module = totals.get(Scope.MODULE)
    return {
        "time": found.time,
        "time_iso": found.time_iso,
        "rails": powers_w,
        "total_w": _total_w(powers_w, module),
        "total_rule": module.rule if module else None,
        "scope": module.scope if module else None,
        "board_input_w": _total_w(powers_w, totals.get(Scope.BOARD_INPUT)),
        "temperatures_c": found.temperatures_c,
        "gpu_load": found.gpu_load,
        "gpu_clock_hz": found.gpu_clock_hz,
        "gpu_clocks_hz": found.gpu_clocks_hz,
        "memory_used_bytes": found.memory_used_bytes,
        "memory_total_bytes": found.memory_total_bytes,
        "memory_free_block_bytes": found.free_block_bytes,
        "memory_free_blocks": found.free_blocks,
        "swap_used_bytes": found.swap_used_bytes,
        "swap_total_bytes": found.swap_total_bytes,
        "swap_cached_bytes": found.swap_cached_bytes,
        "cpu_loads": found.cpu_loads,
        "cpu_clocks_hz": found.cpu_clocks_hz,
        "emc_load": found.emc_load,
        "emc_clock_hz": found.emc_clock_hz,
    }


FORMATS: Mapping[str, Callable[[bytes], dict[str, object] | None]] = {"tegrastats": decode_tegrastats}


def _total_w(powers_w: Mapping[str, float], total: rails.Total | None) -> float | None:
    watts = None if total is None else rails.total_w(powers_w, total)
    return None if watts is None else round(watts, 3)  # rails are printed in whole mW


def _opened(file: str) -> contextlib.AbstractContextManager[BinaryIO]:
    if file == STANDARD_INPUT:
        if sys.stdin is None:
            raise ConfigInvalid("-: standard input is closed; name a file")
        return contextlib.nullcontext(sys.stdin.buffer)
    try:
        return Path(file).open("rb")
    except OSError as error:
        raise _unreadable(file, error) from error


def _lines(stream: BinaryIO, file: str) -> Iterator[bytes]:
    """Every line when it ends, and what is after the last end."""
    cutter = LineCutter()
    assert isinstance(stream, io.BufferedIOBase)
    try:
        while piece := stream.read1(_PIECE_BYTES):  # what is there now, where `read` waits for more
            yield from cutter.feed(piece)
    except OSError as error:
        raise _unreadable(file, error) from error
    yield cutter.rest()


def _unreadable(file: str, error: OSError) -> ConfigInvalid:
    return ConfigInvalid(
        f"decode: cannot read {file}: {error.strerror or error}; expected a file of lines, or - for standard input"
    )
