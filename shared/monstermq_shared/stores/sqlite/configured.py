"""The SQLite database that a configuration names."""

from monstermq_shared.config import BrokerConfig
from monstermq_shared.stores.needed import StoresNeeded
from monstermq_shared.stores.ports import Database
from monstermq_shared.stores.sqlite.database import SqliteDatabase


async def open_configured(config: BrokerConfig, needed: StoresNeeded) -> Database:
    """Open it; see ``SqliteDatabase.open``."""
    return await SqliteDatabase.open(
        config.sqlite.path,
        session_store=needed.session_store,
        message_stores=needed.message_stores,
        archive_stores=needed.archive_stores,
    )
