"""Making, checking and migrating the tables of PostgreSQL."""

import asyncio
import logging
import os
from pathlib import Path

import pytest
from tests.support.postgres import PASSWORD, ROLE, SUPERUSER, PostgresServer, binaries
from tests.support.postgres_database import connected, open_database

from monstermq.postgres_tools import dump_command, restore_command
from monstermq_shared.config.postgres_urls import parse_url
from monstermq_shared.errors import ConfigError, StartupError, StoreDamaged
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.stores.postgres import archives, messages, opening, session_tables
from monstermq_shared.stores.postgres.connection import Connection
from monstermq_shared.stores.postgres.database import PostgresDatabase
from monstermq_shared.stores.postgres.migrations import MIGRATIONS, VERSION, Migration
from monstermq_shared.stores.postgres.tables import TableKind
from monstermq_shared.testing.builders import (
    ARCHIVE,
    RETAINED,
    commit_archive,
    commit_messages,
    make_record,
)

pytestmark = pytest.mark.integration

TABLES = {
    **{kind.name: kind for kind in opening.META_KINDS},
    **session_tables.TABLES,
    "retainedmessages": messages.KIND,
    "mcparchive": archives.KIND,
}


async def columns_of(connection: Connection, table: str) -> dict[str, str]:
    rows = await connection.fetch(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped",
        table,
    )
    return {row["attname"]: row["format_type"] for row in rows}


async def open_archive(url: str, *names: str) -> PostgresDatabase:
    return await PostgresDatabase.open(
        parse_url(url), session_store=False, message_stores=[], archive_stores=names
    )


async def relations(connection: Connection) -> set[str]:
    rows = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relkind = 'r' "
        "AND relnamespace = quote_ident(current_schema())::regnamespace"
    )
    return {row[0] for row in rows}


@pytest.mark.parametrize(("table", "kind"), TABLES.items(), ids=TABLES)
async def test_what_is_made_is_what_is_checked(
    postgres_schema: str, table: str, kind: TableKind
) -> None:
    await (await open_database(postgres_schema)).close()
    async with connected(postgres_schema) as connection:
        assert await columns_of(connection, table) == kind.columns


async def test_only_what_is_asked_for_is_made(postgres_schema: str) -> None:
    await (await open_archive(postgres_schema, ARCHIVE)).close()
    meta = {"monstermq_meta", "monstermq_tables", *opening.META_TABLES}
    async with connected(postgres_schema) as connection:
        assert await relations(connection) == meta | {"mcparchive"}
        await (await open_archive(postgres_schema, ARCHIVE, "my-groupArchive")).close()
        assert await relations(connection) == meta | {"mcparchive", "my-grouparchive"}


async def test_a_schema_in_somebody_elses_database_is_copied_and_restored_alone(
    postgres_server: PostgresServer, postgres_database: str, tmp_path: Path
) -> None:
    """By the lines that ``monstermq db`` tells; whatever the schema is called."""
    name = postgres_database.rpartition("/")[2]
    postgres_server.psql(
        f'CREATE SCHEMA "Odd, ""Name" AUTHORIZATION "{ROLE}"',
        f'ALTER DATABASE "{name}" OWNER TO {SUPERUSER}',
        "CREATE TABLE theirs AS SELECT 1",
        database=name,
    )
    url = f"{postgres_database}?currentSchema=%22Odd,%20%22%22Name%22,public"
    settings = parse_url(url)
    database = await open_database(url)
    await commit_archive(database, make_record(1, payload=b'{"a": 1}'))
    await run(dump_command(settings, tmp_path / "copy"))
    await commit_archive(database, make_record(2))
    await database.close()
    await run(restore_command(settings, tmp_path / "copy"))
    database = await open_database(url)
    history = await database.archive_store(ARCHIVE).history("plant/1")
    assert [record.offset for record in history] == [1]
    async with connected(url) as connection:
        assert await connection.fetchval("SELECT payload_json FROM mcparchive") == '{"a": 1}'
    await database.close()
    assert postgres_server.psql("SELECT count(*) FROM theirs", database=name) == "1"


async def run(line: str) -> None:
    """Run a line in a shell, with PostgreSQL's tools and the password."""
    environ = {**os.environ, "PATH": f"{binaries()}:{os.environ['PATH']}", "PGPASSWORD": PASSWORD}
    process = await asyncio.create_subprocess_shell(line, env=environ)
    assert await process.wait() == 0


async def test_a_schema_that_comes_before_the_one_with_our_tables_is_refused(
    postgres_server: PostgresServer, postgres_database: str
) -> None:
    """By default a schema that is called like the role comes before public."""
    await (await open_database(postgres_database)).close()
    name = postgres_database.rpartition("/")[2]
    postgres_server.psql(f"CREATE SCHEMA {ROLE} AUTHORIZATION {ROLE}", database=name)
    with pytest.raises(StoreDamaged, match=f"in the schema public, and the schema {ROLE} now"):
        await open_database(postgres_database)
    for schema in ("public", ROLE):
        await (await open_database(f"{postgres_database}?currentSchema={schema}")).close()


async def test_a_table_of_the_broker_is_no_store(postgres_schema: str) -> None:
    for name in ("watermarks", "MonsterMQ_Meta", "Sessions"):
        with pytest.raises(ConfigError, match="is already that of a table of the broker"):
            await open_archive(postgres_schema, name)


async def test_processes_that_start_together_make_the_tables_once(postgres_schema: str) -> None:
    opened = [open_database(postgres_schema, exclusive=False) for _ in range(4)]
    databases = await asyncio.gather(*opened)
    await commit_archive(databases[0], make_record(1))
    assert len(await databases[3].archive_store(ARCHIVE).history("plant/1")) == 1
    for database in databases:
        await database.close()


async def test_a_later_version_is_refused(postgres_schema: str) -> None:
    await (await open_database(postgres_schema)).close()
    async with connected(postgres_schema) as connection:
        await connection.execute("UPDATE monstermq_meta SET schema_version = 77")
        with pytest.raises(StoreDamaged, match=f"version 77, and this release knows {VERSION}"):
            await open_database(postgres_schema)


async def test_a_table_of_somebody_else_is_left_alone(postgres_schema: str) -> None:
    async with connected(postgres_schema) as connection:
        await connection.execute("CREATE TABLE sessions (client_id varchar(65535) PRIMARY KEY)")
        with pytest.raises(StoreDamaged, match="sessions is there already") as refused:
            await open_database(postgres_schema)
        assert "currentSchema" in str(refused.value)
        assert await relations(connection) == {"sessions"}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("ALTER TABLE mcparchive DROP COLUMN qos", "mcparchive .* column qos is missing"),
        (
            "ALTER TABLE sessions ALTER incarnation TYPE double precision",
            "sessions .* column incarnation is double precision instead of bigint",
        ),
        (
            "ALTER TABLE queuedmessages DROP CONSTRAINT queuedmessages_pkey",
            r"queuedmessages .* primary key is not \(generation, partition, position\)",
        ),
        ("ALTER TABLE inflight RENAME TO outflight", "inflight .* it is missing"),
        ("DROP TABLE watermarks", "watermarks .* it is missing"),
    ],
)
async def test_an_altered_table_is_refused_at_the_start(
    postgres_schema: str, change: str, fault: str
) -> None:
    database = await open_database(postgres_schema)
    await commit_archive(database, make_record(1))
    await database.close()
    async with connected(postgres_schema) as connection:
        await connection.execute(change)
    with pytest.raises(StoreDamaged, match=fault):
        await open_database(postgres_schema)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("ALTER TABLE mcparchive DROP COLUMN client_id", "client_id"),
        ("ALTER TABLE mcparchive ALTER qos TYPE bigint", "mcparchive"),
        ("ALTER TABLE mcparchive ALTER position TYPE smallint", "mcparchive"),
        ("DROP TABLE mcparchive", "mcparchive"),
    ],
)
async def test_a_table_that_is_altered_while_running_ends_it(
    postgres_schema: str, change: str, named: str
) -> None:
    database = await open_database(postgres_schema)
    await commit_archive(database, make_record(1))
    async with connected(postgres_schema) as connection:
        await connection.execute(change)
    with pytest.raises(StoreDamaged, match=named) as refused:
        await commit_archive(database, make_record(2))
    assert "somebody else has altered" in str(refused.value)
    await database.close()


async def test_columns_and_indexes_that_somebody_adds_do_no_harm(postgres_schema: str) -> None:
    database = await open_database(postgres_schema)
    async with connected(postgres_schema) as connection:
        await connection.execute("ALTER TABLE mcparchive ADD COLUMN plant text DEFAULT 'north'")
        await connection.execute("CREATE INDEX ON mcparchive (plant)")
    await commit_archive(database, make_record(1))
    await database.close()
    database = await open_database(postgres_schema)
    await commit_archive(database, make_record(2))
    assert len(await database.archive_store(ARCHIVE).history("plant/1")) == 2
    await database.close()


async def test_an_older_schema_is_migrated_with_its_rows(postgres_schema: str) -> None:
    database = await open_database(postgres_schema)
    await commit_archive(database, make_record(1))
    await commit_messages(database, make_record(2))
    await database.close()
    steps = [
        *MIGRATIONS,
        Migration(
            version=VERSION + 1,
            once=["ALTER TABLE watermarks ADD COLUMN note text"],
            of_kind={"archive": ['ALTER TABLE "{table}" ADD COLUMN plant text']},
        ),
        Migration(
            version=VERSION + 2,
            of_kind={"archive": ["UPDATE \"{table}\" SET plant = 'north'"]},
        ),
    ]
    async with connected(postgres_schema) as connection:
        await opening.prepare_schema(
            connection, "here", TABLES, version=VERSION + 2, migrations=steps
        )
        row = await connection.fetchrow("SELECT topic, plant FROM mcparchive")
        assert row is not None
        assert tuple(row) == ("plant/1", "north")
        assert "note" in await columns_of(connection, "watermarks")
        assert "plant" not in await columns_of(connection, "retainedmessages")
        version = await connection.fetchval("SELECT schema_version FROM monstermq_meta")
        assert version == VERSION + 2
    with pytest.raises(StoreDamaged, match=f"version {VERSION + 2}"):
        await open_database(postgres_schema)


async def test_a_migration_that_fails_changes_nothing(postgres_schema: str) -> None:
    await (await open_database(postgres_schema)).close()
    steps = [
        *MIGRATIONS,
        Migration(version=VERSION + 1, once=["ALTER TABLE sessions ADD COLUMN note text"]),
        Migration(version=VERSION + 2, once=["SELECT 1 / 0"]),
    ]
    async with connected(postgres_schema) as connection:
        with pytest.raises(Exception, match="division by zero"):
            await opening.prepare_schema(
                connection, "here", TABLES, version=VERSION + 2, migrations=steps
            )
        assert "note" not in await columns_of(connection, "sessions")
    await (await open_database(postgres_schema)).close()


async def test_a_version_that_no_step_leads_from_is_refused(postgres_schema: str) -> None:
    await (await open_database(postgres_schema)).close()
    steps = [Migration(version=VERSION + 2)]
    async with connected(postgres_schema) as connection:
        with pytest.raises(StoreDamaged, match="go through an earlier release"):
            await opening.prepare_schema(
                connection, "here", TABLES, version=VERSION + 2, migrations=steps
            )


async def test_a_role_that_may_not_make_tables_is_told(
    postgres_server: PostgresServer, postgres_database: str
) -> None:
    name = postgres_database.rpartition("/")[2]
    postgres_server.psql(
        f"CREATE ROLE guest LOGIN PASSWORD '{PASSWORD}'",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        database=name,
    )
    try:
        with pytest.raises(StartupError, match="lacks a right") as refused:
            await open_database(postgres_server.url(name, user="guest"))
        assert refused.value.exit_code == ExitCode.STORE_UNWRITABLE
    finally:
        postgres_server.psql("DROP OWNED BY guest", "DROP ROLE guest", database=name)


async def test_size_counts_all_tables_and_their_parts(postgres_schema: str) -> None:
    database = await open_database(postgres_schema)
    before = await database.size()
    assert before > 0
    async with connected(postgres_schema) as connection:
        await connection.execute("CREATE TABLE chunk () INHERITS (mcparchive)")
        await connection.execute(FILL_CHUNK)
        await connection.execute("CREATE TABLE strange AS SELECT * FROM chunk")
        for table in ("chunk", "strange"):
            assert await connection.fetchval(f"SELECT pg_total_relation_size('{table}')") > MIB
        # Vacuuming adds some pages to tables at any time.
        assert before + MIB < await database.size() < before + 2 * MIB
    await database.close()


MIB = 1024 * 1024

FILL_CHUNK = """
INSERT INTO chunk (
    topic, time, payload_blob, qos, retained, client_id, message_uuid, generation, partition,
    position
)
SELECT 'a', now(), '', 0, false, 'c', 'id', 1, 0, number FROM generate_series(1, 15000) AS number
"""

FAKE_TIMESCALE = """
CREATE SCHEMA "{schema}";
CREATE TABLE "{schema}".made (relation text, dimension name, options boolean[]);
CREATE FUNCTION "{schema}".create_hypertable(
    relation regclass, time_column_name name, if_not_exists boolean, migrate_data boolean,
    create_default_indexes boolean
) RETURNS void LANGUAGE sql AS $$
    INSERT INTO "{schema}".made
    VALUES (relation::text, time_column_name,
            ARRAY[if_not_exists, migrate_data, create_default_indexes])
$$;
"""


async def test_a_new_archive_becomes_a_hypertable(
    postgres_schema: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With a function of the extension's name: the extension is not in Debian."""
    schema = f"{postgres_schema.rpartition('=')[2]}_timescale"
    queries = {**archives.QUERIES, "timescale_schema": f"SELECT '{schema}'"}
    monkeypatch.setattr(archives, "QUERIES", queries)
    async with connected(postgres_schema) as connection:
        await connection.execute(FAKE_TIMESCALE.replace("{schema}", schema))
        with caplog.at_level(logging.INFO):
            await (await open_archive(postgres_schema, ARCHIVE)).close()
            await (await open_archive(postgres_schema, ARCHIVE, "my-groupArchive")).close()
        made = await connection.fetch(f'SELECT * FROM "{schema}".made')
    assert [tuple(row) for row in made] == [
        ("mcparchive", "time", [True, True, False]),
        ('"my-grouparchive"', "time", [True, True, False]),
    ]
    assert "my-grouparchive is a TimescaleDB hypertable" in caplog.text


async def test_a_hypertable_that_is_refused_stays_a_table(
    postgres_schema: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    queries = {**archives.QUERIES, "timescale_schema": "SELECT 'nowhere'"}
    monkeypatch.setattr(archives, "QUERIES", queries)
    database = await PostgresDatabase.open(
        parse_url(postgres_schema),
        session_store=False,
        message_stores=[RETAINED],
        archive_stores=[ARCHIVE],
    )
    await commit_archive(database, make_record(1))
    assert len(await database.archive_store(ARCHIVE).history("plant/1")) == 1
    await database.close()
    assert "TimescaleDB does not make mcparchive a hypertable" in caplog.text
