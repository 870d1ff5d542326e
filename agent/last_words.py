"""The end of what a child says on its standard error: why it died is often there, and nowhere else."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import IO

_KEPT_BYTES = 4096
_PATIENCE_S = 1.0  # for what the child started, and what may still hold the pipe


class LastWords:
    """Reads the stream in a thread, so that the child never waits for a reader, and keeps its end."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._kept = b""
        self._thread = threading.Thread(target=self._read, name="last words", daemon=True)
        self._thread.start()

    def text(self) -> str:
        """What a child that has ended said last, without characters that would steer a terminal."""
        self._thread.join(_PATIENCE_S)
        lines = self._kept.decode(errors="replace").splitlines()
        return "\n".join("".join(c for c in line if c.isprintable()) for line in lines if line.strip())

    def close(self) -> None:
        """Let go of the stream."""
        self._thread.join(_PATIENCE_S)
        if not self._thread.is_alive():
            with contextlib.suppress(OSError):
                self._stream.close()

    def _read(self) -> None:
        while chunk := os.read(self._stream.fileno(), 1 << 16):
            self._kept = (self._kept + chunk)[-_KEPT_BYTES:]
