"""TCP proxies that delay, stall and cut; the one before PostgreSQL loses the answer to a COMMIT."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Self

from tests.support.broker import LOOPBACK, free_ports

_CHUNK = 64 * 1024
_PROTOCOL_3 = 3 << 16
_STATEMENT_KINDS = b"QP"  # a simple query, or a statement to be prepared
_ENDS = (b"COMMIT\0", b"ROLLBACK\0")


class CommitLoss(Enum):
    """How a COMMIT is lost. The client sees the same: the connection ends without an answer."""

    ANSWER = "the server has committed, and its answer is swallowed"
    REQUEST = "the COMMIT never reaches the server, which rolls back"


class TcpProxy:
    """Forwards connections on a port of its own to a server; use it as a context.

    Args:
        port: The server's, on loopback.

    Attributes:
        port: The proxy's.
        delay_s: How long each chunk waits, in both directions.
    """

    def __init__(self, port: int) -> None:
        (self.port,) = free_ports(1)
        self.delay_s = 0.0
        self._server_port = port
        self._links: set[_Link] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._listener: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.shut()

    async def open(self) -> None:
        """Take connections, on the same port as before."""
        self._listener = await asyncio.start_server(self._serve, LOOPBACK, self.port)

    async def shut(self) -> None:
        """Refuse connections and cut those that are open, as if the server's host were gone."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self.cut()
        self.resume()
        tasks = [link.task for link in self._links]
        await asyncio.gather(*tasks, return_exceptions=True)

    def cut(self) -> None:
        """Reset all connections, on both sides."""
        for link in tuple(self._links):
            link.cut()

    def stall(self) -> None:
        """Forward nothing more, in both directions, until ``resume``; connections stay open."""
        self._flowing.clear()

    def resume(self) -> None:
        """Go on with what was held back."""
        self._flowing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            to_server = await asyncio.open_connection(LOOPBACK, self._server_port)
        except OSError:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        link = _Link((reader, writer), to_server, task)
        self._links.add(link)
        try:
            # The first direction that ends is the end of both.
            pumps = [asyncio.create_task(self._pump_up(link))]
            pumps.append(asyncio.create_task(self._pump_down(link)))
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            link.cut()
            await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            link.cut()
            self._links.discard(link)

    async def _pump_up(self, link: "_Link") -> None:
        with suppress(OSError):
            while data := await link.client[0].read(_CHUNK):
                await self._wait()
                if not self._passes_up(link, data):
                    return
                link.server[1].write(data)
                await link.server[1].drain()

    async def _pump_down(self, link: "_Link") -> None:
        with suppress(OSError):
            while data := await link.server[0].read(_CHUNK):
                await self._wait()
                if not self._passes_down(link, data):
                    continue
                link.client[1].write(data)
                await link.client[1].drain()

    def _passes_up(self, link: "_Link", data: bytes) -> bool:
        """Whether what a client sends goes on; if not, its connection ends."""
        return True

    def _passes_down(self, link: "_Link", data: bytes) -> bool:
        """Whether what a server answers goes on; if not, it is swallowed."""
        return True

    async def _wait(self) -> None:
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        await self._flowing.wait()


class Proxy(TcpProxy):
    """The proxy before PostgreSQL, which reads its protocol to find a COMMIT.

    So connections must be without TLS.

    Attributes:
        commits_lost: How many COMMITs were lost.
    """

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.commits_lost = 0
        self._loss: CommitLoss | None = None
        self._lost = asyncio.Event()

    def lose_next_commit(self, loss: CommitLoss) -> asyncio.Event:
        """Lose the next COMMIT of any connection, and cut that connection.

        Returns:
            What is set once it has happened.
        """
        self._loss = loss
        self._lost = asyncio.Event()
        return self._lost

    def _passes_up(self, link: "_Link", data: bytes) -> bool:
        if link.statements.find_commit(data) and self._loss is not None:
            link.loss, self._loss = self._loss, None
            if link.loss is CommitLoss.REQUEST:
                self._count_loss(link)
                return False
        return True

    def _passes_down(self, link: "_Link", data: bytes) -> bool:
        if link.loss is None:
            return True
        link.swallowed += data
        if any(end in link.swallowed for end in _ENDS):
            self._count_loss(link)
        return False

    def _count_loss(self, link: "_Link") -> None:
        link.cut()
        self.commits_lost += 1
        self._lost.set()


class _Statements:
    """Follows what a client sends, message by message."""

    def __init__(self) -> None:
        self._unread = bytearray()
        self._started = False  # only then messages begin with their kind

    def find_commit(self, data: bytes) -> bool:
        """Read on and tell whether a COMMIT was among it."""
        self._unread += data
        found = False
        while (message := self._next()) is not None:
            kind, body = message
            text = body.lstrip(b"\0 \n").upper()
            found = found or (kind in _STATEMENT_KINDS and text.startswith(b"COMMIT"))
        return found

    def _next(self) -> tuple[bytes, bytes] | None:
        head = 1 if self._started else 0
        if len(self._unread) < head + 4:
            return None
        size = head + int.from_bytes(self._unread[head : head + 4], "big")
        if len(self._unread) < size:
            return None
        kind, body = bytes(self._unread[:head]), bytes(self._unread[head + 4 : size])
        del self._unread[:size]
        if not self._started:
            # Before the start packet a client may ask for TLS.
            self._started = int.from_bytes(body[:4], "big") == _PROTOCOL_3
            return b"-", body
        return kind, body


@dataclass(eq=False, slots=True)
class _Link:
    """One connection of a client and the proxy's own to the server."""

    client: tuple[asyncio.StreamReader, asyncio.StreamWriter]
    server: tuple[asyncio.StreamReader, asyncio.StreamWriter]
    task: asyncio.Task[None]
    statements: _Statements = field(default_factory=_Statements)
    loss: CommitLoss | None = None
    swallowed: bytes = b""

    def cut(self) -> None:
        for _, writer in (self.client, self.server):
            writer.transport.abort()
