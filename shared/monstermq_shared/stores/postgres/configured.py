"""The PostgreSQL database that a configuration names."""

from monstermq_shared.config import BrokerConfig
from monstermq_shared.config.checks import postgres_connection
from monstermq_shared.stores.needed import StoresNeeded
from monstermq_shared.stores.ports import Database
from monstermq_shared.stores.postgres.database import PostgresDatabase


async def open_configured(config: BrokerConfig, needed: StoresNeeded) -> Database:
    """Open it; see ``PostgresDatabase.open``. On the Kafka bus several processes share it."""
    return await PostgresDatabase.open(
        postgres_connection(config),
        session_store=needed.session_store,
        message_stores=needed.message_stores,
        archive_stores=needed.archive_stores,
        exclusive=not config.kafka.bus.enabled,
    )
