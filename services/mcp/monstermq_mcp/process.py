"""The MCP server as a process of its own, beside edges and projectors on the Kafka bus."""

import asyncio
import contextlib
import logging
from functools import partial
from importlib.metadata import version

from monstermq_mcp.counts import Counts
from monstermq_mcp.kafka.door import BusDoor
from monstermq_mcp.kafka.feed import KafkaFeed
from monstermq_mcp.kafka.log_queries import KafkaLogQueries
from monstermq_mcp.kafka.publishing import KafkaPublisher
from monstermq_mcp.metrics import CountsCollector
from monstermq_mcp.needs import Needs
from monstermq_mcp.places import open_sockets, url_of
from monstermq_mcp.service import McpService
from monstermq_mcp.tokens import Tokens
from monstermq_shared.bus.publishing import PublisherLimits
from monstermq_shared.config import LoadedConfig
from monstermq_shared.counters import Counters
from monstermq_shared.errors import MonsterError
from monstermq_shared.kafka.settings import KafkaSettings
from monstermq_shared.operation.health import OperationServer, Place, Readiness
from monstermq_shared.operation.metrics import registry_with
from monstermq_shared.operation.plain_page import PlainPage
from monstermq_shared.operation.process import run_process, run_service
from monstermq_shared.operation.signals import Signals
from monstermq_shared.queries.cursors import Cursors
from monstermq_shared.supervisor.supervised import Supervised

logger = logging.getLogger(__name__)

PAGE = PlainPage("""\
MonsterMQ MCP server

/health   whether it lives
/ready    whether it works, and why not
/metrics  what it was asked and refused
""")


def run_server(loaded: LoadedConfig, signals: Signals, supervised: Supervised | None) -> int:
    """Run the server until it is told to stop; return the exit status.

    Args:
        loaded: The configuration; logging is configured.
        signals: Who takes them, started.
        supervised: What a supervisor says, if one has started it.
    """
    return run_process(loaded, partial(_run, loaded, signals, supervised))


async def _run(loaded: LoadedConfig, signals: Signals, supervised: Supervised | None) -> int:
    process = McpProcess(loaded, supervised)
    stopping = asyncio.Event()
    soon = asyncio.get_running_loop().call_soon_threadsafe
    signals.listen(partial(soon, stopping.set), _nothing_to_reload, hang_up_stops=False)
    tell = partial(logger.info, "listening on %s", url_of(loaded.config))
    return await run_service(process, process.start(), stopping, signals, tell, logger)


def _nothing_to_reload() -> None:
    logger.info("nothing to reload")


class McpProcess:
    """Everything of the process; a ``process.Service``.

    Args:
        loaded: The configuration.
        supervised: See ``run_server``.
    """

    def __init__(self, loaded: LoadedConfig, supervised: Supervised | None) -> None:
        self.failed: asyncio.Future[MonsterError] = asyncio.get_running_loop().create_future()
        self._config = loaded.config
        self._supervised = supervised
        self._counts = Counts()
        self._ending = contextlib.AsyncExitStack()
        self._unready = ["the MCP server is starting"]
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Answer from now on.

        Raises:
            MonsterError: It cannot; nothing is left open.
        """
        try:
            await self._start()
        except BaseException:
            await self._ending.aclose()
            raise
        self._unready = []

    async def _start(self) -> None:
        tokens = Tokens.from_config(self._config.mcp)
        await self._start_operation()
        sockets = open_sockets(self._config)
        needs = self._needs()
        service = McpService(needs, tokens, sockets, self._counts)
        self._ending.push_async_callback(service.stop)
        await service.start()
        self._watching = asyncio.create_task(self._watch(service), name="mcp-end")

    async def _watch(self, service: McpService) -> None:
        """End the process with its server, so that who has started it starts it again."""
        try:
            await service.ended()
        except Exception as exc:
            logger.critical("the MCP server has failed", exc_info=exc)
            self.failed.set_result(MonsterError("a fault has ended the MCP server"))

    def _needs(self) -> Needs:
        config = self._config
        door = BusDoor(KafkaSettings.from_config(config))
        self._ending.push_async_callback(door.close)
        cursors = Cursors()
        publisher = KafkaPublisher(door, PublisherLimits.from_config(config))
        return Needs(
            config=config,
            version=version("monstermq"),
            live=KafkaFeed(door),
            log=KafkaLogQueries(door, cursors),
            cursors=cursors,
            publisher=publisher if config.mcp.allow_publish else None,
        )

    async def _start_operation(self) -> None:
        if self._supervised is None:  # then the server's own /health has to do
            return
        operation = OperationServer(
            Place(host="", port=0, listeners=(self._supervised.listener(),)),
            registry_with(CountsCollector(self._counts)),
            lambda: Readiness(self._unready),
            page=PAGE,
            counters=Counters(),
        )
        self._ending.push_async_callback(operation.stop)
        await operation.start()

    async def stop(self) -> None:
        """End, in bounded time."""
        self._unready = ["the MCP server is stopping"]
        await self._ending.aclose()
