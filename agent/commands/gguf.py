"""`phasewatt-agent gguf MODEL OUT`: a model with random weights, for a llama.cpp server."""

from __future__ import annotations

import argparse
from pathlib import Path

from phasewatt.errors import ConfigInvalid


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, its weights, the type of the file, and the file."""
    parser.add_argument("model", help="an architecture preset, as the suites name it")
    parser.add_argument("out", type=Path, metavar="OUT", help="the file to write")
    parser.add_argument("--weights", default="random:7", help="random:SEED (default: %(default)s)")
    parser.add_argument(
        "--dtype", default="f16", metavar="TYPE", help="f32, f16, bf16, q8_0, q5_1, q5_0, q4_1 or q4_0 (default: f16)"
    )
    parser.add_argument("--force", action="store_true", help="write over a file that is there")


def run(args: argparse.Namespace) -> int:
    """Write the file, whole or not at all."""
    from rich.console import Console

    from agent import models
    from agent.gguf.writing import write

    shape = models.preset(args.model)
    if args.out.exists() and not args.force:
        raise ConfigInvalid(f"{args.out} is there already: --force writes over it")
    part = args.out.with_name(f"{args.out.name}.part")
    console = Console(stderr=True)
    try:
        with console.status("drawing weights") as status:
            written = write(shape, args.weights, args.dtype.lower(), part, status.update)
        part.replace(args.out)
    finally:
        part.unlink(missing_ok=True)
    made = f"{written.parameters / 1e6:.1f}M parameters, {args.dtype.lower()}, {written.size_bytes / 1e6:.1f} MB"
    print(f"{args.out}: {args.model} {args.weights}, {made}; {written.dtype} digest {written.digest}")
    return 0
