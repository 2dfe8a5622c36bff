"""What the other tests rely on: real PostgreSQL servers, and the proxy before them."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator

import asyncpg
import pytest
from tests.support.broker import LOOPBACK, free_ports
from tests.support.postgres import PASSWORD, ROLE, PostgresServer, PostgresStandby, binaries
from tests.support.proxy import CommitLoss, Proxy
from tests.support.repository import ROOT

BOUND_S = 30.0
LOST = (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError)

pytestmark = pytest.mark.integration


@pytest.fixture
async def proxy(postgres_server: PostgresServer) -> AsyncIterator[Proxy]:
    async with Proxy(postgres_server.port) as proxy:
        yield proxy


def through(proxy: Proxy, url: str) -> str:
    """Return a URL that goes through the proxy."""
    return url.replace(url.rpartition("/")[0].rpartition(":")[2], str(proxy.port))


def test_what_was_committed_survives_kill_and_immediate_stop(own_postgres: PostgresServer) -> None:
    own_postgres.psql("CREATE TABLE kept (n int)")
    own_postgres.psql("INSERT INTO kept VALUES (1)")
    own_postgres.kill()
    own_postgres.start()
    own_postgres.psql("INSERT INTO kept VALUES (2)")
    own_postgres.stop("immediate")
    own_postgres.start()
    assert own_postgres.psql("SELECT n FROM kept ORDER BY n") == "1\n2"
    assert "not properly shut down" in own_postgres.log


def test_settings_take_effect_at_the_next_start(own_postgres: PostgresServer) -> None:
    own_postgres.settings["max_connections"] = "7"
    own_postgres.restart()
    assert own_postgres.psql("SHOW max_connections") == "7"


def test_a_standby_follows_and_takes_over(own_postgres: PostgresServer) -> None:
    own_postgres.settings["synchronous_standby_names"] = "standby"
    own_postgres.restart()
    standby = PostgresStandby(own_postgres)
    try:
        standby.start()
        own_postgres.psql("SET synchronous_commit = remote_apply", "CREATE TABLE kept (n int)")
        own_postgres.kill()
        assert standby.psql("SELECT pg_is_in_recovery()") == "t"
        standby.promote()
        assert standby.psql("SELECT count(*) FROM kept", "SELECT pg_is_in_recovery()") == "0\nf"
    finally:
        standby.close()


async def test_a_frozen_server_answers_once_it_is_thawed(own_postgres: PostgresServer) -> None:
    connection = await asyncpg.connect(own_postgres.url("postgres"))
    own_postgres.freeze()
    asked = asyncio.create_task(connection.fetchval("SELECT 1"))
    done, _ = await asyncio.wait([asked], timeout=0.1)
    assert not done
    own_postgres.thaw()
    async with asyncio.timeout(BOUND_S):
        assert await asked == 1
    await connection.close()


@pytest.mark.parametrize(
    ("loss", "applied"), [(CommitLoss.ANSWER, 1), (CommitLoss.REQUEST, 0)], ids=str
)
async def test_a_commit_is_lost_on_either_way(
    proxy: Proxy, postgres_database: str, loss: CommitLoss, applied: int
) -> None:
    direct = await asyncpg.connect(postgres_database)
    await direct.execute("CREATE TABLE rows (n int)")
    connection = await asyncpg.connect(through(proxy, postgres_database))
    lost = proxy.lose_next_commit(loss)
    with pytest.raises(LOST):
        async with asyncio.timeout(BOUND_S), connection.transaction():
            await connection.execute("INSERT INTO rows VALUES (1)")
    assert lost.is_set()
    assert proxy.commits_lost == 1
    assert await direct.fetchval("SELECT count(*) FROM rows") == applied
    await direct.close()
    # Only one was to be lost.
    connection = await asyncpg.connect(through(proxy, postgres_database))
    async with connection.transaction():
        await connection.execute("INSERT INTO rows VALUES (2)")
    await connection.close()


async def test_the_proxy_stalls_cuts_and_refuses(proxy: Proxy, postgres_database: str) -> None:
    connection = await asyncpg.connect(through(proxy, postgres_database))
    proxy.stall()
    asked = asyncio.create_task(connection.fetchval("SELECT 1"))
    done, _ = await asyncio.wait([asked], timeout=0.1)
    assert not done
    proxy.resume()
    async with asyncio.timeout(BOUND_S):
        assert await asked == 1
    proxy.cut()
    with pytest.raises(LOST):
        await connection.fetchval("SELECT 1")
    await proxy.shut()
    with pytest.raises(OSError, match=r"refused|Connect"):
        await asyncpg.connect(through(proxy, postgres_database))
    await proxy.open()
    connection = await asyncpg.connect(through(proxy, postgres_database))
    await connection.close()


def test_make_postgres_serves_the_quick_start_until_it_is_told_to_stop() -> None:
    port = str(free_ports(1)[0])
    serving = subprocess.Popen(
        [sys.executable, "-m", "tests.support.try_postgres"],
        cwd=ROOT,
        env={**os.environ, "POSTGRES_PORT": port},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert serving.stdout is not None
        said = [serving.stdout.readline() for _ in range(4)]
        assert port in said[0]
        run = said[3].strip()
        assert run.endswith('make run ARGS="-config examples/config-postgres.yaml"')
        assert f"MONSTERMQ_POSTGRES__URL=jdbc:postgresql://{LOOPBACK}:{port}/monster " in run
        command = said[2].strip()
        assert command.startswith(f"PGPASSWORD={PASSWORD} psql")
        assert ROLE in command
        answer = subprocess.run(
            f"{command} -X -A -t -c 'CREATE TABLE mine (n int)' -c 'SELECT current_database()'",
            shell=True,
            env={**os.environ, "PATH": f"{binaries()}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=BOUND_S,
            check=True,
        )
        assert answer.stdout.splitlines() == ["CREATE TABLE", "monster"]
        serving.send_signal(signal.SIGINT)
        assert serving.wait(BOUND_S) == 0
        assert not list_listeners(int(port))
    finally:
        serving.kill()
        serving.communicate()


def list_listeners(port: int) -> bool:
    """Whether somebody still takes connections there."""
    listening = subprocess.run(
        [binaries() / "pg_isready", "-h", LOOPBACK, "-p", str(port)],
        capture_output=True,
        check=False,
    )
    return listening.returncode != 2
