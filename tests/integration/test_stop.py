"""How the process ends: told to, twice told to, or because it must not begin."""

import random
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.broker import LOOPBACK, RunningBroker
from tests.support.ledger import Ledger, Message
from tests.support.load import Publisher, Subscriber
from tests.support.mqtt_peer import ConnectOptions, Peer, Publish, Will

from monstermq_shared.exit_codes import ExitCode

pytestmark = pytest.mark.integration

STOPS = 5
STOP_S = 10.0
PERSISTENT = ConnectOptions(clean=False)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RunningBroker]:
    """A broker, not yet started."""
    broker = RunningBroker(tmp_path)
    yield broker
    broker.close()


def publisher(qos: int, ledger: Ledger) -> Publisher:
    def make(n: int) -> Message:
        return Message(f"load/{qos}", f"{qos} {n}".encode(), qos)

    return Publisher(f"pub{qos}", ledger, make)


async def begin_watching(broker: RunningBroker) -> None:
    """Leave a persistent session behind that is owed the wills."""
    watcher = await Peer.open(broker.tcp_port)
    await watcher.connect("watcher", PERSISTENT)
    await watcher.subscribe(("wills/#", 1))
    await watcher.disconnect()


async def test_sigterm_under_load_loses_nothing_that_was_acknowledged(
    broker: RunningBroker,
) -> None:
    ledger, rng = Ledger(), random.Random(1)
    publishers = [publisher(qos, ledger) for qos in (1, 2)]
    subscribers = [Subscriber(f"sub{qos}", ledger, "load/#", qos) for qos in (1, 2)]
    broker.start()
    for subscriber in subscribers:
        await subscriber.connect(broker.tcp_port)
    await ledger.until(lambda: all(s.subscribed for s in subscribers), 5)
    for _ in range(STOPS):
        for client in publishers:
            await client.connect(broker.tcp_port)
        await ledger.packets(rng.randint(1, 5_000), 20)
        assert broker.stop() == ExitCode.OK, broker.log_text()
        ledger.assert_kept()
        broker.start()
        for subscriber in subscribers:
            await subscriber.connect(broker.tcp_port)
    for client in publishers:
        client.stop()
        await client.connect(broker.tcp_port)
    await ledger.until(lambda: all(p.idle for p in publishers) and ledger.all_delivered(), 30)
    ledger.assert_kept()
    assert "nothing acknowledged is lost" not in broker.log_text()


async def test_a_stop_publishes_the_wills_once_and_keeps_them(broker: RunningBroker) -> None:
    broker.start()
    await begin_watching(broker)
    online = await Peer.open(broker.tcp_port)
    await online.connect("online")
    await online.subscribe(("wills/#", 0))
    mortal = await Peer.open(broker.tcp_port)
    await mortal.connect(
        "mortal", ConnectOptions(will=Will(topic="wills/mortal", qos=1, retain=True))
    )
    assert broker.stop() == ExitCode.OK
    await online.expect(Publish("wills/mortal", b"gone"))
    await online.closed()
    await mortal.closed()

    broker.start()
    watcher = await Peer.open(broker.tcp_port)
    assert (await watcher.connect("watcher", PERSISTENT)).session_present
    # What the queue of an earlier process holds may have been sent by it: DUP says so.
    assert await watcher.take() == Publish("wills/mortal", b"gone", qos=1, dup=True)
    await watcher.subscribe(("wills/mortal", 1))
    assert await watcher.take() == Publish("wills/mortal", b"gone", qos=1, retain=True)
    assert await watcher.ping() == []
    for peer in (online, mortal, watcher):
        peer.drop()


async def test_a_second_signal_ends_it_at_once(broker: RunningBroker) -> None:
    broker.start()
    # It waits a moment for a client that does not take what it is still sent.
    deaf = await Peer.open(broker.tcp_port)
    await deaf.connect("deaf")
    await deaf.subscribe(("noise", 0))
    loud = await Peer.open(broker.tcp_port)
    await loud.connect("loud")
    for _ in range(32):
        await loud.publish("noise", bytes(400_000))
    await loud.ping()
    process = broker._running()
    process.send_signal(signal.SIGTERM)
    await loud.closed()
    process.send_signal(signal.SIGTERM)
    assert broker._reap() == ExitCode.FAILURE
    assert "a second signal ends at once" in broker.log_text()
    assert "INFO monstermq_edge.app stopped" not in broker.log_text()
    deaf.drop()
    loud.drop()


@pytest.mark.parametrize("key", ["TCP", "WS", "Metrics"])
def test_a_port_in_use_is_named(broker: RunningBroker, key: str) -> None:
    ports = {"TCP": broker.tcp_port, "WS": broker.ws_port, "Metrics": broker.metrics_port}
    with socket.create_server((LOOPBACK, ports[key])):
        status, said = broker.run_to_end()
    assert status == ExitCode.PORT_IN_USE, said
    assert f"{key}" in said
    assert str(ports[key]) in said
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
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
        status, said = broker.run_to_end(config)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
    assert status == ExitCode.STORE_UNWRITABLE, said
    assert str(folder) in said


async def test_a_damaged_database_is_refused_and_left_as_it_is(broker: RunningBroker) -> None:
    broker.start()
    peer = await Peer.open(broker.tcp_port)
    await peer.connect("a")
    for n in range(200):
        await peer.publish(f"topic/{n}", bytes(1_000), qos=1, retain=True)
    peer.drop()
    assert broker.stop() == ExitCode.OK
    path = broker.directory / "monstermq.db"
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 8 * 4096] = random.Random(1).randbytes(8 * 4096)
    path.write_bytes(content)
    status, said = broker.run_to_end()
    assert status == ExitCode.STORE_DAMAGED, said
    assert "is damaged" in said
    assert ".recover" in said
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
        ("UPDATE subscriptions SET client_id = 'nobody'", "nobody"),
    ],
)
async def test_rows_it_cannot_understand_end_the_start(
    broker: RunningBroker, change: str, word: str
) -> None:
    broker.start()
    await begin_watching(broker)
    assert broker.stop() == ExitCode.OK
    with closing(sqlite3.connect(broker.directory / "monstermq.db")) as database:
        database.execute(change)
        database.commit()
    status, said = broker.run_to_end()
    assert status == ExitCode.STORE_DAMAGED, said
    assert word in said


def test_a_second_broker_on_the_same_database_is_refused(broker: RunningBroker) -> None:
    broker.start()
    second = RunningBroker(broker.directory / "second")
    second.directory.mkdir()
    status, said = second.run_to_end(f"SQLite: {{Path: {broker.directory}/monstermq.db}}")
    assert status == ExitCode.STORE_IN_USE, said
    assert f"process {broker.pid}" in said


async def test_a_broker_whose_database_was_taken_over_stops(broker: RunningBroker) -> None:
    broker.start()
    path = broker.directory / "monstermq.db"
    path.with_name("monstermq.db.lock").unlink()
    with closing(sqlite3.connect(path, timeout=5)) as database:
        database.execute("UPDATE monstermq_meta SET writer = 'another', version = version + 1")
        database.commit()
    peer = await Peer.open(broker.tcp_port)
    await peer.connect("a")
    with pytest.raises(AssertionError, match="closed"):
        await peer.publish("topic", b"payload", qos=1, retain=True)
    assert broker._reap() == ExitCode.STORE_IN_USE, broker.log_text()
    assert "another broker" in broker.log_text()
    peer.drop()


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
    assert status not in {ExitCode.OK, ExitCode.PORT_IN_USE}, said
    assert "the original MonsterMQ" in said
    assert path.read_bytes() == before


def test_a_database_of_another_program_is_left_as_it_is(broker: RunningBroker) -> None:
    path = broker.directory / "monstermq.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE recipes (name TEXT)")
        database.commit()
    before = path.read_bytes()
    status, said = broker.run_to_end()
    assert status != ExitCode.OK
    assert "another program" in said
    assert path.read_bytes() == before
