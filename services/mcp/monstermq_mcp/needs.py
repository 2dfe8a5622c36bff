"""What the MCP server stands on."""

from dataclasses import dataclass, field

from monstermq_shared.config import BrokerConfig
from monstermq_shared.queries.cursors import Cursors
from monstermq_shared.queries.ports import LiveFeed, LogQueries, Publisher
from monstermq_shared.stores.memory_topics import MemoryQueries


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What tools are given.

    Attributes:
        config: The configuration.
        version: Of the product.
        live: What is published now; None: nobody tells.
        log: What the log has; None: the archive is asked instead.
        publisher: Publishes; None: that is switched off.
        memory: What is in the memory of a broker in this process; None: there is none.
        cursors: Seals where pages end; ``memory`` and what joins it with a database must have the
            same.
    """

    config: BrokerConfig
    version: str
    live: LiveFeed | None = None
    log: LogQueries | None = None
    publisher: Publisher | None = None
    memory: MemoryQueries | None = None
    cursors: Cursors = field(default_factory=Cursors)
