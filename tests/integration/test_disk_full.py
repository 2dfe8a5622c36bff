"""A full disk: at start it ends the process; while running it holds publishers, and passes."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.integration.observing import MIB, metric, undisturbed, until_ready
from tests.support.broker import RunningBroker
from tests.support.ledger import Ledger, Message
from tests.support.load import WINDOW, Cast
from tests.support.machine import mounted
from tests.support.mqtt_peer import Connack, ConnectOptions, connect_packet

from monstermq_shared.exit_codes import ExitCode

pytestmark = pytest.mark.integration

DISK_MIB = 32
BALLAST_MIB = 20
PAYLOAD_SIZE = 4_096
SETTLE_S = 30.0
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
    with mounted(path, ["-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs"]):
        yield SmallDisk(path)


def config(disk: SmallDisk) -> str:
    return f"""
SQLite: {{Path: {disk.path}/monstermq.db}}
ArchiveGroups:
  - Name: MCP
    TopicFilter: ["load/#"]
    ArchiveType: SQLITE
"""


def add_publishers(cast: Cast) -> None:
    """Add one at QoS 1 and one at QoS 2, with payloads that fill the disk."""

    def message_maker(qos: int) -> Callable[[int], Message]:
        def make(n: int) -> Message:
            name = f"{qos} {n} ".encode()
            return Message(f"load/{qos}", name.ljust(PAYLOAD_SIZE, b"."), qos)

        return make

    for qos in (1, 2):
        cast.add_publisher(f"pub{qos}", message_maker(qos))


def assert_archived(disk: SmallDisk, ledger: Ledger) -> None:
    with closing(sqlite3.connect(disk.path / "monstermq.db")) as database:
        rows = database.execute("SELECT payload_blob FROM mcparchive ORDER BY position").fetchall()
    ledger.assert_archived(payload for (payload,) in rows)


async def test_a_full_disk_holds_publishers_until_there_is_space(
    broker: RunningBroker, cast: Cast, disk: SmallDisk
) -> None:
    disk.fill(BALLAST_MIB * MIB)
    port = broker.start(config(disk)).tcp_port
    add_publishers(cast)
    cast.add_subscriber("sub", "load/#", 2)
    await cast.subscribe(port)
    async with undisturbed(broker, growth_mib=64) as neighbours:
        await cast.connect(port, cast.publishers)
        (reason,) = json.loads(await until_ready(broker, 503))["reasons"]
        assert "the disk is full" in reason
        acknowledged = len(cast.ledger.acknowledged)
        late = await cast.peer(port)
        await late.send(connect_packet("late", ConnectOptions(clean=False)))
        for _ in range(EXCHANGES):
            await neighbours.exchange()
        assert len(cast.ledger.acknowledged) == acknowledged
        assert any(publisher.unacknowledged == WINDOW for publisher in cast.publishers)
        assert await metric(broker, "monstermq_commit_failures_total") > 0
        await until_ready(broker, 503)

    disk.free()
    await until_ready(broker, 200)
    await late.expect(Connack())
    enough = acknowledged + 10 * WINDOW
    await cast.ledger.until(lambda: len(cast.ledger.acknowledged) > enough, SETTLE_S)
    await cast.settle(port, SETTLE_S)
    broker.kill()
    assert_archived(disk, cast.ledger)


async def test_a_kill_on_a_full_disk_loses_nothing_that_was_acknowledged(
    broker: RunningBroker, cast: Cast, disk: SmallDisk
) -> None:
    disk.fill(BALLAST_MIB * MIB)
    port = broker.start(config(disk)).tcp_port
    add_publishers(cast)
    await cast.connect(port, cast.publishers)
    await until_ready(broker, 503)
    broker.kill()
    await cast.gone()
    disk.free()
    broker.start(config(disk))
    await cast.settle(port, SETTLE_S)
    broker.kill()
    assert_archived(disk, cast.ledger)


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
