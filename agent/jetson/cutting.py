"""Lines out of a stream of bytes that comes in pieces, in bounded memory however long a line is."""

from __future__ import annotations

MAX_LINE_BYTES = 65536


class LineCutter:
    """Gives each line without its end; of one that is longer than `MAX_LINE_BYTES`, what was before that."""

    def __init__(self) -> None:
        self._begun = bytearray()

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that end in this piece."""
        *ends, rest = piece.split(b"\n")
        lines = []
        for end in ends:
            self._keep(end)
            lines.append(self.rest())
        self._keep(rest)
        return lines

    def rest(self) -> bytes:
        """The line that has begun and not ended; it is given once."""
        line = bytes(self._begun)
        self._begun.clear()
        return line

    def _keep(self, part: bytes) -> None:
        self._begun += part[: MAX_LINE_BYTES - len(self._begun)]
