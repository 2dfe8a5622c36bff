"""What maintenance does for the disk: history gives way, and space goes back."""

import asyncio
import logging
import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.broker import LOOPBACK, free_ports
from tests.support.host import host_of
from tests.support.stage import ManualClock

from monstermq_edge.broker import Broker
from monstermq_edge.engines.local.maintenance import Job
from monstermq_shared.clock import WallHistory
from monstermq_shared.config import BrokerConfig
from monstermq_shared.errors import StoreUnavailable
from monstermq_shared.stores.outages import Outage
from monstermq_shared.testing.builders import ARCHIVE, commit_archive, make_record

MIB = 1024 * 1024


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    (port,) = free_ports(1)
    config = BrokerConfig.from_layers(
        {
            "TCP": port,
            "BindAddress": LOOPBACK,
            "Metrics": {"Enabled": False},
            "SessionStoreType": "SQLITE",
            "SQLite": {"Path": str(tmp_path / "x.db"), "MinFreeMb": 0},
            "ArchiveGroups": [{"Name": "MCP", "ArchiveType": "SQLITE", "TopicFilter": ["a"]}],
        }
    )
    broker = Broker(config, "1.2.3")
    await broker.start()
    yield broker
    await broker.stop()


async def test_a_disk_that_cannot_be_kept_free_is_a_reason_not_to_be_ready(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")
    host = host_of(broker)
    ((database, archives),) = host._upkeep.files()
    job = host._maintenance.reserve(database, archives, 10 * MIB)
    reasons = []
    for free in (11 * MIB, MIB, 11 * MIB):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage._replace(free=free))
        await job.run()
        reasons.append(broker.readiness())
    assert reasons[0] == reasons[2] == []
    (reason,) = reasons[1]
    assert reason.startswith("keeping 10 MB of the disk free fails: 1 MB are free")


async def test_a_purge_gives_all_its_space_back(broker: Broker, tmp_path: Path) -> None:
    host = host_of(broker)
    database = host.databases.primary
    records = [make_record(i, "a", bytes(5_000)) for i in range(4_000)]
    await commit_archive(database, *records)
    await host._maintenance.purge(database.archive_store(ARCHIVE), database, 0.0)
    assert broker.counters.rows_purged == 4_000
    connection = sqlite3.connect(tmp_path / "x.db")
    ((free,),) = connection.execute("PRAGMA freelist_count").fetchall()
    connection.close()
    assert free <= 256


async def test_rows_written_before_the_clock_was_set_stay_for_their_retention(
    broker: Broker,
) -> None:
    clock = ManualClock()
    host = host_of(broker)
    host._maintenance._history = WallHistory(clock)
    record = make_record(1, "a", timestamp_ms=clock.wall_ms())
    database = host.databases.primary
    await commit_archive(database, record)
    archive = database.archive_store(ARCHIVE)
    clock.set_s += 20 * 24 * 3_600
    clock.now += 3_600
    await host._maintenance.purge(archive, database, 3_600.0)
    assert await archive.history("a") == [record]
    clock.now += 1
    await host._maintenance.purge(archive, database, 3_600.0)
    assert await archive.history("a") == []


async def test_a_clock_that_is_set_is_logged_and_counted(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    broker._history = WallHistory(clock)
    clock.now += 1.0
    broker._look_at_the_clock()
    assert broker.counters.clock_steps == 0
    clock.set_s += 20 * 24 * 3_600
    with caplog.at_level(logging.WARNING):
        broker._look_at_the_clock()
    assert broker.counters.clock_steps == 1
    assert "+1728000 s" in caplog.text


async def test_a_job_that_keeps_failing_for_one_reason_says_so_once(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    reasons = iter(["gone", "gone", "full", "full", None, "full"])
    done = asyncio.Event()

    async def run() -> None:
        reason = next(reasons, "the end")
        if reason == "the end":
            done.set()
            await asyncio.Event().wait()
        if reason is not None:
            raise StoreUnavailable(reason)

    job = Job(name="counting", run=run, interval_s=0.0)
    task = asyncio.create_task(host_of(broker)._maintenance.repeat(job))
    async with asyncio.timeout(30):
        await done.wait()
    task.cancel()
    told = [message for message in caplog.messages if message.startswith("counting failed")]
    assert [message.rpartition(": ")[2] for message in told] == ["gone", "full", "full"]


async def test_a_job_is_silent_about_a_trouble_that_is_known(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    outage = Outage("X")
    outage.failed("commits", StoreUnavailable("gone"))
    done = asyncio.Event()
    runs = iter(range(3))

    async def run() -> None:
        if next(runs, None) is None:
            done.set()
        elif done.is_set():
            await asyncio.Event().wait()
        raise StoreUnavailable("gone")

    job = Job(name="purging", run=run, interval_s=0.0, outage=outage)
    task = asyncio.create_task(host_of(broker)._maintenance.repeat(job))
    async with asyncio.timeout(30):
        await done.wait()
    assert not [message for message in caplog.messages if "purging" in message]
    task.cancel()


async def test_a_database_that_nobody_asks_is_noticed_when_it_is_away(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> int:
        raise StoreUnavailable("gone")

    host = host_of(broker)
    with monkeypatch.context() as patch:
        patch.setattr(host.databases.primary, "size", away)
        await host._upkeep.measure()
    assert host.readiness() == ["SQLITE: measurements fail: gone"]
    await host._upkeep.measure()
    assert host.readiness() == []
