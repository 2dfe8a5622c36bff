"""The SQLite database that a configuration names."""

from monstermq_shared.config import BrokerConfig, StoreType
from monstermq_shared.queries.cursors import Cursors
from monstermq_shared.stores.needed import StoresNeeded
from monstermq_shared.stores.ports import Database
from monstermq_shared.stores.readable import readable_tables
from monstermq_shared.stores.sqlite.database import SqliteDatabase
from monstermq_shared.stores.sqlite.queries.database import SqliteQueries


async def open_configured(config: BrokerConfig, needed: StoresNeeded) -> Database:
    """Open it; see ``SqliteDatabase.open``."""
    return await SqliteDatabase.open(
        config.sqlite.path,
        session_store=needed.session_store,
        message_stores=needed.message_stores,
        archive_stores=needed.archive_stores,
    )


def open_queries(config: BrokerConfig, cursors: Cursors, *, timeout_s: float) -> SqliteQueries:
    """Return the questions to it; its first one opens it."""
    readable = readable_tables(config, StoreType.SQLITE)
    return SqliteQueries(config.sqlite.path, cursors, readable=readable, timeout_s=timeout_s)
