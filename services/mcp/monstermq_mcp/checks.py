"""What a request must pass before it is answered: its host, its origin, its token, its size.

Browsers let any page send requests to ``localhost``, and a page whose name has meanwhile been
pointed at this machine (DNS rebinding) may read the answers. Such a page comes under a name that is
not ours, so names are required in the Host header, and addresses are not: nobody can point an
address elsewhere.
"""

import asyncio
from collections import deque
from collections.abc import Iterable

import orjson
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monstermq_mcp.counts import Counts
from monstermq_shared.operation.web_origins import OriginPolicy
from monstermq_shared.origins import parse_origin

BODY_SIZE_MAX = 1024 * 1024
"""Bytes of a request; a call of a tool is far smaller."""

BODY_S = 15.0
"""How long a request may take to arrive."""


class FromHere:
    """Lets requests through that were sent to this machine by one of its names or an address.

    Args:
        app: What is behind.
        names: The names.
        counts: Where refusals are counted.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str], counts: Counts) -> None:
        self._app = app
        self._names = frozenset(names)
        self._origins = OriginPolicy(self._names)
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            refusal = self._refusal(headers.get("host", ""), headers.getlist("origin"))
            if refusal is not None:
                self._counts.foreign += 1
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, host: str, origins: list[str]) -> Response | None:
        if not self._is_ours(host):
            return refused(
                421,
                "this server is not known by that name: if it should be, add the name to MCP.Hosts",
            )
        if all(map(self._origins.admits, origins)):
            return None
        return refused(
            403,
            "web pages are let in from this machine only: if this page belongs to it, add the "
            "page's host name to MCP.Hosts",
        )

    def _is_ours(self, host: str) -> bool:
        try:
            origin = parse_origin(f"http://{host}")
        except ValueError:
            return False
        return origin.address is not None or origin.host in self._names


class TokenShown:
    """Lets requests through that show a token where one is required, and none that is wrong.

    The SDK's middleware before it has looked at the token.

    Args:
        app: What is behind.
        required: Whether there must be one.
        counts: Where refusals are counted.
    """

    def __init__(self, app: ASGIApp, counts: Counts, *, required: bool) -> None:
        self._app = app
        self._required = required
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        shown = "authorization" in Headers(scope=scope)
        if (shown or self._required) and not isinstance(scope.get("user"), AuthenticatedUser):
            self._counts.strangers += 1
            refusal = refused(
                401,
                "the bearer token is not one of this server"
                if shown
                else "this server asks for a token: send it as Authorization: Bearer <token>",
            )
            refusal.headers["www-authenticate"] = (
                'Bearer error="invalid_token"' if shown else "Bearer"
            )
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)


class WholeBody:
    """Reads a request to its end, within bounds of size and time, before it is looked at.

    Should the client leave while it is answered, the answer is given up.

    Args:
        app: What is behind.
        counts: Where refusals are counted.
    """

    def __init__(self, app: ASGIApp, counts: Counts) -> None:
        self._app = app
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        declared = Headers(scope=scope).get("content-length", "")
        body: bytes | None = None
        # h11 has seen to it that it is a number.
        if len(declared) <= len(str(BODY_SIZE_MAX)) and int(declared or 0) <= BODY_SIZE_MAX:
            try:
                async with asyncio.timeout(BODY_S):
                    body = await _read(receive)
            except TimeoutError:
                self._counts.slow += 1
                await refused(408, f"the request took longer than {BODY_S:g} s")(
                    scope, receive, send
                )
                return
            except _Gone:
                return
        if body is None:
            self._counts.large += 1
            problem = f"the request is larger than {BODY_SIZE_MAX} bytes"
            await refused(413, problem)(scope, receive, send)
            return
        answering = asyncio.ensure_future(self._app(scope, _replay(body, receive), send))
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait([answering, leaving], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if not answering.done():
                stopping = refused(503, "the server is stopping; ask again when it runs again")
                await stopping(scope, receive, send)
            raise
        finally:
            answering.cancel()
            leaving.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)
        if not answering.cancelled():
            answering.result()


class _Gone(Exception):
    """The client has left."""


async def _read(receive: Receive) -> bytes | None:
    """Return all of a request's body, None if it is too large."""
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise _Gone
        body += message.get("body", b"")
        if len(body) > BODY_SIZE_MAX:
            return None
        more = message.get("more_body", False)
    return bytes(body)


async def _left(receive: Receive) -> None:
    """Return once the client has left, or has his answer."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return what gives the body, and then what else is received."""
    waiting: deque[Message] = deque(
        [{"type": "http.request", "body": body, "more_body": False}],
    )

    async def replay() -> Message:
        return waiting.popleft() if waiting else await receive()

    return replay


def refused(status: int, problem: str) -> Response:
    """Return an answer that says what is wrong, as HTTP and as JSON-RPC do."""
    error = {"code": -32600, "message": problem}
    body = orjson.dumps({"jsonrpc": "2.0", "id": None, "error": error})
    return Response(body, status_code=status, media_type="application/json")
