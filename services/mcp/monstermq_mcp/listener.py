"""The HTTP server: connections with a bound, and with deadlines where a peer does nothing."""

import asyncio
import socket
from collections.abc import Sequence

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import RequestResponseCycle
from uvicorn.server import ServerState

from monstermq_mcp.counts import Counts
from monstermq_mcp.places import BACKLOG
from monstermq_shared.operation.http_connection import HttpConnection, silent_config

CONNECTIONS_MAX = 256
"""For one more the longest idle is closed; if all are at work, the new one is."""

HEAD_SIZE_MAX = 16 * 1024
"""A request line and headers longer than this are answered with 400."""

KEEP_ALIVE_S = 60
"""How long a connection may be idle between requests."""

HEAD_S = 75.0
"""How long the head of a request may take, with the time before it."""

ANSWER_S = 120.0
"""How long an answer may take beside that; a watch takes a minute. Whoever does not read what he
asked for must not keep his place for ever."""

STOP_S = 2.0
"""How long ``close`` waits for answers that are being made."""

_HEADERS = [("cache-control", "no-store"), ("x-content-type-options", "nosniff")]


class Listener:
    """Serves an application on sockets that listen.

    Args:
        app: What answers.
        sockets: Where; they belong to the listener from now on.
        counts: Where connections are counted that made room.
    """

    def __init__(self, app: ASGIApp, sockets: Sequence[socket.socket], counts: Counts) -> None:
        self._app = app
        self._sockets = sockets
        self._open = _Connections(counts)
        self._state = ServerState()
        self._servers: list[asyncio.Server] = []

    async def open(self) -> None:
        """Answer from now on."""
        config = silent_config(
            self._app, headers=_HEADERS, idle_s=KEEP_ALIVE_S, head_size_max=HEAD_SIZE_MAX
        )
        self._state.default_headers = config.encoded_headers

        def accept() -> _Connection:
            return _Connection(self._open, config, self._state)

        loop = asyncio.get_running_loop()
        self._servers = [
            await loop.create_server(accept, sock=each, backlog=BACKLOG) for each in self._sockets
        ]

    async def close(self) -> None:
        """Stop listening, let answers that are being made go out within a bound, end all else."""
        for server in self._servers:
            server.close()
        for each in self._sockets:
            each.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=STOP_S)
        for task in self._state.tasks:
            task.cancel()
        await asyncio.gather(*self._state.tasks, return_exceptions=True)
        for connection in list(self._state.connections):
            connection.transport.close()
        await asyncio.sleep(0)  # what was written is sent at the end of a turn
        for connection in list(self._state.connections):
            connection.transport.abort()


class _Connections:
    """The connections that are open, the longest idle first."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._open: dict[_Connection, None] = {}

    def admit(self, connection: "_Connection") -> bool:
        """Return whether there is room for one more, which may be made."""
        if len(self._open) >= CONNECTIONS_MAX:
            self._counts.cut += 1
            idle = next((each for each in self._open if each.is_idle), None)
            if idle is None:
                return False
            self.discard(idle)
            idle.transport.abort()
        self._open[connection] = None
        return True

    def was_used(self, connection: "_Connection") -> None:
        """An answer is complete: it is idle from now on."""
        if connection in self._open:
            del self._open[connection]
            self._open[connection] = None

    def discard(self, connection: "_Connection") -> None:
        """It has ended."""
        self._open.pop(connection, None)


class _Connection(HttpConnection):
    """One with deadlines for the head of a request and for its answer."""

    def __init__(self, others: _Connections, config: Config, state: ServerState) -> None:
        super().__init__(config, state)
        self._others = others
        self._late: RequestResponseCycle | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being answered."""
        return self.latest is None or self.latest.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Set the deadline, if there is room."""
        super().connection_made(transport)
        if self._others.admit(self):
            self._wait()
        else:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Make room."""
        self._others.discard(self)
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of one that was answered early."""
        self._others.was_used(self)
        self._wait()
        super().on_response_complete()

    def _wait(self) -> None:
        self.set_deadline(HEAD_S, self._waited)

    def _waited(self) -> None:
        if self.is_idle or self._late is self.latest:
            self.transport.abort()
        else:
            self._late = self.latest
            self.set_deadline(ANSWER_S, self._waited)
