"""Opens the database: makes what is missing, brings an older schema to this one, and checks it."""

import logging
from collections.abc import Iterable, Mapping, Sequence

from monstermq_shared.errors import StartupError, StoreDamaged
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.stores.postgres import log_states, quarantine
from monstermq_shared.stores.postgres.connection import Connection
from monstermq_shared.stores.postgres.migrations import MIGRATIONS, VERSION, Migration
from monstermq_shared.stores.postgres.tables import TableKind, columns
from monstermq_shared.stores.sql import load_queries

logger = logging.getLogger(__name__)

_OPENING = load_queries(__package__, "opening.sql")
_DATABASE = load_queries(__package__, "database.sql")

MIGRATION_TIMEOUT_S = 24 * 3600.0
"""How long one statement of a migration may take: it may rewrite a large table."""

META_TABLE = "monstermq_meta"

META_KINDS = (
    TableKind(
        name="generations",
        create=[_DATABASE["generations_table"]],
        columns=columns("number smallint, generation text"),
        key=["number"],
    ),
    TableKind(
        name="watermarks",
        create=[_DATABASE["watermarks_table"]],
        columns=columns(
            "projection text, generation smallint, partition integer, reflected bigint, "
            "restart bigint, version bigint, token text, log_id text, last_id text, runs json, "
            "skips json, began bigint"
        ),
        key=["projection", "generation", "partition"],
    ),
    log_states.FENCES,
    *quarantine.KINDS,
)

META_TABLES = {kind.name: kind for kind in META_KINDS}

RESERVED = (META_TABLE, "monstermq_tables", *META_TABLES)
"""Tables of the database itself, which no store may be called."""


async def prepare_schema(
    connection: Connection,
    where: str,
    tables: Mapping[str, TableKind],
    *,
    version: int = VERSION,
    migrations: Sequence[Migration] = MIGRATIONS,
) -> list[str]:
    """Make the schema what this release needs, in one transaction.

    Args:
        connection: Outside of a transaction.
        where: The database, as messages name it.
        tables: Name -> kind of the tables that are needed.
        version: Of the schema.
        migrations: What leads to it.

    Returns:
        The tables that were made.

    Raises:
        StoreDamaged: The schema is of a later version, a table is not as we made it, somebody
            else's table has the name of one of ours, or our tables are in another schema. Nothing
            was changed.
        asyncpg.PostgresError, OSError: The server refused, or the connection was lost.
    """
    async with connection.transaction():
        await lock_schema(connection)
        wanted = {**META_TABLES, **tables}
        if not await _has_meta(connection):
            await _refuse_another_schema(connection, where)
            for name in ("text_function", "json_function", "meta_table", "tables_table"):
                await connection.execute(_DATABASE[name])
            await connection.execute(_DATABASE["meta_row"], version)
        else:
            await _migrate(connection, where, version, migrations)
        ours = {row["name"] for row in await connection.fetch(_OPENING["our_tables"])}
        missing = {name: kind for name, kind in wanted.items() if name not in ours}
        await _refuse_strangers(connection, where, missing)
        for name, kind in missing.items():
            for statement in kind.statements(name):
                await connection.execute(statement)
            await connection.execute(_OPENING["add_table"], name, kind.name)
        await check(connection, where, wanted)
    return [*missing]


async def lock_schema(connection: Connection) -> None:
    """Keep others from preparing the schema, or rights in it, until the open transaction ends."""
    if not await _has_meta(connection):
        await connection.execute(_OPENING["lock_schema"])
    # Whoever had it may have made the table meanwhile.
    if await _has_meta(connection):
        await connection.execute(_OPENING["lock_meta"])


async def _has_meta(connection: Connection) -> bool:
    return bool(await connection.fetch(_OPENING["relations"], [META_TABLE]))


async def check_version(connection: Connection, where: str) -> None:
    """Refuse a schema that is not this release's, for a command that changes nothing of it.

    Raises:
        StartupError: There is none.
        StoreDamaged: It is of another version.
    """
    if not await _has_meta(connection):
        await _refuse_another_schema(connection, where)
        raise StartupError(
            f"PostgreSQL at {where}: no broker has used this database yet",
            exit_code=ExitCode.FAILURE,
        )
    found = await connection.fetchval(_OPENING["version"])
    if found != VERSION:
        raise StoreDamaged(
            f"PostgreSQL at {where}: the schema is of version {found}, and this release works with "
            f"{VERSION}; an older one becomes that when a broker of this release is started on it"
        )


async def _refuse_another_schema(connection: Connection, where: str) -> None:
    """Refuse to begin with nothing where a schema has come before the one that has everything."""
    row = await connection.fetchrow(_OPENING["meta_schema"])
    if row is not None:
        schema, new = row
        raise StoreDamaged(
            f"PostgreSQL at {where}: a broker's tables are in the schema {schema}, and the schema "
            f"{new} now comes before it; name one of them, and no other, with currentSchema in "
            f"Postgres.Url: {schema} to go on, {new} to begin with nothing"
        )


async def _migrate(
    connection: Connection, where: str, version: int, migrations: Sequence[Migration]
) -> None:
    """Bring the schema to a version, if it is older."""
    found = await connection.fetchval(_OPENING["version"])
    if found is None or found > version:
        raise StoreDamaged(
            f"PostgreSQL at {where}: the schema is of version {found}, and this release knows "
            f"{version}; use the release that made it, or another database or schema"
        )
    steps = [step for step in migrations if step.version > found]
    if [step.version for step in steps] != list(range(found + 1, version + 1)):
        raise StoreDamaged(
            f"PostgreSQL at {where}: this release cannot bring a schema of version {found} to "
            f"{version}; go through an earlier release"
        )
    if not steps:
        return
    await connection.execute(_OPENING["take_time"])
    kinds = await connection.fetch(_OPENING["our_tables"])
    for step in steps:
        logger.info("PostgreSQL at %s: bringing the schema to version %d", *(where, step.version))
        for statement in step.statements([(row["name"], row["kind"]) for row in kinds]):
            await connection.execute(statement, timeout=MIGRATION_TIMEOUT_S)
        await connection.execute(_OPENING["set_version"], step.version)


async def _refuse_strangers(connection: Connection, where: str, names: Iterable[str]) -> None:
    """Refuse to take over a table that somebody else has made."""
    taken = await connection.fetch(_OPENING["relations"], [*names])
    if taken:
        listed = ", ".join(sorted(row["relname"] for row in taken))
        raise StoreDamaged(
            f"PostgreSQL at {where}: {listed} is there already, and was not made by this broker "
            "(the original MonsterMQ has tables of these names); set Postgres.Url to another "
            "database, or to another schema with currentSchema, or rename what is there"
        )


async def check(connection: Connection, where: str, tables: Mapping[str, TableKind]) -> None:
    """Refuse tables of which somebody has dropped, renamed or retyped a column, or the key.

    Raises:
        StoreDamaged: There is one; names it, and what is wrong with it.
    """
    found: dict[str, dict[str, str]] = {name: {} for name in tables}
    for table, column, type_name in await connection.fetch(_OPENING["columns"], [*tables]):
        found[table][column] = type_name
    rows = await connection.fetch(_OPENING["keys"], [*tables])
    keys = {row["relname"]: row["key"] for row in rows}
    for name, kind in tables.items():
        fault = _fault(kind, found[name], keys.get(name))
        if fault is not None:
            raise StoreDamaged(
                f"PostgreSQL at {where}: table {name} is not as the broker made it: {fault}; "
                "somebody else has altered it: undo that, or go back to a backup"
            )


def _fault(kind: TableKind, found: Mapping[str, str], key: Sequence[str] | None) -> str | None:
    """Return what is wrong with a table. Columns that somebody has added do no harm."""
    if not found:
        return "it is missing"
    for column, type_name in kind.columns.items():
        if column not in found:
            return f"its column {column} is missing"
        if found[column] != type_name:
            return f"its column {column} is {found[column]} instead of {type_name}"
    if key != [*kind.key]:
        return f"its primary key is not ({', '.join(kind.key)})"
    return None
