"""A small HTTP server for operators: ``/health``, ``/ready``, ``/metrics``, and a page at ``/``.

It runs inside the process's event loop, so ``/health`` answers exactly as long as the loop turns.
It speaks to machines that ask now and then: every connection carries one request and has a
deadline, there is a bound on how many there are, at which the oldest makes room, and nothing a
peer sends is logged.

The Host header is not looked at. A page whose name has been pointed here (DNS rebinding) can read
all this, and finds numbers and the reasons of ``/ready``: no topic, no payload, no client, and
nothing to change. The page here may publish, and is refused by the WebSocket port under such a
name. Scrapers may come under any name that leads here, so none can be required.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import orjson
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.config import Config
from uvicorn.server import ServerState

from monstermq_shared.counters import Counters
from monstermq_shared.operation.binding import listen
from monstermq_shared.operation.http_connection import HttpConnection, silent_config
from monstermq_shared.operation.limited_log import LimitedLog

CONNECTIONS_MAX = 256
"""For one more the oldest is cut, so that slow peers cannot keep a health check out.

An answer takes a few milliseconds, so the oldest is nearly always one that asks for nothing."""

BACKLOG = 128
"""Connections the kernel holds until they are accepted; fewer than ``CONNECTIONS_MAX``, so that
none is cut for those accepted in the same turn before its request was looked at."""

REQUEST_HEAD_BYTES_MAX = 8192
"""A request line and headers longer than this are answered with 400."""

CONNECTION_DEADLINE_S = 10.0
"""A connection is cut after this, whatever it does."""

STOP_DEADLINE_S = 1.0
"""How long ``stop`` waits for answers that are being written."""

_HEADERS = [
    ("connection", "close"),
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
]


class Page(Protocol):
    """What is sent for ``/``.

    Attributes:
        body: The page, in UTF-8.
        headers: What goes with it.
    """

    @property
    def body(self) -> bytes:
        """See above."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """See above."""
        ...


class Readiness(NamedTuple):
    """What ``/ready`` answers, in words an operator understands.

    Attributes:
        reasons: Why clients should not be sent here now; empty means ready.
        warnings: What is wrong although they may be.
    """

    reasons: Sequence[str]
    warnings: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the server listens.

    Attributes:
        host: The address.
        port: The port; 0 takes a free one.
        key: The port's configuration key, for errors.
        listeners: What somebody else has opened, instead of all that.
    """

    host: str
    port: int
    key: str = "Metrics.Port"
    listeners: Sequence[socket.socket] = ()


class OperationServer:
    """Serves health, readiness and metrics on one port, from ``start`` to ``stop``."""

    def __init__(
        self,
        place: Place,
        registry: CollectorRegistry,
        readiness: Callable[[], Readiness],
        *,
        page: Page,
        counters: Counters,
        refresh: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Prepare the server; nothing is opened yet.

        Args:
            place: Where it listens; see ``port`` after ``start``.
            registry: What ``/metrics`` shows.
            readiness: Returns what ``/ready`` answers.
            page: What is at ``/``.
            counters: Where connections that made room are counted.
            refresh: Brings up to date what ``readiness`` and the registry show; bounded in time.
        """
        self._place = place
        self._registry = registry
        self._readiness = readiness
        self._port = place.port
        self._refresh = refresh
        self._page = page
        self._open = _Connections(counters)
        self._expositions: dict[str, bytes] = {}
        self._limited_log = LimitedLog(logging.getLogger(__name__))
        self._state = ServerState()
        self._servers: list[asyncio.Server] = []

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    async def start(self) -> None:
        """Listen, and answer from now on.

        Raises:
            StartupError: The address cannot be listened on; the exit code is ``PORT_IN_USE``.
        """
        config = self._config()
        self._state.default_headers = config.encoded_headers

        def accept() -> _OneRequest:
            return _OneRequest(self._open, config, self._state)

        at = self._place
        listeners = [*at.listeners] or listen(at.key, at.host, at.port, backlog=BACKLOG)
        self._port = listeners[0].getsockname()[1]
        loop = asyncio.get_running_loop()
        self._servers = [
            await loop.create_server(accept, sock=each, backlog=BACKLOG) for each in listeners
        ]

    async def stop(self) -> None:
        """Stop listening, finish the answers under way within a bound, and end every connection."""
        servers, self._servers = self._servers, []
        if not servers:
            return
        for server in servers:
            server.close()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=STOP_DEADLINE_S)
        for connection in list(self._state.connections):
            connection.transport.close()

    def _config(self) -> Config:
        routes = [
            Route("/", self._root),
            Route("/health", self._health),
            Route("/ready", self._ready),
            Route("/metrics", self._metrics),
        ]
        app = Starlette(routes=routes, exception_handlers={Exception: self._failed})
        app.router.redirect_slashes = False
        return silent_config(app, headers=_HEADERS, idle_s=1, head_size_max=REQUEST_HEAD_BYTES_MAX)

    async def _root(self, _request: Request) -> Response:
        return Response(self._page.body, headers=self._page.headers)

    async def _health(self, _request: Request) -> Response:
        return _json(200, {"status": "alive"})

    async def _ready(self, _request: Request) -> Response:
        if self._refresh is not None:
            await self._refresh()
        reasons, warnings = self._readiness()
        status, word = (503, "not ready") if reasons else (200, "ready")
        body: dict[str, object] = {"status": word, "reasons": reasons}
        return _json(status, body | ({"warnings": warnings} if warnings else {}))

    async def _metrics(self, request: Request) -> Response:
        if self._refresh is not None:
            await self._refresh()
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        exposition = self._expositions.get(content_type)
        if exposition is None:
            # All that ask in the same turn get the same answer: a crowd costs as much as one.
            exposition = self._expositions[content_type] = encode(self._registry)
            asyncio.get_running_loop().call_soon(self._expositions.clear)
        return Response(exposition, headers={"content-type": content_type})

    async def _failed(self, request: Request, exc: Exception) -> Response:
        extra = {"path": request.url.path, "error": repr(exc)}
        now_s = asyncio.get_running_loop().time()
        self._limited_log.log("failed", now_s, logging.ERROR, "an operator's request failed", extra)
        return _json(500, {"status": "failed"})


class _Connections:
    """The connections that are open, oldest first, and no more than ``CONNECTIONS_MAX``."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._open: dict[_OneRequest, None] = {}

    def add(self, connection: "_OneRequest") -> None:
        """Let one in; the oldest makes room for it."""
        if len(self._open) >= CONNECTIONS_MAX:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
            self._counters.operation_connections_cut += 1
        self._open[connection] = None

    def discard(self, connection: "_OneRequest") -> None:
        """It has ended."""
        self._open.pop(connection, None)


class _OneRequest(HttpConnection):
    """One request per connection, within a deadline."""

    def __init__(self, others: _Connections, config: Config, state: ServerState) -> None:
        super().__init__(config, state)
        self._others = others

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Set the deadline."""
        super().connection_made(transport)
        self._others.add(self)
        self.set_deadline(CONNECTION_DEADLINE_S, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Make room."""
        self._others.discard(self)
        super().connection_lost(exc)


def _json(status: int, body: dict[str, object]) -> Response:
    content = orjson.dumps(body) + b"\n"
    return Response(content, status_code=status, media_type="application/json")
