"""The golden files of the current schema, written once: what every later version must still read.

    python -m tools.golden

A schema that has been published does not change: files that stand already are left alone, and the exit status is 1.
"""

from __future__ import annotations

import sys

from phasewatt import codec
from tests.fixtures import golden


def main() -> int:
    """Write the folder of `codec.SCHEMA`; 0 if it was not there."""
    folder = golden.folder(codec.SCHEMA)
    if folder.exists():
        print(f"golden: {folder} stands already; a changed record needs a new codec.SCHEMA", file=sys.stderr)
        return 1
    bodies = {name: codec.encode(record) for name, record in golden.filled().items()}
    folder.mkdir(parents=True)
    for name, body in bodies.items():
        (folder / f"{name}.json").write_bytes(body + b"\n")
    print(f"golden: wrote {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
