"""The PostgreSQL database that a configuration names."""

from monstermq_shared.config import BrokerConfig, StoreType
from monstermq_shared.config.checks import postgres_connection, reading_connection
from monstermq_shared.config.sections import enabled_groups
from monstermq_shared.queries.cursors import Cursors
from monstermq_shared.queries.ports import DatabaseQueries
from monstermq_shared.stores.needed import StoresNeeded, last_value_name
from monstermq_shared.stores.ports import Database
from monstermq_shared.stores.postgres.database import PostgresDatabase
from monstermq_shared.stores.postgres.queries.database import PostgresQueries
from monstermq_shared.stores.postgres.reading_role import RETAINED_TABLE
from monstermq_shared.stores.readable import readable_tables
from monstermq_shared.stores.sql import table_name


async def open_configured(config: BrokerConfig, needed: StoresNeeded) -> Database:
    """Open it; see ``PostgresDatabase.open``. On the Kafka bus several processes share it."""
    database = await PostgresDatabase.open(
        postgres_connection(config),
        session_store=needed.session_store,
        message_stores=needed.message_stores,
        archive_stores=needed.archive_stores,
        exclusive=not config.kafka.bus.enabled,
    )
    if config.postgres.read_user is not None:
        readable = readable_tables(config, StoreType.POSTGRES)
        await database.let_read(config.postgres.read_user, [*readable])
    return database


def open_queries(config: BrokerConfig, cursors: Cursors, *, timeout_s: float) -> DatabaseQueries:
    """Return the questions to it; see ``DatabaseQueries``."""
    return PostgresQueries(
        postgres_connection(config),
        reader=reading_connection(config),
        readable=readable_tables(config, StoreType.POSTGRES),
        cursors=cursors,
        timeout_s=timeout_s,
    )


def searched_tables(config: BrokerConfig) -> list[str]:
    """Return the tables whose topics are searched: what is retained, and last values of groups.

    Raises:
        ConfigError: A group's name cannot be that of a table.
    """
    retained = config.retained_store_type is StoreType.POSTGRES
    tables = [RETAINED_TABLE] if retained else []
    for _, group in enabled_groups(config):
        if group.last_val_type is StoreType.POSTGRES:
            tables.append(table_name(last_value_name(group)))
    return tables
