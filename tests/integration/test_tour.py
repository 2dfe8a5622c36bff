"""What the README promises a newcomer: one command, no file, and everything is still there."""

import json
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.integration.observing import until_ready
from tests.support.broker import LOOPBACK, START_S, RunningBroker
from tests.support.interop import NodeWebSocketTeller, Told
from tests.support.load import Cast
from tests.support.machine import needs_ipv6
from tests.support.mqtt_peer import ConnectOptions, Publish
from tests.support.newcomer import Newcomer, leave_traces

from monstermq_shared.exit_codes import ExitCode

pytestmark = pytest.mark.integration

PERSISTENT = ConnectOptions(clean=False)
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    """An empty folder."""
    process = Newcomer(tmp_path)
    yield process
    process.close()


def ask_sqlite(path: Path, query: str) -> list[str]:
    """Ask the ``sqlite3`` command, as an operator would; return its lines."""
    done = subprocess.run(
        ["sqlite3", str(path), query], capture_output=True, text=True, timeout=START_S, check=True
    )
    return done.stdout.splitlines()


TABLES = {
    "SELECT topic, payload FROM retainedmessages": ["tour/retained|21.5"],
    "SELECT topic, payload FROM mcplastval ORDER BY topic": [
        "tour/queued|four",
        "tour/retained|21.5",
        "tour/values|3",
    ],
    "SELECT payload FROM mcparchive WHERE topic = 'tour/values' ORDER BY time": ["1", "2", "3"],
    "SELECT AVG(CAST(payload AS REAL)) FROM mcparchive WHERE topic = 'tour/values'": ["2.0"],
    "SELECT topic, CAST(payload AS TEXT) FROM queuedmessages": ["tour/queued|four"],
    "SELECT client_id FROM queuedmessagesclients": ["away"],
    "SELECT client_id, topic, qos FROM subscriptions": ["away|tour/queued|1"],
}


async def test_everything_is_there_after_a_kill(newcomer: Newcomer, cast: Cast) -> None:
    newcomer.run()
    await leave_traces(newcomer, cast)
    newcomer.kill()
    path = newcomer.directory / "data" / "monstermq.db"
    for query, lines in TABLES.items():
        assert ask_sqlite(path, query) == lines, query

    newcomer.run()
    guest = await cast.peer(newcomer.tcp_port)
    await guest.connect("guest")
    await guest.subscribe(("tour/#", 0))
    assert await guest.receive() == Publish("tour/retained", b"21.5", retain=True)
    away = await cast.peer(newcomer.tcp_port)
    assert (await away.connect("away", PERSISTENT)).session_present
    message = await away.take()
    assert (message.topic, message.payload) == ("tour/queued", b"four")
    assert newcomer.stop() == ExitCode.OK
    assert ask_sqlite(path, "SELECT * FROM queuedmessages") == []


async def test_it_says_where_it_listens_and_what_to_try(newcomer: Newcomer) -> None:
    newcomer.run()
    await until_ready(newcomer, 200)
    said = newcomer.log_text()
    assert f"mqtt://localhost:{newcomer.tcp_port}" in said
    assert f"ws://localhost:{newcomer.ws_port}/mqtt" in said
    assert f"mosquitto_sub -p {newcomer.tcp_port} -t '#' -v" in said
    assert "0.0.0.0" not in said
    assert newcomer.stop() == ExitCode.OK


@needs_ipv6
def test_localhost_is_both_loopback_addresses(newcomer: Newcomer) -> None:
    newcomer.run()
    for port in (newcomer.tcp_port, newcomer.ws_port, newcomer.metrics_port):
        for host in (LOOPBACK, "::1"):
            socket.create_connection((host, port), timeout=START_S).close()
    assert newcomer.stop() == ExitCode.OK


def test_what_it_says_to_try_works(newcomer: Newcomer) -> None:
    newcomer.run()
    server = ["-h", LOOPBACK, "-p", str(newcomer.tcp_port)]
    subprocess.run(
        ["mosquitto_pub", *server, "-t", "hello", "-m", "world", "-r"], check=True, timeout=START_S
    )
    shown = subprocess.run(
        ["mosquitto_sub", *server, "-t", "#", "-v", "-C", "1"],
        check=True,
        timeout=START_S,
        capture_output=True,
        text=True,
    )
    assert shown.stdout == "hello world\n"


async def test_a_browser_may_connect(newcomer: Newcomer) -> None:
    newcomer.run()
    browser = NodeWebSocketTeller(newcomer)
    try:
        await browser.connect("browser")
        await browser.subscribe("hello", 1)
        await browser.publish(Told("hello", b"world", 1))
        assert await browser.receive() == Told("hello", b"world", 1)
    finally:
        await browser.vanish()


async def test_a_backup_of_a_running_broker_is_a_database_of_its_own(
    newcomer: Newcomer, cast: Cast
) -> None:
    newcomer.run()
    await leave_traces(newcomer, cast)
    done = newcomer.tool("db", "backup", "backup.db")
    assert done.returncode == ExitCode.OK, done.stderr
    newcomer.kill()
    backup = newcomer.directory / "backup.db"
    for query, lines in TABLES.items():
        assert ask_sqlite(backup, query) == lines, query
    assert ask_sqlite(backup, "PRAGMA integrity_check") == ["ok"]

    restored = RunningBroker(newcomer.directory)
    try:
        restored.start(f"SQLite: {{Path: {backup}}}")
        away = await cast.peer(restored.tcp_port)
        assert (await away.connect("away", PERSISTENT)).session_present
        assert (await away.take()).payload == b"four"
    finally:
        restored.close()


def test_a_backup_needs_a_database_and_a_place(newcomer: Newcomer) -> None:
    done = newcomer.tool("db", "backup", "backup.db")
    assert done.returncode == ExitCode.FAILURE
    assert "monstermq.db" in done.stderr
    newcomer.run()
    done = newcomer.tool("db", "backup", "data/monstermq.db")
    assert done.returncode == ExitCode.CONFIG
    done = newcomer.tool("db", "backup", "nowhere/backup.db")
    assert done.returncode == ExitCode.FAILURE
    assert "nowhere/backup.db" in done.stderr


def test_the_examples_that_run_here_pass_the_check(newcomer: Newcomer) -> None:
    for name in (
        "config-sqlite",
        "config-postgres",
        "config-mixed",
        "config-memory",
        "config-limits",
    ):
        done = newcomer.tool("-config", str(REPOSITORY / "examples" / f"{name}.yaml"), "--check")
        assert done.returncode == ExitCode.OK, done.stderr
        assert "OK" in done.stdout
    assert newcomer.tool("--check").returncode == ExitCode.OK


def test_a_wrong_key_fails_the_check_and_the_start_with_a_hint(newcomer: Newcomer) -> None:
    path = newcomer.directory / "config.yaml"
    path.write_text("SessionStoreTyp: SQLITE\n", encoding="utf-8")
    for arguments in (["--check"], [], ["-config", "config.yaml"]):
        done = newcomer.tool(*arguments)
        assert done.returncode == ExitCode.CONFIG
        assert "SessionStoreType" in done.stderr


async def test_the_history_of_many_messages_is_complete_and_in_order(
    newcomer: Newcomer, cast: Cast
) -> None:
    newcomer.run()
    guest = await cast.peer(newcomer.tcp_port)
    await guest.connect("guest")
    for n in range(500):
        await guest.publish("tour/history", json.dumps({"value": n}).encode(), n % 3)
    newcomer.kill()
    with closing(sqlite3.connect(newcomer.directory / "data" / "monstermq.db")) as database:
        rows = database.execute(
            "SELECT json_extract(payload_json, '$.value') FROM mcparchive ORDER BY time, position"
        ).fetchall()
    assert [value for (value,) in rows] == list(range(500))
