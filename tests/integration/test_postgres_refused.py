"""A PostgreSQL that the broker cannot use: refused at start, or the end of one that runs."""

import asyncio

import pytest
from tests.integration.faults import POSTGRES, VIEWS_IN_POSTGRES, Mix, Scene
from tests.support.broker import STOP_S, RunningBroker
from tests.support.load import Cast
from tests.support.postgres import PASSWORD, ROLE, PostgresServer

from monstermq_shared.exit_codes import ExitCode

pytestmark = pytest.mark.integration

ALTERED = "somebody else has altered it: undo that, or go back to a backup"

ALTERATIONS = {
    "a column is dropped": (
        "mcparchive",
        "ALTER TABLE mcparchive DROP COLUMN payload_blob CASCADE",
    ),
    "a table is dropped": ("mcplastval", "DROP TABLE mcplastval"),
    "a column is renamed": ("mcparchive", "ALTER TABLE mcparchive RENAME qos TO quality"),
    "a type is changed": ("mcparchive", "ALTER TABLE mcparchive ALTER qos TYPE text"),
    "the key is gone": ("mcplastval", "ALTER TABLE mcplastval DROP CONSTRAINT mcplastval_pkey"),
}
QUEUE_ALTERED = {
    "the queue's table is dropped": ("queuedmessages", "DROP TABLE queuedmessages CASCADE"),
    "the watermarks are dropped": ("watermarks", "DROP TABLE watermarks"),
}


def cases(*tables: dict[str, tuple[str, str]]) -> pytest.MarkDecorator:
    merged = {name: case for table in tables for name, case in table.items()}
    return pytest.mark.parametrize(("table", "alteration"), merged.values(), ids=merged.keys())


@cases(ALTERATIONS, QUEUE_ALTERED)
async def test_a_table_altered_while_the_broker_runs_ends_it(
    broker: RunningBroker, cast: Cast, postgres_server: PostgresServer, table: str, alteration: str
) -> None:
    await ends(Scene(broker, cast, POSTGRES, postgres_server), table, alteration)


async def test_a_followed_table_altered_while_the_broker_runs_ends_it(
    broker: RunningBroker, cast: Cast, postgres_server: PostgresServer
) -> None:
    scene = Scene(broker, cast, VIEWS_IN_POSTGRES, postgres_server)
    await ends(scene, *ALTERATIONS["a column is dropped"])


async def ends(scene: Scene, table: str, alteration: str) -> None:
    """Assert that the broker ends and says why, and what it says when it is started again."""
    broker, server = scene.broker, scene.server
    await scene.begin()
    server.psql(alteration, database=scene.database)
    assert await asyncio.to_thread(broker.has_ended, within_s=STOP_S), broker.log_text()
    assert broker.wait() == ExitCode.STORE_DAMAGED
    for said in (
        ALTERED,
        f"table {table} is not as the broker made it",
        f"{server.port}/{scene.database}",
    ):
        assert said in broker.log_text()
    assert "Traceback" not in broker.log_text()
    await scene.cast.gone()
    scene.ledger.assert_kept()
    status, said = broker.run_to_end(scene.config)
    assert status == ExitCode.STORE_DAMAGED, said
    assert table in said
    assert "Traceback" not in said


def prepared(broker: RunningBroker, mix: Mix, server: PostgresServer) -> tuple[str, str]:
    """Return a database that a broker has used, and the configuration."""
    database = server.create_database()
    config = mix.config(server.url(database))
    broker.start(config).stop()
    return database, config


def refused(broker: RunningBroker, config: str, exit_code: ExitCode, *words: str) -> None:
    status, said = broker.run_to_end(config)
    assert status == exit_code, said
    for word in words:
        assert word in said
    assert "Traceback" not in said
    assert PASSWORD not in said


@pytest.mark.parametrize("mix", [POSTGRES, VIEWS_IN_POSTGRES], ids=str)
def test_tables_of_a_later_version_are_refused(
    broker: RunningBroker, postgres_server: PostgresServer, mix: Mix
) -> None:
    database, config = prepared(broker, mix, postgres_server)
    later = "UPDATE monstermq_meta SET schema_version = schema_version + 1"
    postgres_server.psql(later, database=database)
    refused(broker, config, ExitCode.STORE_DAMAGED, database, "version")
    postgres_server.psql(later.replace("+", "-"), database=database)
    assert broker.start(config).stop() == ExitCode.OK


@pytest.mark.parametrize("mix", [POSTGRES, VIEWS_IN_POSTGRES], ids=str)
def test_who_is_not_let_in_at_start_is_told_why(
    broker: RunningBroker, postgres_server: PostgresServer, mix: Mix
) -> None:
    server = postgres_server
    database = server.create_database()
    config = mix.config(server.url(database, password="wrong"))
    refused(broker, config, ExitCode.STORE_UNREACHABLE, "the password is wrong", "Postgres.Pass")
    config = mix.config(server.url("nowhere"))
    refused(broker, config, ExitCode.STORE_UNREACHABLE, "does not exist", "CREATE DATABASE")
    config = mix.config(server.url(database).replace(str(server.port), "1"))
    refused(broker, config, ExitCode.STORE_UNREACHABLE, "nobody listens there", "Postgres.Url")


def test_a_role_without_rights_is_told_what_to_grant(
    broker: RunningBroker, postgres_server: PostgresServer
) -> None:
    server = postgres_server
    database = server.create_database()
    server.psql(f'ALTER DATABASE "{database}" OWNER TO postgres')
    server.psql("REVOKE CREATE ON SCHEMA public FROM PUBLIC", database=database)
    config = POSTGRES.config(server.url(database))
    refused(broker, config, ExitCode.STORE_UNWRITABLE, "lacks a right", "grant", database)
    server.psql(f"GRANT CREATE ON SCHEMA public TO {ROLE}", database=database)
    assert broker.start(config).stop() == ExitCode.OK


def test_no_connection_free_at_start_is_told(
    broker: RunningBroker, postgres_server: PostgresServer
) -> None:
    server = postgres_server
    database = server.create_database()
    server.psql(f'ALTER DATABASE "{database}" CONNECTION LIMIT 0')
    config = POSTGRES.config(server.url(database))
    refused(broker, config, ExitCode.STORE_UNREACHABLE, "no connection free", database)
    server.psql(f'ALTER DATABASE "{database}" CONNECTION LIMIT -1')
    assert broker.start(config).stop() == ExitCode.OK


@cases(ALTERATIONS, QUEUE_ALTERED)
def test_a_table_altered_before_the_start_is_named(
    broker: RunningBroker, postgres_server: PostgresServer, table: str, alteration: str
) -> None:
    database, config = prepared(broker, POSTGRES, postgres_server)
    postgres_server.psql(alteration, database=database)
    refused(broker, config, ExitCode.STORE_DAMAGED, table, f"/{database}")
