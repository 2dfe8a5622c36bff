"""How the process ends: told to, twice told to, or because it must not begin."""

import random
import signal
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest
from tests.support.broker import LOOPBACK, RunningBroker
from tests.support.chance import drawn_random
from tests.support.ledger import Message
from tests.support.load import Cast
from tests.support.machine import mounted
from tests.support.mqtt_peer import ConnectOptions, PeerClosed, Publish, Will

from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.operation.signals import SAME_SIGNAL_S

pytestmark = pytest.mark.integration

STOPS = 5
WATCHERS = 12
ROUND_S = 20.0
SETTLE_S = 30.0
PERSISTENT = ConnectOptions(clean=False)
ARCHIVED = """
ArchiveGroups:
  - Name: MCP
    TopicFilter: ["#"]
    ArchiveType: SQLITE
"""


def message_maker(qos: int) -> Callable[[int], Message]:
    def make(n: int) -> Message:
        return Message(f"load/{qos}", f"{qos} {n}".encode(), qos)

    return make


def archived(broker: RunningBroker) -> list[bytes]:
    with closing(sqlite3.connect(broker.directory / "monstermq.db")) as database:
        rows = database.execute("SELECT payload_blob FROM mcparchive ORDER BY position").fetchall()
    return [payload for (payload,) in rows]


async def begin_watching(broker: RunningBroker, cast: Cast) -> None:
    """Leave a persistent session behind that is owed the wills."""
    watcher = await cast.peer(broker.tcp_port)
    await watcher.connect("watcher", PERSISTENT)
    await watcher.subscribe(("wills/#", 1))
    await watcher.disconnect()


async def test_sigterm_under_load_loses_nothing_that_was_acknowledged(
    broker: RunningBroker, cast: Cast
) -> None:
    for qos in (1, 2):
        cast.add_publisher(f"pub{qos}", message_maker(qos))
        cast.add_subscriber(f"sub{qos}", "load/#", qos)
    rng = drawn_random()
    port = broker.start().tcp_port
    await cast.subscribe(port)
    for _ in range(STOPS):
        await cast.connect(port, cast.publishers)
        await cast.ledger.packets(rng.randint(1, 5_000), ROUND_S)
        assert broker.stop() == ExitCode.OK, broker.log_text()
        await cast.gone()
        cast.ledger.assert_kept()
        broker.start()
        await cast.connect(port, cast.subscribers)
    await cast.settle(port, SETTLE_S)
    assert "before everything was committed" not in broker.log_text()


async def test_a_stop_publishes_the_wills_once_and_keeps_them(
    broker: RunningBroker, cast: Cast
) -> None:
    port = broker.start().tcp_port
    await begin_watching(broker, cast)
    mortal = await cast.peer(port)
    will = Will(topic="wills/mortal", qos=1, retain=True)
    await mortal.connect("mortal", ConnectOptions(will=will))
    assert broker.stop() == ExitCode.OK
    await mortal.closed()

    broker.start()
    watcher = await cast.peer(port)
    assert (await watcher.connect("watcher", PERSISTENT)).session_present
    # What the queue of an earlier process holds may have been sent by it: DUP says so.
    assert await watcher.take() == Publish("wills/mortal", b"gone", qos=1, dup=True)
    await watcher.subscribe(("wills/mortal", 1))
    assert await watcher.take() == Publish("wills/mortal", b"gone", qos=1, retain=True)
    assert await watcher.ping() == []


async def test_a_stop_lets_those_without_a_will_hear_all_wills(
    broker: RunningBroker, cast: Cast
) -> None:
    """Also the clean sessions, which nothing is kept for: they end after those with a will."""
    port = broker.start().tcp_port
    watchers = []
    for n in range(WATCHERS):
        will = Will(topic=f"wills/{n}", qos=n % 3)
        await (await cast.peer(port)).connect(f"mortal{n}", ConnectOptions(will=will))
        watchers.append(await cast.peer(port))
        await watchers[-1].connect(f"watcher{n}")
        await watchers[-1].subscribe(("wills/#", n % 3))
    assert broker.stop() == ExitCode.OK
    for watcher in watchers:
        heard = [await watcher.receive() for _ in range(WATCHERS)]
        assert {message.topic for message in heard} == {f"wills/{n}" for n in range(WATCHERS)}
        await watcher.closed()


async def test_a_second_signal_ends_it_at_once(broker: RunningBroker, cast: Cast) -> None:
    port = broker.start().tcp_port
    # It waits a moment for a client that does not take what it is still sent.
    deaf = await cast.peer(port)
    await deaf.connect("deaf")
    await deaf.subscribe(("noise", 0))
    loud = await cast.peer(port)
    await loud.connect("loud")
    for _ in range(32):
        await loud.publish("noise", bytes(400_000))
    await loud.ping()
    broker.send_signal(signal.SIGTERM)
    await loud.closed()
    # One that follows at once counts as the same: make and its shell both pass a signal on.
    while not broker.has_ended(within_s=SAME_SIGNAL_S):
        broker.send_signal(signal.SIGTERM)
    assert broker.wait() == ExitCode.FAILURE
    assert "ended at once by a second signal" in broker.log_text()
    assert "INFO monstermq_edge.app stopped" not in broker.log_text()


@pytest.mark.parametrize("key", ["TCP", "WS", "Metrics"])
def test_a_port_in_use_is_named(broker: RunningBroker, key: str) -> None:
    ports = {"TCP": broker.tcp_port, "WS": broker.ws_port, "Metrics": broker.metrics_port}
    with socket.create_server((LOOPBACK, ports[key])):
        status, said = broker.run_to_end()
    assert status == ExitCode.PORT_IN_USE, said
    name = "Metrics.Port" if key == "Metrics" else key
    host = "localhost" if key == "Metrics" else LOOPBACK
    assert f"{name}: port {ports[key]} on {host} is used by another process" in said
    assert f"or set {name} (MONSTERMQ_" in said
    broker.start()


def test_a_folder_that_cannot_be_made_is_named(broker: RunningBroker) -> None:
    (broker.directory / "file").write_text("in the way", encoding="utf-8")
    path = broker.directory / "file" / "monstermq.db"
    status, said = broker.run_to_end(f"SQLite: {{Path: {path}}}")
    assert status == ExitCode.STORE_UNWRITABLE, said
    assert str(path) in said


@pytest.mark.parametrize("has_run_before", [False, True])
def test_a_folder_that_cannot_be_written_is_named(
    broker: RunningBroker, has_run_before: bool
) -> None:
    folder = broker.directory / "disk"
    folder.mkdir()
    config = f"SQLite: {{Path: {folder}/monstermq.db}}"
    if has_run_before:
        broker.start(config).stop()
    with mounted(folder, ["--bind", str(folder)], ["-o", "remount,bind,ro"]):
        status, said = broker.run_to_end(config)
    assert status == ExitCode.STORE_UNWRITABLE, said
    assert str(folder) in said


async def test_a_damaged_database_is_refused_and_left_as_it_is(
    broker: RunningBroker, cast: Cast
) -> None:
    broker.start()
    peer = await cast.peer(broker.tcp_port)
    await peer.connect("a")
    for n in range(200):
        await peer.publish(f"topic/{n}", bytes(1_000), qos=1, retain=True)
    assert broker.stop() == ExitCode.OK
    path = broker.directory / "monstermq.db"
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 8 * 4096] = random.Random(1).randbytes(8 * 4096)
    path.write_bytes(content)
    status, said = broker.run_to_end()
    assert status == ExitCode.STORE_DAMAGED, said
    assert "is damaged" in said
    assert f"monstermq db recover {path} {path}.recovered" in said
    assert path.read_bytes() == content


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(broker: RunningBroker) -> None:
    path = broker.directory / "monstermq.db"
    path.write_text("no database" * 1_000, encoding="utf-8")
    status, said = broker.run_to_end()
    assert status == ExitCode.STORE_DAMAGED, said
    assert path.read_text(encoding="utf-8") == "no database" * 1_000


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("PRAGMA user_version = 99", "schema version 99"),
        ("UPDATE sessions SET information = '{'", "sessions"),
    ],
)
async def test_rows_it_cannot_understand_end_the_start(
    broker: RunningBroker, cast: Cast, change: str, word: str
) -> None:
    broker.start()
    await begin_watching(broker, cast)
    assert broker.stop() == ExitCode.OK
    with closing(sqlite3.connect(broker.directory / "monstermq.db")) as database:
        database.execute(change)
        database.commit()
    status, said = broker.run_to_end()
    assert status == ExitCode.STORE_DAMAGED, said
    assert word in said


async def test_rows_of_nobody_do_not_keep_it_from_starting(
    broker: RunningBroker, cast: Cast
) -> None:
    broker.start()
    await begin_watching(broker, cast)
    assert broker.stop() == ExitCode.OK
    with closing(sqlite3.connect(broker.directory / "monstermq.db")) as database:
        database.execute("UPDATE subscriptions SET client_id = 'nobody'")
        database.commit()
    broker.start()
    assert "subscriptions has rows of 1 clients that have no row" in broker.log_text()
    assert broker.stop() == ExitCode.OK
    assert "table subscriptions has rows of 1 clients" in broker.log_text()


def test_a_second_broker_on_the_same_database_is_refused(broker: RunningBroker) -> None:
    broker.start()
    second = RunningBroker(broker.directory / "second")
    second.directory.mkdir()
    status, said = second.run_to_end(f"SQLite: {{Path: {broker.directory}/monstermq.db}}")
    assert status == ExitCode.STORE_IN_USE, said
    assert f"process {broker.pid}" in said


def test_a_second_broker_on_a_hard_link_to_the_database_is_refused(broker: RunningBroker) -> None:
    broker.start()
    second = RunningBroker(broker.directory / "second")
    second.directory.mkdir()
    link = second.directory / "monstermq.db"
    link.hardlink_to(broker.directory / "monstermq.db")
    status, said = second.run_to_end()
    assert status == ExitCode.STORE_IN_USE, said
    assert "has 2 names (hard links)" in said
    assert broker.stop() == ExitCode.OK
    link.unlink()
    broker.start()


async def test_a_broker_whose_database_was_taken_over_stops(
    broker: RunningBroker, cast: Cast
) -> None:
    broker.start()
    path = broker.directory / "monstermq.db"
    path.with_name("monstermq.db.lock").unlink()
    with closing(sqlite3.connect(path, timeout=30)) as database:
        database.execute("UPDATE watermarks SET token = 'another', version = version + 1")
        database.commit()
    peer = await cast.peer(broker.tcp_port)
    await peer.connect("a")
    with pytest.raises(PeerClosed):
        await peer.publish("topic", b"payload", qos=1, retain=True)
    assert broker.wait() == ExitCode.STORE_IN_USE, broker.log_text()
    assert "another broker" in broker.log_text()


def test_the_database_of_the_original_is_recognized_and_left_as_it_is(
    broker: RunningBroker,
) -> None:
    path = broker.directory / "monstermq.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE retainedmessages (topic TEXT PRIMARY KEY, payload BLOB)")
        database.execute("INSERT INTO retainedmessages VALUES ('a/b', x'01')")
        database.commit()
    before = path.read_bytes()
    status, said = broker.run_to_end()
    assert status == ExitCode.STORE_DAMAGED, said
    assert "the original MonsterMQ" in said
    assert path.read_bytes() == before


def test_a_database_of_another_program_is_left_as_it_is(broker: RunningBroker) -> None:
    path = broker.directory / "monstermq.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE recipes (name TEXT)")
        database.commit()
    before = path.read_bytes()
    status, said = broker.run_to_end()
    assert status == ExitCode.STORE_DAMAGED, said
    assert "another program" in said
    assert path.read_bytes() == before


async def test_a_stop_commits_what_was_still_gathered(broker: RunningBroker, cast: Cast) -> None:
    port = broker.start("SQLite: {CommitDelayMs: 60000}" + ARCHIVED).tcp_port
    peer = await cast.peer(port)
    await peer.connect("a")
    await peer.publish("topic", b"taken along")
    await peer.publish("topic", b"waited for", qos=1)
    assert archived(broker) == [b"taken along", b"waited for"]
    await peer.publish("topic", b"gathered")
    await peer.ping()
    assert archived(broker) == [b"taken along", b"waited for"]
    assert broker.stop() == ExitCode.OK
    assert archived(broker) == [b"taken along", b"waited for", b"gathered"]
