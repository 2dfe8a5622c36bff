"""The role that runs SQL of others: it can read archives and last values, and nothing else.

A transaction that is read-only is no protection by itself: a superuser passes it with ``COPY ... TO
PROGRAM`` and ``pg_read_file``. So it is a role that cannot, and one that could do more is refused.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable, Sequence

import asyncpg

from monstermq_shared.config.postgres_urls import ConnectionSettings, describe
from monstermq_shared.errors import StoreUnavailable
from monstermq_shared.stores.needed import RETAINED
from monstermq_shared.stores.postgres import opening, session_tables
from monstermq_shared.stores.postgres.connection import Connection, connect
from monstermq_shared.stores.postgres.errors import StoreUnfit
from monstermq_shared.stores.sql import load_queries, table_name

_QUERIES = load_queries(__package__, "reading_role.sql")

FIX = "name in Postgres.ReadUser a role that nobody else uses, and make it with: monstermq db init"
"""What helps where a role can do too much."""

_SCRAM_ITERATIONS = 4096
_SHOWN_MAX = 5


async def connect_reader(settings: ConnectionSettings, *, statement_timeout_s: float) -> Connection:
    """Log in as the role.

    Args:
        settings: How; see ``checks.reading_connection``.
        statement_timeout_s: See ``connection.connect``.

    Raises:
        StoreUnavailable, StoreUnfit: As from ``connection.connect``.
    """
    try:
        return await connect(settings, statement_timeout_s=statement_timeout_s, durable=False)
    except StoreUnfit as exc:
        raise StoreUnfit(f"{exc}; a right of {settings.user} may be missing: {FIX}") from exc
    except StoreUnavailable as exc:
        if not isinstance(exc.__cause__, asyncpg.InvalidAuthorizationSpecificationError):
            raise
        raise StoreUnavailable(
            f"PostgreSQL at {describe(settings)}: the role {settings.user} (Postgres.ReadUser) "
            "cannot log in: there is none, which monstermq db init makes, or its password is not "
            "Postgres.ReadPass, which ALTER ROLE sets, or pg_hba.conf does not admit it "
            f"({exc.__cause__})"
        ) from exc.__cause__


async def has_role(connection: Connection, role: str) -> bool:
    """Whether there is such a role."""
    return await connection.fetchrow(_QUERIES["role"], role) is not None


async def may_make_roles(connection: Connection) -> bool:
    """Whether whoever is logged in may make one."""
    return bool(await connection.fetchval(_QUERIES["may_make_roles"]))


async def make_role(connection: Connection, role: str, password: str) -> None:
    """Make a role that may log in and nothing else.

    Args:
        connection: Of somebody who may make roles.
        role: Its name, which nobody has.
        password: Empty where the server asks for none.

    Raises:
        asyncpg.PostgresError, OSError: The server refused, or the connection was lost.
    """
    secret = scram_verifier(password) if password else None
    async with connection.transaction():
        await connection.execute(await connection.fetchval(_QUERIES["make_role"], role, secret))
        await connection.execute(await connection.fetchval(_QUERIES["set_role"], role))
        limit = await connection.fetchval(_QUERIES["limit_role"], role)
        if limit is not None:
            await connection.execute(limit)


async def give_rights(connection: Connection, role: str, tables: Sequence[str]) -> bool:
    """Let a role read tables, of those that are there.

    Args:
        connection: Of the tables' owner, outside of a transaction.
        role: Its name.
        tables: Archives and last values.

    Returns:
        Whether anything was missing.

    Raises:
        asyncpg.PostgresError, OSError: The server refused, or the connection was lost.
    """
    async with connection.transaction():
        await opening.lock_schema(connection)  # two that grant at once would fail
        return await _execute_all(connection, "grants", role, tables)


async def take_rights(connection: Connection, role: str, tables: Sequence[str]) -> bool:
    """Take from a role whatever else it was granted in our tables; the counterpart of the above."""
    async with connection.transaction():
        await opening.lock_schema(connection)
        return await _execute_all(connection, "revocations", role, tables, known_tables(tables))


async def _execute_all(connection: Connection, query: str, *parameters: object) -> bool:
    statements = [row[0] for row in await connection.fetch(_QUERIES[query], *parameters)]
    for statement in statements:
        await connection.execute(statement)
    return bool(statements)


async def excess(connection: Connection, tables: Sequence[str]) -> str | None:
    """Return what whoever is logged in can do beyond reading these tables, None if nothing.

    Args:
        connection: As that role.
        tables: Archives and last values.

    Raises:
        asyncpg.PostgresError, OSError: The connection was lost.
    """
    rights = await connection.fetchrow(_QUERIES["rights"], [*tables], known_tables(tables))
    assert rights is not None, "whoever is logged in is a role"
    if rights["is_superuser"]:
        return "is a superuser"
    if rights["is_mighty"]:
        return "has one of the attributes CREATEROLE, CREATEDB, REPLICATION and BYPASSRLS"
    for column, sentence in _EXCESSES.items():
        if rights[column]:
            return f"{sentence} {_listed(rights[column])}"
    return None


_EXCESSES = {
    "owned": "owns, or is a member of a role that owns,",
    "mighty_roles": "is a member of",
    "writable": "may change",
    "private": "may also read",
}


def known_tables(tables: Iterable[str]) -> list[str]:
    """Return all tables of ours, these among them."""
    return [*opening.RESERVED, *session_tables.TABLES, RETAINED_TABLE, *tables]


RETAINED_TABLE = table_name(RETAINED)
"""Not for SQL of others: it has what is retained on all topics, whatever group they are in."""


def scram_verifier(password: str) -> str:
    """Return what the server keeps of a password, so that it does not see it, nor log it.

    Returns:
        The password itself if the server has to normalize it first.
    """
    if not password.isascii():
        return password
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _SCRAM_ITERATIONS)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    shown = [base64.b64encode(value).decode() for value in (salt, stored_key, server_key)]
    return f"SCRAM-SHA-256${_SCRAM_ITERATIONS}:{shown[0]}${shown[1]}:{shown[2]}"


def _listed(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > _SHOWN_MAX else ""
    return ", ".join(names[:_SHOWN_MAX]) + more
