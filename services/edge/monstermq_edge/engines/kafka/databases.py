"""The databases an edge reads: what is retained, what waits for kept sessions, and the marks."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence

from monstermq_edge.engines.kafka.begins import Begin, Begins, ReadLog, SharedDatabase
from monstermq_shared.config import BrokerConfig, StoreType
from monstermq_shared.config.kafka import SESSIONS_SUFFIX
from monstermq_shared.errors import ConfigError, MonsterError, StartupError, StoreUnavailable
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.stores.needed import RETAINED, StoresNeeded
from monstermq_shared.stores.outages import Outage
from monstermq_shared.stores.ports import Database, ReflectedPage, ReflectedReader
from monstermq_shared.stores.queues import KeptRows, QueueAsk, QueuePage
from monstermq_shared.stores.registry import open_database
from monstermq_shared.views.catalogue import QUEUES, RETAINED_VIEW, SESSIONS


class EdgeDatabases:
    """The databases, opened.

    Attributes:
        outages: What fails of each of them.

    Args:
        opened: By their types.
        config: Says which is for what.
        generation: Of the bus.
    """

    def __init__(
        self, opened: Mapping[StoreType, SharedDatabase], config: BrokerConfig, generation: str
    ) -> None:
        self.outages = {store_type: Outage(str(store_type)) for store_type in opened}
        self._opened = opened
        self._generation = generation
        self._of_retained = config.retained_store_type
        self._of_sessions = config.session_store_type
        self._begins = Begins(opened, config, generation)
        reader = self._opened[self._of_retained].message_store(RETAINED)
        assert isinstance(reader, ReflectedReader)
        self._reader: ReflectedReader = reader

    @property
    def retained_outage(self) -> Outage:
        """What fails of the database with what is retained."""
        return self.outages[self._of_retained]

    @property
    def sessions_outage(self) -> Outage:
        """What fails of the database with kept sessions and their queues."""
        return self.outages[self._of_sessions]

    async def begin(self, messages: ReadLog, sessions: ReadLog) -> Begin:
        """Say where reading begins; see ``Begins.find``."""
        return await self._begins.find(messages, sessions)

    # -- what is retained ------------------------------------------------------------------------

    async def page(self, topic_filter: str, *, after: str, limit: int) -> ReflectedPage:
        """Return a page of what is retained, with what it reflects (R5, V2)."""
        view = (RETAINED_VIEW, self._generation)
        return await self._reader.find_reflected(view, topic_filter, after=after, limit=limit)

    async def reflected(self) -> dict[int, int]:
        """Return up to where the table of what is retained shows each partition."""
        return await self._marks(self._of_retained, RETAINED_VIEW, "")

    # -- kept sessions ---------------------------------------------------------------------------

    async def queue_marks(self) -> dict[int, int]:
        """Return up to where the queues of kept sessions reflect each partition (E5)."""
        return await self._marks(self._of_sessions, QUEUES, "")

    async def session_marks(self) -> dict[int, int]:
        """Return up to where the rows of sessions reflect each partition of their log (E1)."""
        return await self._marks(self._of_sessions, SESSIONS, SESSIONS_SUFFIX)

    async def queue_pages(self, asks: Sequence[QueueAsk], *, size_max: int) -> list[QueuePage]:
        """Return a page for each ask, all as of one moment; see ``KeepsQueues`` (R5, E5)."""
        database = self._opened[self._of_sessions]
        return await database.queue_pages(self._generation, asks, size_max=size_max)

    async def kept_rows(self, asked: Mapping[int, Sequence[str]]) -> Mapping[int, KeptRows]:
        """Return rows of clients of partitions of the sessions log, as of one moment (E2)."""
        database = self._opened[self._of_sessions]
        return await database.kept_rows(self._generation + SESSIONS_SUFFIX, asked)

    async def _marks(self, store_type: StoreType, projection: str, suffix: str) -> dict[int, int]:
        positions = await self._opened[store_type].positions(self._generation + suffix)
        return {at: upto for (name, at), upto in positions.items() if name == projection}

    async def close(self) -> None:
        """Close them."""
        await _close(self._opened.values())


async def open_edge_databases(config: BrokerConfig, generation: str) -> EdgeDatabases:
    """Open what an edge reads.

    Raises:
        StoreUnavailable: It cannot be reached now.
        StartupError, ConfigError, StoreError: It cannot be used; none is left open.
    """
    opened: dict[StoreType, SharedDatabase] = {}
    try:
        for store_type in dict.fromkeys((config.retained_store_type, config.session_store_type)):
            opened[store_type] = await _open(config, store_type)
            await opened[store_type].belong_to(generation)
    except BaseException:
        await _close(opened.values())
        raise
    return EdgeDatabases(opened, config, generation)


async def _open(config: BrokerConfig, store_type: StoreType) -> SharedDatabase:
    needed = StoresNeeded(
        session_store=store_type is config.session_store_type,
        message_stores=(RETAINED,) if store_type is config.retained_store_type else (),
        archive_stores=(),
    )
    try:
        database = await open_database(store_type, config, needed)
    except StartupError as exc:
        if exc.exit_code != ExitCode.STORE_UNREACHABLE:
            raise
        # An edge that starts while the database is down waits for it (E1).
        raise StoreUnavailable(str(exc)) from exc
    if not isinstance(database, SharedDatabase):
        await database.close()
        raise ConfigError(
            f"{store_type} cannot be shared by the processes of a Kafka bus; use POSTGRES for "
            "SessionStoreType and RetainedStoreType"
        )
    return database


async def _close(databases: Iterable[Database]) -> None:
    for database in databases:
        with contextlib.suppress(MonsterError):
            await database.close()
