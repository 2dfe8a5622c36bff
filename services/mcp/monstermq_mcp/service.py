"""The MCP server with all that surrounds it: built, started and stopped on one event loop."""

import asyncio
import logging
import socket
from collections.abc import Sequence

from starlette.applications import Starlette

from monstermq_mcp.counts import Counts
from monstermq_mcp.http_app import build_app
from monstermq_mcp.listener import Listener
from monstermq_mcp.needs import Needs
from monstermq_mcp.opening import opened
from monstermq_mcp.places import bind_address
from monstermq_mcp.server import build_server
from monstermq_mcp.tokens import Tokens
from monstermq_shared.config.addresses import is_loopback
from monstermq_shared.errors import MonsterError
from monstermq_shared.operation.web_origins import own_names

logger = logging.getLogger(__name__)


class McpService:
    """Serves MCP on sockets, from ``start`` to ``stop``.

    Args:
        needs: What the tools stand on.
        tokens: What must be shown.
        sockets: Where it listens; they belong to the service from now on.
        counts: What is counted.
    """

    def __init__(
        self, needs: Needs, tokens: Tokens, sockets: Sequence[socket.socket], counts: Counts
    ) -> None:
        self._needs = needs
        self._tokens = tokens
        self._sockets = sockets
        self._counts = counts
        self._stopping = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Answer from now on."""
        started = asyncio.get_running_loop().create_future()
        # The SDK's task group must be left by the task that has entered it, and ``stop`` may be
        # called by another one.
        self._serving = asyncio.create_task(self._serve(started), name="mcp")
        await asyncio.wait([self._serving, started], return_when=asyncio.FIRST_COMPLETED)
        if not started.done():
            await self._serving

    async def _serve(self, started: "asyncio.Future[None]") -> None:
        config = self._needs.config
        names = own_names(config.bind_address, bind_address(config)) | {*config.mcp.hosts}
        async with opened(self._needs, self._counts) as sources:
            app = build_app(build_server(sources), self._tokens, names, self._counts)
            await self._listen(app, started)

    async def _listen(self, app: Starlette, started: "asyncio.Future[None]") -> None:
        listener = Listener(app, self._sockets, self._counts)
        async with app.router.lifespan_context(app):
            try:
                await listener.open()
                started.set_result(None)
                self._warn()
                await self._stopping.wait()
            finally:
                await listener.close()

    def _warn(self) -> None:
        """Tell that it is open to this machine; of others the configuration's warning tells."""
        if self._tokens.read is None and is_loopback(bind_address(self._needs.config)):
            logger.warning(
                "MCP.Token is not set: every program of this machine can read every topic and its "
                "history"
            )

    async def ended(self) -> None:
        """Wait until it answers no more; it has been started.

        Raises:
            Exception: What has ended it, a fault of it or of the SDK.
        """
        assert self._serving is not None
        await asyncio.wait([self._serving])
        if not self._serving.cancelled():
            self._serving.result()
        elif not self._stopping.is_set():
            raise MonsterError("its task was cancelled")

    async def stop(self) -> None:
        """Answer what is being answered, within a bound, and end; ``ended`` tells how that went."""
        self._stopping.set()
        if self._serving is not None:
            await asyncio.wait([self._serving])
