"""The PostgreSQL database that most tests of it open."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from monstermq_shared.config.postgres_urls import parse_url
from monstermq_shared.stores.postgres.connection import Connection, connect
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


def through(port: int, url: str) -> str:
    """Return a URL of a server on loopback with another port: that of a proxy."""
    address, _, rest = url.rpartition("/")
    return f"{address.rpartition(':')[0]}:{port}/{rest}"


def port_of(url: str) -> int:
    """Return the port in a URL."""
    return int(url.rpartition("/")[0].rpartition(":")[2])


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    """Connect as somebody else, to the tables of a database."""
    connection = await connect(parse_url(url), statement_timeout_s=30)
    try:
        yield connection
    finally:
        await connection.close()
