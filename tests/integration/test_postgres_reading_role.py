"""``monstermq db init``, and the role it makes: what that may do, and which roles are refused."""

import logging
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from tests.support.postgres import ROLE, SUPERUSER, PostgresServer
from tests.support.postgres_reading import READER_PASSWORD, ReadingSite

from monstermq_shared.config import load_config
from monstermq_shared.errors import ConfigError, StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.stores.postgres.reading_role import scram_verifier

pytestmark = pytest.mark.integration

READABLE = ["mcparchive", "mcplastval"]


@pytest.fixture
def site(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[ReadingSite]:
    """One whose broker is a superuser, as in the README's quick start."""
    site = ReadingSite(postgres_server, tmp_path, user=SUPERUSER)
    yield site
    site.close()


@pytest.fixture
def modest(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[ReadingSite]:
    """One whose broker owns the database and may make no role."""
    site = ReadingSite(postgres_server, tmp_path)
    yield site
    site.close()


async def refused(site: ReadingSite) -> StartupError:
    with pytest.raises(StartupError) as caught:
        await site.init()
    return caught.value


async def test_the_role_is_made_before_the_first_start_which_gives_it_its_rights(
    site: ReadingSite,
) -> None:
    assert f"the role {site.reader} was made" in await site.init()
    await (await site.open()).close()
    assert site.readable() == READABLE
    assert "is as it should be; it may read mcparchive, mcplastval" in await site.init()


async def test_it_is_made_while_a_broker_runs(site: ReadingSite) -> None:
    broker = await site.open()
    said = await site.init()
    assert "was made, was given the right to read archives and last values" in said
    await broker.close()
    assert site.readable() == READABLE


async def test_a_group_that_is_added_later_can_be_read(site: ReadingSite) -> None:
    await site.init()
    await (await site.open()).close()
    site.psql("DROP TABLE mcparchive", "DELETE FROM monstermq_tables WHERE name = 'mcparchive'")
    await (await site.open()).close()
    assert site.readable() == READABLE


async def test_it_takes_away_what_was_granted_beside(site: ReadingSite) -> None:
    """As a page of an earlier release said to."""
    await (await site.open()).close()
    await site.init()
    site.psql(f'GRANT ALL ON ALL TABLES IN SCHEMA public TO "{site.reader}"')
    assert "has lost its other rights" in await site.init()
    assert site.readable() == READABLE
    assert (
        site.psql(f"SELECT has_table_privilege('{site.reader}', 'mcparchive', 'INSERT, DELETE')")
        == "f"
    )


async def test_a_start_without_the_role_says_how_to_make_it(
    site: ReadingSite, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        await (await site.open()).close()
    assert f"there is no role {site.reader}" in caplog.text
    assert "monstermq db init" in caplog.text


async def test_who_may_make_no_role_is_told_what_to_type(modest: ReadingSite) -> None:
    error = await refused(modest)
    assert error.exit_code == ExitCode.STORE_UNWRITABLE
    assert f'CREATE ROLE "{modest.reader}" LOGIN PASSWORD' in str(error)
    modest.psql(f"CREATE ROLE \"{modest.reader}\" LOGIN PASSWORD '{READER_PASSWORD}'")
    await (await modest.open()).close()
    await modest.init()
    assert modest.readable() == READABLE


async def test_a_wrong_password_is_told_as_that_of_the_role(modest: ReadingSite) -> None:
    modest.psql(f"CREATE ROLE \"{modest.reader}\" LOGIN PASSWORD 'another'")
    error = await refused(modest)
    assert error.exit_code == ExitCode.STORE_UNREACHABLE
    assert f"the role {modest.reader} (Postgres.ReadUser) cannot log in" in str(error)


@pytest.mark.parametrize(
    ("statements", "reason"),
    [
        (["ALTER ROLE {role} SUPERUSER"], "is a superuser"),
        (["ALTER ROLE {role} CREATEROLE"], "has one of the attributes CREATEROLE"),
        (["ALTER ROLE {role} REPLICATION"], "has one of the attributes CREATEROLE"),
        (["GRANT pg_read_server_files TO {role}"], "is a member of pg_read_server_files"),
        (["GRANT pg_execute_server_program TO {role}"], "is a member of pg_execute_server_program"),
        (["GRANT {owner} TO {role}"], "owns, or is a member of a role that owns, the database"),
        (["ALTER TABLE mcparchive OWNER TO {role}"], "owns, the table mcparchive"),
        (["GRANT UPDATE (payload_blob) ON mcparchive TO {role}"], "may change mcparchive"),
        (["GRANT DELETE ON mcplastval TO PUBLIC"], "may change mcplastval"),
        (["GRANT SELECT ON sessions TO PUBLIC"], "may also read sessions"),
        (["GRANT SELECT (topic) ON retainedmessages TO {role}"], "may also read retainedmessages"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
async def test_a_role_that_can_do_more_is_refused(
    modest: ReadingSite, statements: list[str], reason: str
) -> None:
    role = f'"{modest.reader}"'
    modest.psql(f"CREATE ROLE {role} LOGIN PASSWORD '{READER_PASSWORD}'")
    await (await modest.open()).close()
    modest.psql(*(text.format(role=role, owner=ROLE) for text in statements))
    error = await refused(modest)
    assert error.exit_code == ExitCode.CONFIG
    assert reason in str(error)
    assert "Postgres.ReadUser" in str(error)
    modest.psql(f'REASSIGN OWNED BY {role} TO "{ROLE}"', f"DROP OWNED BY {role}")


async def test_the_role_that_writes_is_refused_when_the_configuration_is_read(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"Postgres.ReadUser {ROLE} is the role that writes"):
        ReadingSite(postgres_server, tmp_path, reader=ROLE)


async def test_a_configuration_without_postgresql_is_refused(
    site: ReadingSite, tmp_path: Path
) -> None:
    site.path.write_text("SessionStoreType: SQLITE\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="nothing of this configuration is"):
        await site.init()


async def test_without_a_role_only_the_indexes_are_made(site: ReadingSite) -> None:
    text = site.path.read_text(encoding="utf-8").replace(f"ReadUser: '{site.reader}', ", "")
    site.path.write_text(text, encoding="utf-8")
    site.config = load_config(site.path, {}).config
    await (await site.open()).close()
    said = await site.init()
    assert "Postgres.ReadUser is not set" in said
    assert "indexes for searching topics made: mcplastval, retainedmessages" in said


async def test_tables_made_after_the_extension_have_its_index(site: ReadingSite) -> None:
    await site.init()
    await (await site.open()).close()
    assert "nothing to do for searching topics" in await site.init()
    found = site.psql("SELECT tablename FROM pg_indexes WHERE indexdef LIKE '%gin_trgm_ops%'")
    assert sorted(found.split()) == ["mcplastval", "retainedmessages"]


async def test_what_an_interrupted_making_has_left_is_removed(site: ReadingSite) -> None:
    await (await site.open()).close()
    await site.init()
    invalid = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{}'::regclass"
    (name,) = site.psql(
        "SELECT indexname FROM pg_indexes WHERE indexdef LIKE '%gin_trgm_ops%' "
        "AND tablename = 'mcplastval'"
    ).split()
    site.psql(invalid.format(name))
    assert "indexes for searching topics made: mcplastval" in await site.init()
    assert site.psql("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == "0"


async def test_without_the_right_to_the_extension_the_statement_is_told(
    modest: ReadingSite,
) -> None:
    modest.psql(
        f"CREATE ROLE \"{modest.reader}\" LOGIN PASSWORD '{READER_PASSWORD}'",
        f'ALTER DATABASE "{modest.database}" OWNER TO {SUPERUSER}',
        f'GRANT CREATE ON SCHEMA public TO "{ROLE}"',
    )
    await (await modest.open()).close()
    said = await modest.init()
    assert "CREATE EXTENSION pg_trgm;" in said


async def test_the_password_does_not_reach_the_servers_log(
    own_postgres: PostgresServer, tmp_path: Path
) -> None:
    own_postgres.settings["log_statement"] = "all"
    own_postgres.restart()
    site = ReadingSite(own_postgres, tmp_path, user=SUPERUSER)
    await site.init()
    assert "CREATE ROLE" in own_postgres.log
    assert READER_PASSWORD not in own_postgres.log


async def test_a_password_that_is_not_ascii_works(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    password = "Grüße ﬁ"
    site = ReadingSite(postgres_server, tmp_path, user=SUPERUSER)
    text = site.path.read_text(encoding="utf-8").replace(READER_PASSWORD, f"'{password}'")
    site.path.write_text(text, encoding="utf-8")
    await site.init()
    connection = await asyncpg.connect(
        site.server.url(site.database, user=site.reader, password=password)
    )
    await connection.close()
    site.close()
    assert scram_verifier(password) == password
