"""The child process that exports one model: torch, and the model that it holds, are gone before anything is timed.

`python -m agent.engines.onnx_exporter FOLDER`, the order on standard input.
"""

from __future__ import annotations

import ctypes
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy

from agent import engines
from agent.engines import onnx_graph
from agent.engines.onnx_exports import MANIFEST, Export, digest_of
from agent.orders import Load
from phasewatt.errors import EngineFailed, PhasewattError

_PR_SET_PDEATHSIG = 1


def export(order: Load, folder: Path, engine: Any = None) -> Export:
    """The model of `order` as files in `folder`, the manifest last; `engine` is the reference one, or its stand-in.

    Raises:
        EngineFailed: the reference engine cannot load it, or the graph has no place for one of its weights.
    """
    onnx_graph.check(order.architecture, order.dtype, order.attention)
    engine = engine or engines.create("transformers")
    loaded = engine.load(msgspec.structs.replace(order, accelerator="cpu"))
    named = dict(engine._model.named_parameters())  # a tied head is one parameter, of the embeddings
    taken: set[str] = set()

    def weight(name: str) -> numpy.ndarray[Any, Any]:
        taken.add(name)
        values: numpy.ndarray[Any, Any] = named[name].detach().numpy()
        return values

    try:
        onnx_graph.write(folder, order.architecture, order.dtype, order.attention, weight)
    except KeyError as error:
        raise EngineFailed(f"the model has no weight {error}, which its architecture asks for") from error
    if left := sorted(named.keys() - taken):
        raise EngineFailed(f"the graph has no place for {len(left)} weights of the model, {left[0]} among them")
    written = (onnx_graph.MODEL_FILE, onnx_graph.WEIGHTS_FILE)
    done = Export(
        parameters=loaded.parameters,
        weights_digest=loaded.weights_digest,
        drawn_on=loaded.drawn_on,
        sha256={name: digest_of(folder / name) for name in written},
    )
    (folder / MANIFEST).write_bytes(msgspec.json.encode(done))
    return done


def main() -> int:
    """Entry point of the child; what failed is the last line on standard error."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # no orphan goes on writing
    try:
        export(msgspec.json.decode(sys.stdin.buffer.read(), type=Load), Path(sys.argv[1]))
    except PhasewattError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except ModuleNotFoundError as error:
        sys.stderr.write(f"the export needs {error.name}: pip install 'phasewatt[onnx,torch]'\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
