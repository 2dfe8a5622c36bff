"""``status`` and ``db adopt``: on real servers, and without them."""

import asyncio
import json
import os
from pathlib import Path

import pytest
from tests.support.broker import LOOPBACK, free_ports
from tests.support.kafka import KafkaServer
from tests.support.operator_site import Site, configure, exit_code, in_thread, run
from tests.support.operator_tools import begin_tool
from tests.support.postgres_database import open_database
from tests.support.postgres_version_1 import make_version_1

from monstermq_shared.bus.facts import Lease
from monstermq_shared.bus.kafka.bus import KafkaBus
from monstermq_shared.bus.ports import Stamp
from monstermq_shared.clock import SystemClock
from monstermq_shared.config import load_config
from monstermq_shared.errors import (
    ConfigError,
    StartupError,
    StoreConflict,
    StoreDamaged,
)
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.positions import Partition
from monstermq_shared.stores.changes import ClientChanges, Commit
from monstermq_shared.stores.ports import Log
from monstermq_shared.stores.queue_changes import QueueChanges
from monstermq_shared.testing.builders import PARTITION, commit_once, make_session
from monstermq_shared.testing.bus_records import a_record

pytestmark = pytest.mark.integration

ALIVE, DEAD = b"alive-01", b"dead--01"


# -- status --------------------------------------------------------------------------------------


async def fill(site: Site) -> None:
    """Append ten messages to partition 1; let one view have all but three, and two edges lease."""
    bus = site.bus
    database = await open_database(site.url, exclusive=False)
    await database.belong_to(bus.generation)
    ends = await bus.messages.end_positions()
    names = ("retained", "AArchive", "AArchive_new", "GoneArchive")
    starts = {Partition(bus.generation, p): dict.fromkeys(names, at) for p, at in ends.items()}
    await database.begin_marks(bus.generation, starts)
    records = [a_record(f"topic/{number}") for number in range(10)]
    await bus.messages.append(1, records, Stamp(bus.run, 0))
    place = Partition(bus.generation, 1)
    await commit_once(database, Commit(upto=ends[1] + 10), "retained", partition=place)
    await commit_once(database, Commit(upto=ends[1] + 7), "AArchive", partition=place)
    now_ms = SystemClock().wall_ms()
    for partition in range(bus.sessions.partitions):
        for run_, for_ms in ((ALIVE, 60_000), (DEAD, 0)):
            lease = Lease(run=run_, for_ms=for_ms)
            bus.sessions.append_facts(partition, [lease], now_ms, None)
    bus.sessions.flush()
    await _appended(bus)
    clients = {}
    for client_id, run_ in (("a", ALIVE), ("b", ALIVE), ("c", b"nobody--")):
        row = make_session(client_id)
        row.run = run_.hex()
        row.expiry_s = 60 if client_id == "a" else 0
        clients[client_id] = ClientChanges(session=row)
    sessions = Partition(f"{bus.generation}-sessions", 2)
    await commit_once(database, Commit(upto=0, sessions=clients), "sessions", partition=sessions)
    queued = {}
    for at in range(3):
        record = a_record("topic", payload=b"0123456789")
        record.offset = at
        queued[at] = (record, [("a", 1)])
    queued[2][1].append(("left", 2))
    commit = Commit(upto=ends[1] + 7, queues=QueueChanges(queued=queued))
    await commit_once(database, commit, "queues", partition=place)
    await database.close()


async def _appended(bus: KafkaBus) -> None:
    async with asyncio.timeout(30):
        while bus.sessions.backlog_size:  # noqa: ASYNC110 - the port has no event for that
            await asyncio.sleep(0.01)


async def test_status_tells_how_far_everything_is(site: Site) -> None:
    await fill(site)
    (line,) = await in_thread(site, "status", "--json")
    found = json.loads(line)
    assert found["generation"] == found["databaseBelongsTo"] == site.bus.generation
    assert [at["partition"] for at in found["partitions"]["bus"]] == [0, 1, 2]
    assert len(found["partitions"]["sessions"]) == 12
    projections = {at["name"]: at for at in found["projections"]}
    assert projections["retained"]["lagRecords"] == 0
    assert projections["retained"]["lagSeconds"] == 0
    assert projections["AArchive"]["lagRecords"] == 3
    assert 0 <= projections["AArchive"]["lagSeconds"] < 600
    assert [at["lag"] for at in projections["AArchive"]["partitions"]] == [0, 3, 0]
    assert projections["sessions"]["log"] == "sessions"
    # Nobody has to make the rows of a group that was taken out of the configuration.
    gone = projections["GoneArchive"]
    assert (gone["configured"], gone["lagRecords"], gone["lagSeconds"]) == (False, None, None)
    assert "AArchive_new" not in projections  # which rebuild makes
    edges = {bytes.fromhex(at["run"]): (at["alive"], at["clients"]) for at in found["edges"]}
    assert edges == {ALIVE: (True, 2), DEAD: (False, 0), b"nobody--": (False, 1)}
    assert found["quarantine"] == {"kept": 0, "dropped": 0}
    kept = found["keptSessions"]
    assert (kept["sessions"], kept["connected"]) == (1, 1)
    assert (kept["queues"], kept["queuedMessages"]) == (2, 4)
    assert kept["queuedBytes"] > 4 * 10


async def test_status_is_watched_until_it_is_stopped(site: Site, tmp_path: Path) -> None:
    await (await open_database(site.url, exclusive=False)).close()
    command = ("status", "--watch", "--json", "-config", str(site.path))
    with begin_tool(*command, errors=tmp_path / "errors") as process:
        assert process.stdout is not None
        for _ in range(2):
            found = json.loads(await asyncio.to_thread(process.stdout.readline))
            assert found["generation"] == site.bus.generation
        process.terminate()
        assert await asyncio.to_thread(process.wait, 30) == ExitCode.OK


async def test_status_can_be_read(site: Site) -> None:
    await fill(site)
    lines = await in_thread(site, "status")
    text = "\n".join(" ".join(line.split()) for line in lines)
    assert f"log {site.bus.generation} at " in text
    assert "bus: 3 partitions" in text
    assert "retained 0 records - -" in text
    assert "AArchive 3 records" in text
    assert "GoneArchive not in this configuration - -" in text
    assert "kept sessions: 1, 1 connected" in text
    assert "queues: 4 messages (" in text
    assert " bytes) for 2 clients" in text
    assert "queues 3 records" in text
    assert "edges: 1 alive, 3 clients" in text
    assert f"{DEAD.hex()} silent" in text
    assert f"{b'nobody--'.hex()} silent none lately 1" in text


async def test_status_tells_which_rows_no_projector_makes(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(site)
    monkeypatch.setattr("monstermq.status.AGAIN_S", 0.01)
    monkeypatch.setattr("monstermq.status.OLD_S", 600.0)
    text = "\n".join(await in_thread(site, "status"))
    assert "NO PROJECTOR" not in text  # the oldest is younger than that
    monkeypatch.setattr("monstermq.status.OLD_S", 0.0)
    text = "\n".join(await in_thread(site, "status"))
    assert (
        "NO PROJECTOR makes the rows of AArchive, queues: start monstermq-projector with\n  VIEWS"
        in text
    )
    assert "kept sessions that come back wait" in text
    assert "NO PROJECTOR makes the rows of sessions: start monstermq-projector with" in text
    (line,) = await in_thread(site, "status", "--json")
    found = json.loads(line)
    standing = {at["name"] for at in found["projections"] if at["standsStill"]}
    assert standing == {"AArchive", "queues", "sessions"}


async def test_status_of_a_system_that_nobody_works_for(site: Site) -> None:
    await (await open_database(site.url, exclusive=False)).close()
    text = "\n".join(await in_thread(site, "status"))
    assert "edges: 0 alive, 0 clients" in text
    assert "projection" not in text


async def test_status_says_that_the_oldest_is_gone(site: Site) -> None:
    database = await open_database(site.url, exclusive=False)
    place = Partition(site.bus.generation, 1)
    await database.begin_marks(site.bus.generation, {place: {"AArchive": 0}})
    await site.bus.messages.append(1, [a_record("a")], Stamp(site.bus.run, 0))
    await database.close()
    (line,) = await in_thread(site, "status", "--json")
    found = json.loads(line)
    (projection,) = found["projections"]
    assert projection["lagRecords"] > 0


@pytest.mark.parametrize("arguments", [["status"], ["db", "adopt"]])
def test_a_kafka_that_is_away_is_told(
    arguments: list[str], postgres_schema: str, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    path = configure(tmp_path / "c.yaml", f"{LOOPBACK}:{port}", "t", postgres_schema)
    asyncio.run(_make(postgres_schema))
    with pytest.raises(StartupError) as refused:
        run(*arguments, "-config", str(path))
    assert exit_code(refused.value) == ExitCode.BUS_UNREACHABLE
    assert "Kafka" in str(refused.value)


async def _make(url: str) -> None:
    await (await open_database(url)).close()


def test_topics_that_are_not_there_are_told(
    kafka_server: KafkaServer, kafka_topic: str, postgres_schema: str, tmp_path: Path
) -> None:
    path = configure(tmp_path / "c.yaml", kafka_server.address(), kafka_topic, postgres_schema)
    with pytest.raises(StartupError, match=f"{kafka_topic} is not there") as refused:
        run("status", "-config", str(path))
    assert exit_code(refused.value) == ExitCode.BUS_MISMATCH


@pytest.mark.parametrize("arguments", ["status", "db adopt", "quarantine list"])
async def test_a_postgres_that_is_away_is_told(site: Site, arguments: str) -> None:
    (port,) = free_ports(1)
    servers = load_config(site.path, {}).config.kafka.servers
    url = f"postgresql://system:manager@{LOOPBACK}:{port}/monster"
    configure(site.path, servers, site.bus.messages.topic, url)
    with pytest.raises(StartupError) as refused:
        await in_thread(site, *arguments.split())
    assert exit_code(refused.value) == ExitCode.STORE_UNREACHABLE


@pytest.mark.parametrize("arguments", ["db adopt", "quarantine list", "status"])
async def test_a_database_that_nobody_has_used_is_left_as_it_is(site: Site, arguments: str) -> None:
    with pytest.raises(StartupError, match="no broker has used this database"):
        await in_thread(site, *arguments.split())
    async with asyncio.timeout(30):
        database = await open_database(site.url)
        await database.close()


async def test_an_older_schema_is_left_as_it_is(site: Site) -> None:
    await make_version_1(site.url)
    with pytest.raises(StoreDamaged, match="the schema is of version 1"):
        await in_thread(site, "db", "adopt")


def test_a_configuration_without_a_bus_is_told(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("SessionStoreType: SQLITE\n")
    with pytest.raises(ConfigError, match=r"Kafka\.Bus\.Enabled is false"):
        run("status", "-config", str(path))
    for arguments in (["quarantine", "list"], ["db", "adopt"]):
        with pytest.raises(ConfigError, match="nothing of this configuration is"):
            run(*arguments, "-config", str(path))


# -- adopt ---------------------------------------------------------------------------------------


async def test_a_database_of_the_internal_bus_is_adopted(site: Site) -> None:
    database = await open_database(site.url)
    await database.begin_boot(Log(PARTITION.generation, 3))
    tenure = await database.begin(PARTITION, ["sessions"])
    await database.close()
    lines = await in_thread(site, "db", "adopt")
    assert f"belonged to {PARTITION.generation}, and now to {site.bus.generation}" in lines[0]
    assert "Its rows stay" in lines[1]
    (again,) = await in_thread(site, "db", "adopt")
    assert f"belongs to {site.bus.generation}; nothing was changed" in again
    database = await open_database(site.url, exclusive=False)
    await database.belong_to(site.bus.generation)
    with pytest.raises(StoreConflict):
        await database.commit(tenure, Commit(upto=1))
    await database.close()


async def test_a_database_is_given_back_to_the_internal_bus(site: Site) -> None:
    database = await open_database(site.url, exclusive=False)
    await database.belong_to(site.bus.generation)
    await database.close()
    site.path.write_text(
        "SessionStoreType: POSTGRES\nRetainedStoreType: POSTGRES\n"
        f"Postgres: {{Url: '{site.url}'}}\n"
    )
    lines = await in_thread(site, "db", "adopt")
    assert f"belonged to {site.bus.generation}, and now to nobody" in lines[0]
    assert "nothing was changed" in (await in_thread(site, "db", "adopt"))[0]
    database = await open_database(site.url)
    assert await database.log() is None
    await database.close()


async def test_a_database_that_a_broker_runs_on_is_not_adopted(site: Site) -> None:
    database = await open_database(site.url)
    with pytest.raises(StoreConflict, match=f"process id {os.getpid()}") as refused:
        await in_thread(site, "db", "adopt")
    assert exit_code(refused.value) == ExitCode.STORE_IN_USE
    await database.close()
