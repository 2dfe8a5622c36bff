"""The SQLite database that a configuration names."""

from monstermq_shared.config import BrokerConfig, StoreType, enabled_groups
from monstermq_shared.queries.cursors import Cursors
from monstermq_shared.queries.sql import TableKind
from monstermq_shared.stores.needed import StoresNeeded, archive_name, last_value_name
from monstermq_shared.stores.ports import Database
from monstermq_shared.stores.sql import table_name
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
    return SqliteQueries(
        config.sqlite.path, cursors, readable=_readable_tables(config), timeout_s=timeout_s
    )


def _readable_tables(config: BrokerConfig) -> dict[str, TableKind]:
    """Return the tables that SQL of others may read, and what each keeps."""
    tables = {}
    for _, group in enabled_groups(config):
        if group.archive_type is StoreType.SQLITE:
            tables[table_name(archive_name(group))] = TableKind.ARCHIVE
        if group.last_val_type is StoreType.SQLITE:
            tables[table_name(last_value_name(group))] = TableKind.LAST_VALUES
    return tables
