"""The MCP server as an ASGI application: its paths, and what stands before them."""

from collections.abc import Iterable

from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend
from mcp.server.mcpserver import MCPServer
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from monstermq_mcp.access import Doorkeeper
from monstermq_mcp.checks import BODY_SIZE_MAX, FromHere, TokenShown, WholeBody
from monstermq_mcp.counts import Counts
from monstermq_mcp.metrics import CountsCollector
from monstermq_mcp.tokens import Tokens
from monstermq_shared.operation.metrics import registry_with

PATHS = ("/mcp", "/mcp/", "/")
"""Where the protocol is spoken; the first is what clients are told."""

_PAGE = """\
MonsterMQ MCP server

This is for MCP clients: give them the URL of this page with /mcp at its end.
"""


def build_app(server: MCPServer, tokens: Tokens, names: Iterable[str], counts: Counts) -> Starlette:
    """Return the application. Its lifespan must be run: without it every request fails.

    Args:
        server: Who answers.
        tokens: What must be shown.
        names: Of this machine, in lower case.
        counts: What is counted.
    """
    # Stateless: nothing of a client is kept between its requests, so nothing is left of those that
    # never come back. Answers are one JSON document, which any HTTP client understands.
    server.streamable_http_app(
        stateless_http=True,
        json_response=True,
        max_request_body_size=BODY_SIZE_MAX,
        # ``FromHere`` has looked, and knows more names.
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    sessions = server.session_manager
    required = tokens.read is not None
    spoken = TokenShown(WholeBody(_Spoken(sessions, counts), counts), counts, required=required)
    routes = [Route(path, spoken, methods=["POST"]) for path in PATHS]
    routes.append(Route("/", _page, methods=["GET"]))
    routes += [Route(path, _alive, methods=["GET"]) for path in ("/health", "/ready")]
    numbers = TokenShown(_Numbers(counts), counts, required=required)
    routes.append(Route("/metrics", numbers, methods=["GET"]))
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(FromHere, names=names, counts=counts),
            Middleware(AuthenticationMiddleware, backend=BearerAuthBackend(Doorkeeper(tokens))),
            Middleware(AuthContextMiddleware),
        ],
        lifespan=lambda _app: sessions.run(),
    )
    app.router.redirect_slashes = False
    return app


class _Spoken:
    """The SDK's side of it, as an ASGI application."""

    def __init__(self, sessions: StreamableHTTPSessionManager, counts: Counts) -> None:
        self._sessions = sessions
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        self._counts.requests += 1
        await self._sessions.handle_request(scope, receive, send)


class _Numbers:
    """The metrics, as an ASGI application."""

    def __init__(self, counts: Counts) -> None:
        self._registry = registry_with(CountsCollector(counts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        encode, content_type = choose_encoder(Headers(scope=scope).get("accept", ""))
        response = Response(encode(self._registry), headers={"content-type": content_type})
        await response(scope, receive, send)


async def _page(_request: Request) -> Response:
    return PlainTextResponse(_PAGE)


async def _alive(_request: Request) -> Response:
    return PlainTextResponse("alive\n")
