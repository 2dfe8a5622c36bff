"""The databases of one process: opened together, on one log."""

import contextlib
import logging
import uuid
from collections.abc import Mapping

from monstermq_shared.config import BrokerConfig, StoreType
from monstermq_shared.errors import MonsterError
from monstermq_shared.stores.memory import MemoryDatabase
from monstermq_shared.stores.outages import Outage
from monstermq_shared.stores.ports import (
    ArchiveStore,
    Database,
    KeepsLog,
    Log,
    MessageStore,
    Summarized,
)
from monstermq_shared.stores.registry import open_database
from monstermq_shared.views.catalogue import ArchiveView, Catalogue, MessageView

logger = logging.getLogger(__name__)


class Databases:
    """Every database that something of the configuration lives in.

    Attributes:
        by_type: Those that outlast the process, the session store's first.
        memory: For views of type MEMORY.
        primary_type: The session store's type.
        outages: What fails of each of them.
        log: The log that all of them reflect, with the number of this run.
    """

    def __init__(self, primary_type: StoreType, by_type: Mapping[StoreType, Database]) -> None:
        self.primary_type = primary_type
        self.by_type = by_type
        self.memory = MemoryDatabase()
        self.outages = {at: Outage(str(at)) for at in StoreType}
        self.log = Log("", 0)

    @property
    def primary(self) -> Database:
        """The session store's."""
        return self.by_type[self.primary_type]

    def of(self, store_type: StoreType) -> Database:
        """Return the database of a type."""
        return self.memory if store_type is StoreType.MEMORY else self.by_type[store_type]

    def message_store(self, view: MessageView) -> MessageStore:
        """Return where the rows of a view are."""
        return self.of(view.store_type).message_store(view.store)

    def archive_store(self, view: ArchiveView) -> ArchiveStore:
        """Return where the rows of a view are."""
        return self.of(view.store_type).archive_store(view.store)

    async def begin_boot(self) -> None:
        """Find out which log goes on, and count this run of it in every database.

        The session store's database says which; a new one goes on with the log of the others, so
        that sessions may move to another database while the history stays where it is. A database
        that remembers another log keeps its rows, and begins a new log beside them.
        """
        keepers = [(at, db) for at, db in self.by_type.items() if isinstance(db, KeepsLog)]
        logs = {at: log for at, db in keepers if (log := await db.log()) is not None}
        known = next(iter(logs.values()), None)
        generation = str(uuid.uuid4()) if known is None else known.generation
        boots = [log.boot for log in logs.values() if log.generation == generation]
        self.log = Log(generation, max(boots, default=0) + 1)
        for store_type, database in keepers:
            log = logs.get(store_type)
            if log is not None and log.generation != generation:
                logger.warning(
                    "the rows in %s are of another log (%s); they stay, and a new log (%s) begins "
                    "beside them",
                    store_type,
                    log.generation,
                    generation,
                )
            await database.begin_boot(self.log)

    async def log_summaries(self) -> None:
        """Tell in the log what a start finds."""
        for store_type, database in self.by_type.items():
            if isinstance(database, Summarized):
                summary = await database.summary()
                extra: dict[str, object] = {
                    "type": str(store_type),
                    "ended_cleanly": summary.ended_cleanly,
                }
                if summary.sessions is not None:
                    extra["sessions"] = summary.sessions
                level = logging.WARNING if summary.ended_cleanly is False else logging.INFO
                logger.log(level, "database %s", summary.place, extra=extra)

    async def close(self) -> None:
        """Close them, the session store's last."""
        for database in reversed([*self.by_type.values()]):
            with contextlib.suppress(MonsterError):
                await database.close()


async def open_databases(config: BrokerConfig, catalogue: Catalogue) -> Databases:
    """Open the database of every type that the catalogue names.

    Raises:
        StartupError, ConfigError, StoreError: One cannot be opened; none is left open.
    """
    opened: dict[StoreType, Database] = {}
    databases = Databases(catalogue.session_store_type, opened)
    try:
        for store_type in catalogue.store_types:
            needed = catalogue.needed(store_type)
            # The session store's is the first, and is closed last.
            marks = opened.get(catalogue.session_store_type)
            opened[store_type] = await open_database(store_type, config, needed, marks=marks)
    except BaseException:
        await databases.close()
        raise
    return databases
