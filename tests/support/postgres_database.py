"""The PostgreSQL database that most tests of it open."""

from monstermq_shared.config.postgres_urls import parse_url
from monstermq_shared.stores.postgres.database import PostgresDatabase
from monstermq_shared.testing.builders import ARCHIVE, RETAINED


async def open_database(url: str, *, exclusive: bool = True) -> PostgresDatabase:
    """Open a database with a store of every kind, as ``full_commit`` fills them."""
    return await PostgresDatabase.open(
        parse_url(url),
        session_store=True,
        message_stores=[RETAINED],
        archive_stores=[ARCHIVE],
        exclusive=exclusive,
    )
