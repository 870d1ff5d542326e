"""A TCP proxy that does to a connection what bad links do, from a seed."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

_CHUNK_BYTES = 4096
_HOST = "127.0.0.1"


class Faults(NamedTuple):
    """What happens to every chunk that passes."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float | None = None
    loss: float = 0.0  # share of chunks that TCP has to send again, which costs it `resend_s`
    resend_s: float = 0.2
    reset: float = 0.0  # share of chunks at which the connection breaks


CLEAR = Faults()


class FaultProxy:
    """Listens on `port`; `faults` may be set at any time. Its methods may be called from any thread."""

    def __init__(self, target_port: int, seed: str) -> None:
        self.faults = CLEAR
        self.port = 0
        self.passed = 0  # chunks
        self.broken = 0  # connections that it broke by chance
        self._target_port = target_port
        self._draw = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._silent = False
        self._pairs: set[_Pair] = set()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault proxy", daemon=True)
        self._thread.start()
        self._call(self._listen())

    def cut(self) -> None:
        """Break all connections, as a reset does."""
        self._call(self._cut())

    def swallow(self) -> None:
        """Take everything and pass on nothing, new connections too: nobody is told that the link is down."""
        self._call(self._swallow())

    def heal(self) -> None:
        """Let new connections through; those that lost bytes stay dead, as TCP has no way to mend them."""
        self._silent = False

    def half_close(self) -> None:
        """Tell the broker that the boards have nothing more to say, and not the other way round."""
        self._call(self._half_close())

    def close(self) -> None:
        """End all connections and the thread."""
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accepted, _HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        near = _End(reader, writer)
        try:
            far = _End(*await asyncio.open_connection(_HOST, self._target_port))
        except OSError:
            writer.transport.abort()
            return
        pair = _Pair(near, far, dead=self._silent)
        self._pairs.add(pair)
        await asyncio.gather(self._pump(pair, near, far), self._pump(pair, far, near))
        pair.abort()
        self._pairs.discard(pair)

    async def _pump(self, pair: _Pair, source: _End, sink: _End) -> None:
        try:
            while chunk := await source.reader.read(_CHUNK_BYTES):
                await self._suffer(len(chunk))
                if pair.dead:
                    continue
                if self._draw.random() < self.faults.reset:
                    self.broken += 1
                    pair.abort()
                sink.writer.write(chunk)
                await sink.writer.drain()
                self.passed += 1
            if not pair.dead and not sink.writer.transport.is_closing():
                sink.writer.write_eof()
        except OSError:  # one end was reset: the other must hear of it
            pair.abort()

    async def _suffer(self, size_bytes: int) -> None:
        faults = self.faults
        wait_s = faults.delay_s + faults.jitter_s * self._draw.random()
        if faults.bytes_per_s is not None:
            wait_s += size_bytes / faults.bytes_per_s
        if self._draw.random() < faults.loss:
            wait_s += faults.resend_s
        if wait_s:
            await asyncio.sleep(wait_s)

    async def _cut(self) -> None:
        for pair in list(self._pairs):
            pair.abort()

    async def _swallow(self) -> None:
        self._silent = True
        for pair in self._pairs:
            pair.dead = True

    async def _half_close(self) -> None:
        for pair in self._pairs:
            if not pair.far.writer.transport.is_closing():
                pair.far.writer.write_eof()

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._cut()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


class _End(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class _Pair:
    def __init__(self, near: _End, far: _End, dead: bool) -> None:
        self.near = near
        self.far = far
        self.dead = dead

    def abort(self) -> None:
        for end in (self.near, self.far):
            end.writer.transport.abort()


@contextmanager
def proxied(target_port: int, seed: str) -> Iterator[FaultProxy]:
    """A proxy in front of a port."""
    proxy = FaultProxy(target_port, seed)
    try:
        yield proxy
    finally:
        proxy.close()
