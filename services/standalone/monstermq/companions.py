"""What runs beside the broker on the internal bus: the MCP server."""

import asyncio
import os
from collections.abc import Callable
from importlib.metadata import version

from monstermq_edge.companion import Companion, Companions, none
from monstermq_edge.engines.local.host import LocalHost
from monstermq_edge.engines.local.live import LiveMessages, PublisherElsewhere
from monstermq_edge.engines.ports import Host
from monstermq_mcp.beside import McpBeside
from monstermq_mcp.counts import Counts
from monstermq_mcp.needs import Needs
from monstermq_shared.bus.header import RUN_SIZE
from monstermq_shared.bus.publishing import LogPublisher, PublisherLimits
from monstermq_shared.clock import SystemClock
from monstermq_shared.config import BrokerConfig
from monstermq_shared.queries.bounds import TIMEOUT_S_DEFAULT
from monstermq_shared.queries.cursors import Cursors
from monstermq_shared.stores.memory import MemoryMessageStore
from monstermq_shared.stores.memory_topics import LoopOwner, MemoryQueries
from monstermq_shared.views.catalogue import Catalogue


def companions_of(config: BrokerConfig) -> Companions:
    """Return what makes the companions that a configuration asks for."""
    if not config.mcp.runs:
        return none

    def companions(host: Host, touch: Callable[[], None]) -> list[Companion]:
        assert isinstance(host, LocalHost)  # on another bus it is a process of its own
        return [McpBeside(_needs(config, host, touch), Counts())]

    return companions


def _needs(config: BrokerConfig, host: LocalHost, touch: Callable[[], None]) -> Needs:
    loop, clock, cursors = asyncio.get_running_loop(), SystemClock(), Cursors()
    limits = PublisherLimits.from_config(config)
    publisher = LogPublisher(host.bus.messages, os.urandom(RUN_SIZE), clock, limits)
    return Needs(
        config=config,
        version=version("monstermq"),
        live=LiveMessages(host.engine, loop, clock, touch),
        publisher=PublisherElsewhere(publisher, loop) if config.mcp.allow_publish else None,
        memory=_memory(config, host, cursors),
        cursors=cursors,
    )


def _memory(config: BrokerConfig, host: LocalHost, cursors: Cursors) -> MemoryQueries:
    """Return what answers for the stores of type MEMORY, which only the broker can read."""
    stores = {}
    for view in Catalogue(config).messages:
        store = host.databases.message_store(view)
        if isinstance(store, MemoryMessageStore):
            stores[view.store] = store
    owner = LoopOwner(asyncio.get_running_loop())
    return MemoryQueries(stores, owner, cursors, timeout_s=TIMEOUT_S_DEFAULT)
