"""The MCP server beside a broker, in its process: a thread with an event loop of its own.

So nothing that the server does (models, Markdown, HTTP) is done in the broker's loop. The thread
also loads the server: that takes a second, for which no MQTT client should wait. Whoever connects
meanwhile waits in the port's backlog.
"""

import asyncio
import gc
import logging
import socket
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import uvloop

from monstermq_mcp.counts import Counts
from monstermq_mcp.metrics import CountsCollector
from monstermq_mcp.needs import Needs
from monstermq_mcp.places import open_sockets, url_of
from monstermq_mcp.tokens import Tokens

if TYPE_CHECKING:
    from monstermq_mcp.service import McpService

logger = logging.getLogger(__name__)

STOP_S = 5.0
"""How long a stop waits for the thread; what it may take itself is less."""


class McpBeside:
    """A companion of the broker, see ``monstermq_edge.companion``.

    Args:
        needs: What the server stands on.
        counts: What it counts.

    Attributes:
        collector: See ``Companion``.

    Raises:
        ConfigError: A file of a token cannot be used.
    """

    def __init__(self, needs: Needs, counts: Counts) -> None:
        self._needs = needs
        self._counts = counts
        self.collector = CountsCollector(counts)
        self._tokens = Tokens.from_config(needs.config.mcp)
        self._concern: str | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = threading.Event()
        self._told = asyncio.Event()  # belongs to the thread's loop

    async def start(self) -> None:
        """See ``Companion.start``."""
        sockets = open_sockets(self._needs.config)
        self._thread = threading.Thread(target=self._run, args=(sockets,), name="mcp", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """See ``Companion.stop``."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stopping.set()
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._told.set)
        await asyncio.to_thread(thread.join, STOP_S)
        if thread.is_alive():
            logger.error("the MCP server does not stop, and is left behind")

    def concerns(self) -> list[str]:
        """See ``Companion.concerns``."""
        return [] if self._concern is None else [self._concern]

    def urls(self) -> list[str]:
        """See ``Companion.urls``."""
        return [url_of(self._needs.config)]

    def _run(self, sockets: Sequence[socket.socket]) -> None:
        """Serve until told to stop. A fault ends the server, and never the broker."""
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve(sockets))
        except Exception as exc:
            logger.critical("the MCP server has failed; the broker goes on", exc_info=exc)
            self._concern = f"the MCP server has failed: {exc!r}"
            for each in sockets:
                each.close()

    async def _serve(self, sockets: Sequence[socket.socket]) -> None:
        # Here, because this is the thread that may take the time.
        from monstermq_mcp.service import McpService  # noqa: PLC0415

        self._loop = asyncio.get_running_loop()
        service = McpService(self._needs, self._tokens, sockets, self._counts)
        await service.start()
        # What was loaded stays: the broker's next collection of garbage need not look at it.
        gc.freeze()
        stopping = asyncio.create_task(self._stop_when_told(service), name="mcp-stop")
        try:
            await service.ended()
        finally:
            stopping.cancel()

    async def _stop_when_told(self, service: "McpService") -> None:
        if not self._stopping.is_set():
            await self._told.wait()
        await service.stop()
