"""A full disk: at start it ends the process; while running it holds publishers, and passes."""

import json
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.integration.observing import MIB, Neighbours, metric, until_ready
from tests.support.broker import RunningBroker
from tests.support.ledger import Ledger, Message
from tests.support.load import WINDOW, Publisher, Subscriber
from tests.support.mqtt_peer import Connack, ConnectOptions, Peer, connect_packet

from monstermq_shared.exit_codes import ExitCode

pytestmark = pytest.mark.integration

DISK_MIB = 32
BALLAST_MIB = 20
PAYLOAD_SIZE = 4_096
EXCHANGES = 20
"""Times that the neighbours talk while nothing can be committed."""


class SmallDisk:
    """A file system in memory that is soon full."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self, size: int | None = None) -> None:
        """Take ``size`` bytes of it, or all there are."""
        with self._ballast.open("ab", buffering=0) as file:
            try:
                while size is None or file.tell() < size:
                    file.write(bytes(64 * 1024))
            except OSError:
                assert size is None, "the disk is too small"

    def free(self) -> None:
        """Give back what was taken."""
        self._ballast.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A mounted small disk."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(path)]
    subprocess.run(mount, check=True)
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RunningBroker]:
    """A broker, not yet started."""
    broker = RunningBroker(tmp_path)
    yield broker
    broker.close()


def config(disk: SmallDisk) -> str:
    return f"""
SQLite: {{Path: {disk.path}/monstermq.db}}
ArchiveGroups:
  - Name: MCP
    TopicFilter: ["load/#"]
    ArchiveType: SQLITE
"""


def publisher(qos: int, ledger: Ledger) -> Publisher:
    def make(n: int) -> Message:
        name = f"{qos} {n} ".encode()
        return Message(f"load/{qos}", name.ljust(PAYLOAD_SIZE, b"."), qos)

    return Publisher(f"pub{qos}", ledger, make)


async def test_a_full_disk_holds_publishers_until_there_is_space(
    broker: RunningBroker, disk: SmallDisk
) -> None:
    disk.fill(BALLAST_MIB * MIB)
    broker.start(config(disk))
    neighbours = await Neighbours.settle_in(broker)
    ledger = Ledger()
    publishers = [publisher(qos, ledger) for qos in (1, 2)]
    subscriber = Subscriber("sub", ledger, "load/#", 2)
    await subscriber.connect(broker.tcp_port)
    await ledger.until(lambda: subscriber.subscribed, 5)
    for client in publishers:
        await client.connect(broker.tcp_port)
@@
    (reason,) = json.loads(await until_ready(broker, 503))["reasons"]
    assert "the disk is full" in reason
    acknowledged = len(ledger.acknowledged)
    late = await Peer.open(broker.tcp_port)
    await late.send(connect_packet("late", ConnectOptions(clean=False)))
    for _ in range(EXCHANGES):
        await neighbours.exchange()
    assert len(ledger.acknowledged) == acknowledged
    assert any(client.unacknowledged == WINDOW for client in publishers)
    assert await metric(broker, "monstermq_commit_failures_total") > 0
    await until_ready(broker, 503)

    disk.free()
    await until_ready(broker, 200)
    await ledger.until(lambda: len(ledger.acknowledged) > acknowledged + 10 * WINDOW, 20)
    await late.expect(Connack())
    for client in publishers:
        client.stop()
    await ledger.until(lambda: all(p.idle for p in publishers) and ledger.all_delivered(), 30)
    ledger.assert_kept()
    await neighbours.exchange()
    neighbours.move_out()
    late.drop()
    broker.kill()
    with closing(sqlite3.connect(disk.path / "monstermq.db")) as database:
        rows = database.execute("SELECT payload_blob FROM mcparchive").fetchall()
    ledger.assert_archived(payload for (payload,) in rows)


async def test_a_kill_on_a_full_disk_loses_nothing_that_was_acknowledged(
    broker: RunningBroker, disk: SmallDisk
) -> None:
    disk.fill(BALLAST_MIB * MIB)
    broker.start(config(disk))
    ledger = Ledger()
    publishers = [publisher(qos, ledger) for qos in (1, 2)]
    for client in publishers:
        await client.connect(broker.tcp_port)
    await until_ready(broker, 503)
    broker.kill()
    status, said = broker.run_to_end(config(disk))
    assert status == ExitCode.STORE_FULL, said

    disk.free()
    broker.start(config(disk))
    for client in publishers:
        client.stop()
        await client.connect(broker.tcp_port)
    await ledger.until(lambda: all(client.idle for client in publishers), 30)
    broker.kill()
    with closing(sqlite3.connect(disk.path / "monstermq.db")) as database:
        rows = database.execute("SELECT payload_blob FROM mcparchive").fetchall()
    ledger.assert_archived(payload for (payload,) in rows)


@pytest.mark.parametrize("has_run_before", [False, True])
def test_a_disk_that_is_full_at_start_ends_the_process(
    broker: RunningBroker, disk: SmallDisk, has_run_before: bool
) -> None:
    if has_run_before:
        broker.start(config(disk)).stop()
    disk.fill()
    status, said = broker.run_to_end(config(disk))
    assert status == ExitCode.STORE_FULL, said
    assert "the disk is full" in said
    assert str(disk.path) in said
    disk.free()
    broker.start(config(disk))
    assert broker.stop() == ExitCode.OK
