"""The quick start with PostgreSQL: the examples as they are, psql, and both processes killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.broker import LOOPBACK, START_S, free_ports
from tests.support.load import Cast
from tests.support.mqtt_peer import ConnectOptions, Publish
from tests.support.newcomer import Newcomer, leave_traces
from tests.support.postgres import PASSWORD, PostgresServer, binaries
from tests.support.repository import ROOT

from monstermq_shared.exit_codes import ExitCode

pytestmark = pytest.mark.integration

DATABASE = "monster"
PERSISTENT = ConnectOptions(clean=False)

TABLES = {
    "SELECT topic, payload FROM retainedmessages": ["tour/retained|21.5"],
    "SELECT topic, payload FROM mcplastval ORDER BY topic": [
        "tour/queued|four",
        "tour/retained|21.5",
        "tour/values|3",
    ],
    "SELECT payload FROM mcparchive WHERE topic = 'tour/values' ORDER BY time, position": [
        "1",
        "2",
        "3",
    ],
    "SELECT AVG(payload::float) FROM mcparchive WHERE topic = 'tour/values'": ["2"],
    "SELECT topic, convert_from(payload, 'UTF8') FROM queuedmessages": ["tour/queued|four"],
    "SELECT count(*) FROM queuedmessagesclients": ["1"],
    "SELECT client_id, array_to_string(topic, '/'), qos FROM subscriptions": ["away|tour/queued|1"],
}
"""What ``leave_traces`` leaves, as psql shows it."""

Guest = Callable[[str], Newcomer]


@pytest.fixture
def server(own_postgres: PostgresServer) -> PostgresServer:
    """A server as ``make postgres`` starts it, which syncs and may be killed."""
    own_postgres.create_database(DATABASE)
    return own_postgres


@pytest.fixture
def guest(tmp_path: Path, server: PostgresServer) -> Iterator[Guest]:
    """Prepares the broker with an example, on that server."""
    opened: list[Newcomer] = []

    def with_example(name: str) -> Newcomer:
        url = f"jdbc:postgresql://{LOOPBACK}:{server.port}/{DATABASE}"
        newcomer = Newcomer(
            tmp_path,
            config=ROOT / "examples" / name,
            variables={"MONSTERMQ_POSTGRES__URL": url, "PGPASSWORD": PASSWORD},
        )
        opened.append(newcomer)
        return newcomer

    yield with_example
    for newcomer in opened:
        newcomer.close()


def check_tables(server: PostgresServer) -> None:
    for query, lines in TABLES.items():
        assert server.psql(query, database=DATABASE).splitlines() == lines, query


async def check_visits(newcomer: Newcomer, cast: Cast) -> None:
    """Let those come back who were promised something."""
    visitor = await cast.peer(newcomer.tcp_port)
    await visitor.connect("visitor")
    await visitor.subscribe(("tour/#", 0))
    assert await visitor.receive() == Publish("tour/retained", b"21.5", retain=True)
    away = await cast.peer(newcomer.tcp_port)
    assert (await away.connect("away", PERSISTENT)).session_present
    message = await away.take()
    assert (message.topic, message.payload) == ("tour/queued", b"four")


async def test_everything_is_there_after_a_kill_of_both(
    guest: Guest, server: PostgresServer, cast: Cast
) -> None:
    newcomer = guest("config-postgres.yaml")
    newcomer.run()
    await leave_traces(newcomer, cast)
    newcomer.kill()
    server.kill()
    server.start()
    check_tables(server)

    newcomer.run()
    await check_visits(newcomer, cast)
    assert newcomer.stop() == ExitCode.OK
    assert server.psql("SELECT * FROM queuedmessages", database=DATABASE) == ""
    assert not (newcomer.directory / "data").exists()


async def test_the_history_of_the_mixed_example_is_in_postgresql_and_the_rest_in_the_file(
    guest: Guest, server: PostgresServer, cast: Cast
) -> None:
    newcomer = guest("config-mixed.yaml")
    newcomer.run()
    await leave_traces(newcomer, cast)
    assert newcomer.stop() == ExitCode.OK
    for query, lines in TABLES.items():
        if "mcparchive" in query:
            assert server.psql(query, database=DATABASE).splitlines() == lines
    newcomer.run()
    await check_visits(newcomer, cast)
    server.kill()
    # Nobody waits for the server but the history.
    visitor = await cast.peer(newcomer.tcp_port)
    await visitor.connect("late")
    await visitor.publish("tour/values", b"4", 1)
    server.start()
    assert newcomer.stop() == ExitCode.OK
    query = "SELECT count(*), max(payload) FROM mcparchive WHERE topic = 'tour/values'"
    assert server.psql(query, database=DATABASE) == "4|4"


def typed(newcomer: Newcomer, said: str) -> None:
    """Type the last line that a command said into a shell."""
    subprocess.run(
        said.splitlines()[-1],
        shell=True,
        cwd=newcomer.directory,
        env={
            **os.environ,
            **newcomer.environment,
            "PATH": f"{binaries()}{os.pathsep}{os.environ['PATH']}",
        },
        timeout=START_S,
        check=True,
    )


async def test_the_lines_that_the_db_commands_say_copy_the_database_and_bring_it_back(
    guest: Guest, server: PostgresServer, cast: Cast
) -> None:
    newcomer = guest("config-postgres.yaml")
    example = ["-config", str(ROOT / "examples" / "config-postgres.yaml")]
    newcomer.run()
    await leave_traces(newcomer, cast)
    done = newcomer.tool("db", "backup", "monster.dump", *example)
    assert (done.returncode, done.stdout) == (ExitCode.CONFIG, "")
    assert f"PostgreSQL at {LOOPBACK}:{server.port}/{DATABASE}" in done.stderr
    assert PASSWORD not in done.stderr
    typed(newcomer, done.stderr)

    late = await cast.peer(newcomer.tcp_port)
    await late.connect("late")
    await late.publish("tour/retained", b"99", 1, retain=True)
    await late.publish("tour/late", b"5", 1)
    assert newcomer.stop() == ExitCode.OK
    done = newcomer.tool("db", "restore", "monster.dump", *example)
    assert done.returncode == ExitCode.CONFIG
    typed(newcomer, done.stderr)
    check_tables(server)

    newcomer.run()
    await check_visits(newcomer, cast)
    assert newcomer.stop() == ExitCode.OK


async def test_the_check_says_where_the_server_is(guest: Guest, server: PostgresServer) -> None:
    newcomer = guest("config-postgres.yaml")
    example = str(ROOT / "examples" / "config-postgres.yaml")
    said = newcomer.tool("-config", example, "--check").stdout
    assert f"PostgreSQL at {LOOPBACK}:{server.port}/{DATABASE}, as system" in said
    assert PASSWORD not in said


async def test_without_its_server_the_start_says_where_it_looked(
    guest: Guest, server: PostgresServer
) -> None:
    newcomer = guest("config-postgres.yaml")
    server.stop()
    example = str(ROOT / "examples" / "config-postgres.yaml")
    done = newcomer.tool("-config", example)
    assert done.returncode == ExitCode.STORE_UNREACHABLE
    assert f"{LOOPBACK}:{server.port}/{DATABASE}: nobody listens there" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_role_of_make_postgres_makes_the_role_that_reads(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    url = f"jdbc:postgresql://{LOOPBACK}:{port}/{DATABASE}"
    newcomer = Newcomer(
        tmp_path,
        variables={
            "MONSTERMQ_POSTGRES__URL": url,
            "MONSTERMQ_POSTGRES__READUSER": "reader",
            "MONSTERMQ_POSTGRES__READPASS": PASSWORD,
        },
    )
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.try_postgres"],
        cwd=ROOT,
        env={**os.environ, "POSTGRES_PORT": str(port)},
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            assert "PostgreSQL runs on" in server.stdout.readline()
            made = newcomer.tool(
                "db", "init", "-config", str(ROOT / "examples" / "config-postgres.yaml")
            )
        finally:
            server.send_signal(signal.SIGINT)
    assert made.returncode == ExitCode.OK, made.stderr
    assert "the role reader was made; it may read mcparchive, mcplastval" in made.stdout
    assert server.returncode == 0
