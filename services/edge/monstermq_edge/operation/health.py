"""A small HTTP server for operators: ``/health``, ``/ready`` and ``/metrics``.

It runs inside the broker's event loop, so ``/health`` answers exactly as long as the loop turns.
It speaks to machines that ask now and then: every connection carries one request and has a
deadline, there is a bound on how many there are, and nothing a peer sends is logged.
"""

import asyncio
import logging
from collections.abc import Callable

import orjson
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from monstermq_edge.binding import listen
from monstermq_edge.operation.logging import LimitedLog

CONNECTIONS_MAX = 64
"""Connections beyond these are closed unread, so that the broker's descriptors stay its own."""

REQUESTS_MAX = 32
"""Requests beyond these are answered with 503."""

REQUEST_HEAD_BYTES_MAX = 8192
"""A request line and headers longer than this are answered with 400."""

CONNECTION_DEADLINE_S = 10.0
"""A connection is cut after this, whatever it does."""

STOP_DEADLINE_S = 1.0
"""How long ``stop`` waits for answers that are being written."""

_HEADERS = [("connection", "close"), ("cache-control", "no-store")]


class OperationServer:
    """Serves health, readiness and metrics on one port, from ``start`` to ``stop``."""

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        readiness: Callable[[], list[str]],
    ) -> None:
        """Prepare the server; nothing is opened yet.

        Args:
            host: The address to listen on.
            port: ``Metrics.Port``; 0 takes a free one, see ``port`` after ``start``.
            registry: What ``/metrics`` shows.
            readiness: Returns why clients should not be sent here now, one reason a line, in words
                an operator understands; an empty list means ready.
        """
        self._host = host
        self._registry = registry
        self._readiness = readiness
        self._port = port
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
        config.load()
        self._state.default_headers = config.encoded_headers

        def accept() -> _OneRequest:
            return _OneRequest(config=config, server_state=self._state, app_state={})

        listeners = listen("Metrics.Port", self._host, self._port, backlog=CONNECTIONS_MAX)
        self._port = listeners[0].getsockname()[1]
        loop = asyncio.get_running_loop()
        self._servers = [await loop.create_server(accept, sock=each) for each in listeners]

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
            Route("/health", self._health),
            Route("/ready", self._ready),
            Route("/metrics", self._metrics),
        ]
        app = Starlette(routes=routes, exception_handlers={Exception: self._failed})
        app.router.redirect_slashes = False
        return Config(
            app,
            http=_OneRequest,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            headers=_HEADERS,
            limit_concurrency=REQUESTS_MAX,
            timeout_keep_alive=1,
            h11_max_incomplete_event_size=REQUEST_HEAD_BYTES_MAX,
        )

    async def _health(self, _request: Request) -> Response:
        return _json(200, {"status": "alive"})

    async def _ready(self, _request: Request) -> Response:
        reasons = self._readiness()
        if reasons:
            return _json(503, {"status": "not ready", "reasons": reasons})
        return _json(200, {"status": "ready", "reasons": []})

    async def _metrics(self, request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self._registry), headers={"content-type": content_type})

    async def _failed(self, request: Request, exc: Exception) -> Response:
        extra = {"path": request.url.path, "error": repr(exc)}
        now_s = asyncio.get_running_loop().time()
        self._limited_log.log("failed", now_s, logging.ERROR, "an operator's request failed", extra)
        return _json(500, {"status": "failed"})


class _OneRequest(H11Protocol):
    """One request per connection, within a deadline; uvicorn alone would wait for ever."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Set the deadline, or hang up if there are too many connections."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS_MAX:
            transport.abort()
            return
        self._deadline = self.loop.call_later(CONNECTION_DEADLINE_S, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the deadline back."""
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse garbage, unless it came behind a request: that is answered once, or not at all."""
        # The base class begins without a cycle, although it declares one.
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None:
            super().send_400_response(msg)
        else:
            self.transport.abort()


def _json(status: int, body: dict[str, object]) -> Response:
    content = orjson.dumps(body) + b"\n"
    return Response(content, status_code=status, media_type="application/json")
