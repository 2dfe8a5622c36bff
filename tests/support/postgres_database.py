"""The PostgreSQL database that most tests of it open."""

from itertools import count

import asyncpg

from monstermq_shared.config.postgres_urls import parse_url
from monstermq_shared.stores.postgres.database import PostgresDatabase
from monstermq_shared.testing.builders import ARCHIVE, RETAINED

_numbers = count(1)


async def open_database(url: str, *, exclusive: bool = True) -> PostgresDatabase:
    """Open a database with a store of every kind, as ``full_commit`` fills them."""
    return await PostgresDatabase.open(
        parse_url(url),
        session_store=True,
        message_stores=[RETAINED],
        archive_stores=[ARCHIVE],
        exclusive=exclusive,
    )


async def fresh_schema(url: str) -> str:
    """Make an empty schema, which takes a hundredth of the time of a database; return its URL."""
    name = f"schema_{next(_numbers)}"
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"CREATE SCHEMA {name}")
    finally:
        await connection.close()
    return f"{url}?currentSchema={name}"


def through(port: int, url: str) -> str:
    """Return a URL of a server on loopback with another port: that of a proxy."""
    address, _, rest = url.rpartition("/")
    return f"{address.rpartition(':')[0]}:{port}/{rest}"


def port_of(url: str) -> int:
    """Return the port in a URL."""
    return int(url.rpartition("/")[0].rpartition(":")[2])
