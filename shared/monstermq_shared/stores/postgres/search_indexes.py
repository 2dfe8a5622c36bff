"""Indexes that find topics by a part of their name, and those that describe others.

Nothing depends on them but how long a search takes. A new table gets them at once, one that is
there already by ``monstermq db init``. The one for names needs the extension pg_trgm.
"""

import logging
from collections.abc import Sequence

import asyncpg

from monstermq_shared.stores.postgres.connection import Connection
from monstermq_shared.stores.postgres.opening import MIGRATION_TIMEOUT_S
from monstermq_shared.stores.sql import fill_in, load_queries

logger = logging.getLogger(__name__)

_QUERIES = load_queries(__package__, "search_indexes.sql")


async def has_trigrams(connection: Connection) -> bool:
    """Whether the database has the extension pg_trgm."""
    return await connection.fetchval(_QUERIES["trigram_schema"]) is not None


async def make_trigrams(connection: Connection) -> bool:
    """Install the extension, if the server has it and we may; return whether it is there then.

    Raises:
        asyncpg.PostgresError, OSError: The server refused, or the connection was lost.
    """
    if not await has_trigrams(connection):
        if not await connection.fetchval(_QUERIES["may_make_trigrams"]):
            return False
        await connection.execute(_QUERIES["make_trigrams"])
    return True


async def index_new(connection: Connection, where: str, tables: Sequence[str]) -> None:
    """Make both indexes of tables that have just been made. A refusal is logged.

    Args:
        connection: Outside of a transaction.
        where: The database, as messages name it.
        tables: Of message stores.

    Raises:
        asyncpg.PostgresConnectionError, OSError: The connection was lost.
    """
    try:
        await _make(connection, tables, "")
    except asyncpg.PostgresConnectionError:
        raise
    except asyncpg.PostgresError as exc:
        logger.warning(
            "PostgreSQL at %s: topics are searched without an index, monstermq db init makes it: "
            "%s",
            *(where, exc),
        )


async def index_existing(connection: Connection, tables: Sequence[str]) -> list[str]:
    """Make the indexes that are missing on those of these tables that are there.

    Others may write meanwhile. What an interrupted call has left is removed.

    Args:
        connection: Outside of a transaction, with room for statements that take long.
        tables: Of message stores.

    Returns:
        The tables that got one.

    Raises:
        asyncpg.PostgresError, OSError: The server refused, or the connection was lost.
    """
    for row in await connection.fetch(_QUERIES["broken"], tables):
        await connection.execute(row[0], timeout=MIGRATION_TIMEOUT_S)
    return await _make(connection, tables, "CONCURRENTLY")


async def _make(connection: Connection, tables: Sequence[str], how: str) -> list[str]:
    schema = await connection.fetchval(_QUERIES["trigram_schema"])
    made = []
    for table, has_names, has_descriptions in await connection.fetch(_QUERIES["indexed"], tables):
        wanted = [] if has_names or schema is None else ["names"]
        wanted += [] if has_descriptions else ["descriptions"]
        values = {"table": table, "schema": schema or "", "concurrently": how}
        for statement in wanted:
            await connection.execute(
                fill_in(_QUERIES, values)[statement], timeout=MIGRATION_TIMEOUT_S
            )
        made += [table] if wanted else []
    return made
