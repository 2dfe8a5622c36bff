"""Connections to real PostgreSQL servers: whom we connect to, whom we refuse, and what we say."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import uvloop
from tests.support.broker import LOOPBACK, free_ports
from tests.support.certificates import CertificateAuthority
from tests.support.pgbouncer import PgBouncer
from tests.support.postgres import PASSWORD, ROLE, PostgresServer, PostgresStandby
from tests.support.proxy import Proxy

from monstermq_shared.config.postgres_urls import parse_url
from monstermq_shared.errors import StartupError, StoreDamaged, StoreError, StoreUnavailable
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.stores.postgres.connection import Connection, connect
from monstermq_shared.stores.postgres.errors import (
    StoreUnfit,
    TlsProblem,
    translated,
    translated_at_start,
)

BOUND_S = 30.0
STATEMENT_S = 20.0

pytestmark = pytest.mark.integration


@asynccontextmanager
async def connected(url: str, **wish: Any) -> AsyncIterator[Connection]:
    """Connect as the broker does, within a bound."""
    wish.setdefault("statement_timeout_s", STATEMENT_S)
    async with asyncio.timeout(BOUND_S):
        connection = await connect(parse_url(url), **wish)
    try:
        yield connection
    finally:
        connection.terminate()


async def refused(url: str, kind: type[StoreError]) -> str:
    """Return what is said when no connection is made."""
    with pytest.raises(kind) as refusal:
        async with connected(url):
            pass
    assert type(refusal.value) is kind
    assert PASSWORD not in str(refusal.value)
    return str(refusal.value)


async def show(connection: Connection, name: str) -> str:
    value: str = await connection.fetchval("SELECT current_setting($1)", name)
    return value


async def test_the_session_has_our_settings(postgres_database: str) -> None:
    url = f"{postgres_database}?ApplicationName=mine&options=-c%20work_mem%3D5MB"
    async with connected(url, statement_timeout_s=7.5) as connection:
        expected = {
            "application_name": "mine",
            "client_encoding": "UTF8",
            "default_transaction_isolation": "read committed",
            "idle_in_transaction_session_timeout": "1min",
            "jit": "off",
            "statement_timeout": "7500ms",
            "synchronous_commit": "on",
            "tcp_keepalives_idle": "15",
            "tcp_keepalives_interval": "5",
            "tcp_keepalives_count": "3",
            "TimeZone": "UTC",
            "work_mem": "5MB",
        }
        assert {name: await show(connection, name) for name in expected} == expected


def _with_uvloop(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    uvloop.run(main())


@pytest.mark.parametrize("run", [_with_uvloop, lambda main: asyncio.run(main())])
def test_the_socket_notices_a_server_that_vanished(
    postgres_database: str, run: Callable[[Callable[[], Coroutine[Any, Any, None]]], None]
) -> None:
    opened: list[socket.socket] = []

    async def main() -> None:
        async with connected(postgres_database) as connection:
            transport: asyncio.Transport = getattr(connection, "_transport")  # noqa: B009 - private
            sock = transport.get_extra_info("socket")
            opened.append(sock)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 15
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000

    run(main)
    assert opened


async def test_tables_are_in_the_schema_that_the_url_names(
    postgres_server: PostgresServer, postgres_database: str
) -> None:
    name = postgres_database.rpartition("/")[2]
    postgres_server.psql(
        f'CREATE SCHEMA "Odd, Name" AUTHORIZATION "{ROLE}"',
        f"CREATE SCHEMA plain AUTHORIZATION {ROLE}",
        database=name,
    )
    for written, schema in [("%22Odd,%20Name%22,public", "Odd, Name"), ("Plain", "plain")]:
        async with connected(f"{postgres_database}?currentSchema={written}") as connection:
            assert await connection.fetchval("SELECT current_schema()") == schema
    said = await refused(f"{postgres_database}?currentSchema=none_of_these", StoreUnfit)
    assert "none_of_these" in said
    assert "CREATE SCHEMA" in said


async def test_a_commit_is_durable_whatever_the_server_is_set_to(
    postgres_server: PostgresServer, postgres_database: str
) -> None:
    name = postgres_database.rpartition("/")[2]
    for setting, durable, session in [
        ("off", True, "on"),
        ("off", False, "off"),
        ("remote_apply", True, "remote_apply"),
    ]:
        postgres_server.psql(f'ALTER DATABASE "{name}" SET synchronous_commit = {setting}')
        async with connected(postgres_database, durable=durable) as connection:
            assert await show(connection, "synchronous_commit") == session


async def test_a_commit_stays_durable_when_the_running_server_is_set_otherwise(
    own_postgres: PostgresServer,
) -> None:
    async with connected(own_postgres.url(own_postgres.create_database())) as connection:
        own_postgres.psql("ALTER SYSTEM SET synchronous_commit = off", "SELECT pg_reload_conf()")
        async with asyncio.timeout(BOUND_S):
            while await asyncio.to_thread(own_postgres.psql, "SHOW synchronous_commit") != "off":
                pass
        assert await show(connection, "synchronous_commit") == "on"


async def test_what_the_role_is_set_to_neither_ends_nor_silences_our_session(
    postgres_server: PostgresServer, postgres_database: str
) -> None:
    name = postgres_database.rpartition("/")[2]
    ours = {"client_min_messages": "warning", "idle_session_timeout": "0"}
    for setting, theirs in {"client_min_messages": "error", "idle_session_timeout": "7000"}.items():
        postgres_server.psql(f'ALTER DATABASE "{name}" SET {setting} = {theirs}')
    async with connected(postgres_database) as connection:
        assert {setting: await show(connection, setting) for setting in ours} == ours


async def test_isolation_is_ours_whatever_the_server_is_set_to(
    postgres_server: PostgresServer, postgres_database: str
) -> None:
    name = postgres_database.rpartition("/")[2]
    postgres_server.psql(
        f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = 'serializable'"
    )
    async with connected(postgres_database) as connection, connection.transaction():
        assert await show(connection, "transaction_isolation") == "read committed"


async def test_who_may_not_log_in_is_told_what_to_set(
    postgres_server: PostgresServer, postgres_database: str
) -> None:
    database = postgres_database.rpartition("/")[2]
    for url in [
        postgres_server.url(database, password="wrong-one"),
        postgres_server.url(database, user="nobody"),
    ]:
        said = await refused(url, StoreUnavailable)
        assert f"{LOOPBACK}:{postgres_server.port}/{database}" in said
        assert "the user or the password is wrong" in said
        assert "set Postgres.User and Postgres.Pass" in said
        assert "wrong-one" not in said
    said = await refused(postgres_server.url("not_there"), StoreUnavailable)
    assert "CREATE DATABASE" in said
    assert "/not_there" in said


async def test_a_server_that_is_not_there_is_named() -> None:
    port = free_ports(1)[0]
    said = await refused(f"postgresql://{ROLE}:{PASSWORD}@{LOOPBACK}:{port}/m", StoreUnavailable)
    assert f"{LOOPBACK}:{port}/m" in said
    assert "nobody listens there" in said
    said = await refused(f"postgresql://{ROLE}:{PASSWORD}@no.such.host.invalid/m", StoreUnavailable)
    assert "the host's name leads to no address" in said


async def test_a_server_that_accepts_and_says_nothing_is_given_up(
    postgres_server: PostgresServer, postgres_database: str
) -> None:
    async with Proxy(postgres_server.port) as proxy:
        proxy.stall()
        silent = f"{LOOPBACK}:{proxy.port}"
        url = re.sub(r"@[^/]*", f"@{silent}", postgres_database) + "?connectTimeout=10"
        said = await refused(url, StoreUnavailable)
        assert "does not answer in time" in said
        # The next host is still tried.
        url = re.sub(r"@[^/]*", f"@{silent},{LOOPBACK}:{postgres_server.port}", url)
        async with connected(url) as connection:
            assert await connection.fetchval("SELECT 1") == 1


async def test_a_database_of_another_encoding_is_refused(postgres_server: PostgresServer) -> None:
    options = "TEMPLATE template0 ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C'"
    name = postgres_server.create_database(options=options)
    said = await refused(postgres_server.url(name), StoreUnfit)
    assert "LATIN1" in said
    assert "ENCODING 'UTF8'" in said
    here = f"{LOOPBACK}:{postgres_server.port}"
    twice = re.sub(r"@[^/]*", f"@{here},{here}", postgres_server.url(name))
    assert "none of the 2 hosts" in await refused(twice, StoreUnfit)
    postgres_server.drop_database(name)


async def test_no_connection_is_free(own_postgres: PostgresServer) -> None:
    own_postgres.settings.update(max_connections="4", superuser_reserved_connections="3")
    own_postgres.restart()
    url = own_postgres.url(own_postgres.create_database())
    said = ""
    async with asyncio.timeout(BOUND_S):
        while not said:
            # Who made the database may still be on the one connection that there is.
            with suppress(StoreUnavailable):
                async with connected(url):
                    said = await refused(url, StoreUnavailable)
    assert "max_connections" in said


async def test_a_standby_is_passed_over_until_it_is_the_primary(
    own_postgres: PostgresServer,
) -> None:
    name = own_postgres.create_database()
    own_postgres.settings["synchronous_standby_names"] = "standby"
    own_postgres.restart()
    standby = PostgresStandby(own_postgres)
    try:
        standby.start()
        own_postgres.psql("SET synchronous_commit = remote_apply", "CREATE TABLE applied ()")
        both = f"{LOOPBACK}:{standby.port},{LOOPBACK}:{own_postgres.port}"
        url = re.sub(r"@[^/]*", f"@{both}", own_postgres.url(name))
        async with connected(url) as connection:
            assert await show(connection, "port") == str(own_postgres.port)
        assert "is a standby" in await refused(standby.url(name), StoreUnavailable)
        own_postgres.kill()
        said = await refused(url, StoreUnavailable)
        assert "none of the 2 hosts" in said
        assert "is a standby" in said
        assert "nobody listens there" in said
        standby.promote()
        async with connected(url) as connection:
            assert await show(connection, "port") == str(standby.port)
    finally:
        standby.close()


@pytest.mark.parametrize("mode", ["transaction", "statement"])
async def test_a_pooler_that_changes_sessions_is_refused(
    postgres_server: PostgresServer, postgres_database: str, mode: str
) -> None:
    name = postgres_database.rpartition("/")[2]
    for pool_size in (1, 5):
        with PgBouncer(postgres_server, mode, pool_size=pool_size) as pooler:
            for _ in range(3):
                said = await refused(pooler.url(name), StoreUnfit)
                assert "pool_mode = session" in said


async def test_a_busy_pooler_that_changes_sessions_is_refused(
    postgres_server: PostgresServer, postgres_database: str
) -> None:
    name = postgres_database.rpartition("/")[2]
    with PgBouncer(postgres_server, "transaction") as pooler:
        stop = asyncio.Event()
        others = [asyncio.create_task(_keep_busy(pooler.url(name), stop)) for _ in range(4)]
        for _ in range(5):
            await refused(pooler.url(name), StoreUnfit)
        stop.set()
        await asyncio.gather(*others)


async def _keep_busy(url: str, stop: asyncio.Event) -> None:
    connection = await asyncpg.connect(url, statement_cache_size=0)
    while not stop.is_set():
        await connection.execute("BEGIN; SELECT pg_sleep(0.001); COMMIT")
    await connection.close()


async def test_a_pooler_in_session_mode_will_do(
    postgres_server: PostgresServer, postgres_database: str
) -> None:
    name = postgres_database.rpartition("/")[2]
    with PgBouncer(postgres_server, "session") as pooler:
        async with connected(pooler.url(name)) as connection:
            assert await show(connection, "statement_timeout") == f"{STATEMENT_S:.0f}s"
        async with connected(pooler.url(name)) as connection:
            assert await connection.fetchval("SELECT 1") == 1
    with PgBouncer(postgres_server, "session", pool_size=1) as pooler:
        said = await refused(f"{pooler.url(name)}?connectTimeout=10", StoreUnavailable)
    assert "default_pool_size" in said


async def test_tls_is_as_strict_as_the_url_says(
    own_postgres: PostgresServer, tmp_path: Path
) -> None:
    authority = CertificateAuthority(tmp_path)
    stranger = CertificateAuthority(tmp_path, "stranger")
    name = own_postgres.create_database()
    plain = own_postgres.url(name)
    assert "does not offer TLS" in await refused(f"{plain}?sslmode=require", StoreUnavailable)
    own_postgres.use_tls(authority.issue("server"))
    own_postgres.settings["listen_addresses"] = "127.0.0.1,127.0.0.2"
    own_postgres.restart()
    misnamed = own_postgres.url(name, host="127.0.0.2")
    trusted, unknown = f"sslrootcert={authority.cert_file}", f"sslrootcert={stranger.cert_file}"
    for url, encrypted in [
        (f"{plain}?sslmode=disable", False),
        (f"{plain}?sslmode=allow", False),
        (plain, True),
        (f"{plain}?sslmode=require", True),
        (f"{plain}?sslmode=verify-ca&{trusted}", True),
        (f"{misnamed}?sslmode=verify-ca&{trusted}", True),
        (f"{plain}?sslmode=verify-full&{trusted}", True),
    ]:
        async with connected(url) as connection:
            query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            assert await connection.fetchval(query) is encrypted, url
    for url in [
        f"{misnamed}?sslmode=verify-full&{trusted}",
        f"{plain}?sslmode=verify-full&{unknown}",
        f"{plain}?sslmode=verify-full",
        f"{plain}?sslmode=require&{unknown}",
    ]:
        assert "sslrootcert" in await refused(url, TlsProblem), url


async def test_a_certificate_logs_us_in(own_postgres: PostgresServer, tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path)
    name = own_postgres.create_database()
    own_postgres.use_tls(authority.issue("server"), client_authority=authority)
    own_postgres.restart()
    own = authority.issue(ROLE)
    query = f"sslmode=verify-full&sslrootcert={authority.cert_file}&sslcert={own.cert_file}"
    nameless = f"postgresql://{ROLE}@{LOOPBACK}:{own_postgres.port}/{name}?{query}"
    async with connected(f"{nameless}&sslkey={own.encrypted_key_file('pw')}&sslpassword=pw"):
        pass
    said = await refused(f"{nameless}&sslkey={tmp_path}/none.pem", TlsProblem)
    assert "No such file" in said
    said = await refused(
        f"{nameless}&sslkey={own.encrypted_key_file('pw')}&sslpassword=no", TlsProblem
    )
    assert "sslpassword" in said


@pytest.mark.parametrize(
    ("statement", "kind", "words"),
    [
        ("SELECT * FROM not_there", StoreDamaged, "somebody has dropped it"),
        ("SELECT nothing FROM kept", StoreDamaged, "altered"),
        ("INSERT INTO kept VALUES (1) ON CONFLICT (n) DO NOTHING", StoreDamaged, "altered"),
        ("INSERT INTO kept (n) VALUES (NULL)", StoreDamaged, "altered"),
        ("SELECT 1/0", StoreError, "refuses"),
        ("SELEC 1", StoreError, "syntax"),
        ("SELECT pg_sleep(20)", StoreUnavailable, "too long"),
        ("SELECT pg_terminate_backend(pg_backend_pid())", StoreUnavailable, "administrator"),
        ("CREATE TABLE pg_catalog.mine (n int)", StoreUnavailable, "right"),
        ("BEGIN READ ONLY; CREATE TABLE x ()", StoreUnavailable, "writes"),
        ("LOCK TABLE kept NOWAIT", StoreUnavailable, "lock"),
    ],
)
async def test_what_the_server_says_is_translated(
    postgres_database: str, statement: str, kind: type[StoreError], words: str
) -> None:
    async with (
        connected(postgres_database, statement_timeout_s=0.2) as connection,
        connected(postgres_database) as other,
    ):
        await other.execute("CREATE TABLE kept (n int NOT NULL)")
        transaction = other.transaction()
        await transaction.start()
        if "LOCK" in statement:
            await other.execute("LOCK TABLE kept")
            statement = f"BEGIN; {statement}"
        with pytest.raises(kind) as failure, translated("h:1/d"):
            await connection.execute(statement)
        assert type(failure.value) is kind
        assert str(failure.value).startswith("PostgreSQL at h:1/d: ")
        assert words in str(failure.value)
        assert failure.value.__cause__ is not None
        await transaction.rollback()


async def test_a_value_that_never_fits_is_not_worth_repeating(postgres_database: str) -> None:
    async with connected(postgres_database) as connection:
        for value in (2**40, "no number"):
            with pytest.raises(StoreError, match="refuses") as failure, translated("h"):
                await connection.fetchval("SELECT $1::int", value)
            assert type(failure.value) is StoreError
        with pytest.raises(StoreError, match="refuses") as failure, translated("h"):
            await connection.fetchval("SELECT $1::text", "a\0b")
        assert type(failure.value) is StoreError


async def test_a_server_that_dies_stops_or_hangs_is_unavailable(
    own_postgres: PostgresServer,
) -> None:
    url = own_postgres.url(own_postgres.create_database())

    async def fails() -> str:
        with pytest.raises(StoreUnavailable) as failure, translated("h:1/d"):
            async with asyncio.timeout(BOUND_S):
                await asking
        with pytest.raises(StoreUnavailable), translated("h:1/d"):
            await connection.fetchval("SELECT 1")
        return str(failure.value)

    for end in (own_postgres.kill, own_postgres.stop, lambda: own_postgres.stop("immediate")):
        async with connected(url) as connection:
            asking = asyncio.create_task(connection.fetchval("SELECT pg_sleep(20)"))
            await asyncio.sleep(0)
            await asyncio.to_thread(end)
            await fails()
        own_postgres.start()
    async with connected(f"{url}?socketTimeout=1") as connection:
        own_postgres.freeze()
        asking = asyncio.create_task(connection.fetchval("SELECT 1"))
        with pytest.raises(StoreUnavailable, match="in time"), translated("h:1/d"):
            await asking
        own_postgres.thaw()


@pytest.mark.parametrize(
    ("problem", "exit_code"),
    [
        ("nobody", ExitCode.STORE_UNREACHABLE),
        ("password", ExitCode.STORE_UNREACHABLE),
        ("database", ExitCode.STORE_UNREACHABLE),
        ("encoding", ExitCode.CONFIG),
        ("certificate", ExitCode.TLS),
    ],
)
async def test_at_start_each_problem_has_its_exit_code(
    postgres_server: PostgresServer, problem: str, exit_code: ExitCode
) -> None:
    options = "TEMPLATE template0 ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C'"
    name = postgres_server.create_database(options=options)
    url = {
        "nobody": f"postgresql://{ROLE}@{LOOPBACK}:{free_ports(1)[0]}/m",
        "password": postgres_server.url(name, password="x"),
        "database": postgres_server.url("none"),
        "encoding": postgres_server.url(name),
        "certificate": postgres_server.url(name) + "?sslmode=verify-full&sslrootcert=/none.pem",
    }[problem]
    with pytest.raises(StartupError) as failure, translated_at_start("h:1/d"):
        await connect(parse_url(url), statement_timeout_s=STATEMENT_S)
    assert failure.value.exit_code == exit_code
    postgres_server.drop_database(name)


async def test_at_start_a_role_without_rights_is_told_so(
    postgres_server: PostgresServer, postgres_database: str
) -> None:
    async with connected(postgres_database) as connection:
        with pytest.raises(StartupError, match="grant") as failure, translated_at_start("h:1/d"):
            await connection.execute("CREATE TABLE pg_catalog.mine (n int)")
    assert failure.value.exit_code == ExitCode.STORE_UNWRITABLE
