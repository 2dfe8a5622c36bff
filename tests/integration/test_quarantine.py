"""``quarantine``: shows what stands in the log for no record, and takes it out."""

import asyncio
import base64
import json

import pytest
from tests.support.operator_site import Site, exit_code, in_thread, run
from tests.support.postgres_database import open_database

from monstermq_shared.bus.ports import Stamp
from monstermq_shared.errors import (
    ConfigError,
    StartupError,
)
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.positions import Partition
from monstermq_shared.records import Record, encode_record
from monstermq_shared.stores.changes import Commit, Quarantined
from monstermq_shared.testing.builders import NOON_MS, commit_once
from monstermq_shared.testing.bus_records import a_record

pytestmark = pytest.mark.integration


async def quarantine(site: Site) -> None:
    database = await open_database(site.url, exclusive=False)
    await database.belong_to(site.bus.generation)
    for partition, record in (
        (
            Partition(site.bus.generation, 1),
            Quarantined(
                offset=17,
                time_ms=NOON_MS,
                reason="not a bus record: \x1b[31m",
                key=b"plant/1",
                value=b'{"half": ',
                headers=(("m", b"\x00\x01"),),
            ),
        ),
        (
            Partition(f"{site.bus.generation}-sessions", 2),
            Quarantined(
                offset=5, time_ms=NOON_MS + 1, reason="no header", key=b"\xff", value=b"\x00abc"
            ),
        ),
    ):
        commit = Commit(upto=record.offset + 1, quarantined=[record])
        await commit_once(database, commit, "a", partition=partition)
    await database.adopt("another")
    await commit_once(
        database,
        Commit(
            upto=2, quarantined=[Quarantined(offset=1, time_ms=0, reason="r", key=b"", value=b"")]
        ),
        "a",
        partition=Partition("another", 0),
    )
    await database.adopt(site.bus.generation)
    await database.close()


async def test_what_is_no_record_is_listed_and_shown(site: Site) -> None:
    await quarantine(site)
    table = [line.split() for line in await in_thread(site, "quarantine", "list") if line.strip()]
    assert table[0] == ["position", "timestamp", "bytes", "reason"]
    assert table[2:5] == [
        ["sessions/2:5", "2026-01-15T12:00:00.001Z", "5", "no", "header"],
        ["1:17", "2026-01-15T12:00:00.000Z", "16", "not", "a", "bus", "record:", "\\x1b[31m"],
        ["another/0:1", "1970-01-01T00:00:00.000Z", "0", "r"],
    ]
    assert " ".join(table[5]) == "3 in quarantine; 0 older ones were dropped to make room"
    count = (await in_thread(site, "quarantine", "list", "--limit", "1"))[-1]
    assert count.startswith("3 in quarantine, 1 of them listed;")
    first, *_, end = map(json.loads, await in_thread(site, "quarantine", "list", "--json"))
    assert first == {
        "position": "sessions/2:5",
        "timestamp": "2026-01-15T12:00:00.001Z",
        "bytes": 5,
        "reason": "no header",
    }
    assert end == {"kept": 3, "listed": 3, "dropped": 0}
    assert await in_thread(site, "quarantine", "show", "1:17") == [
        f"log      {site.bus.generation}",
        "position 1:17",
        "time     2026-01-15T12:00:00.000Z",
        "reason   not a bus record: \\x1b[31m",
        "key      plant/1",
        "header   m: 00 01",
        "value    9 bytes",
        '{"half": ',
    ]
    (line,) = await in_thread(site, "quarantine", "show", "1:17", "--json")
    members = json.loads(line)
    assert members["headers"] == [{"name": "m", "valueBase64": "AAE="}]
    assert base64.b64decode(members["keyBase64"]) == b"plant/1"
    assert base64.b64decode(members["valueBase64"]) == b'{"half": '
    assert (members["log"], members["whole"]) == (site.bus.generation, True)
    lines = await in_thread(site, "quarantine", "show", "sessions/2:5")
    assert lines[4:] == ["key      ff", "value    4 bytes", f"00000000  {'00 61 62 63':48} .abc"]
    assert "log      another" in await in_thread(site, "quarantine", "show", "another/0:1")


async def test_a_position_without_anything_is_told(site: Site) -> None:
    await quarantine(site)
    with pytest.raises(StartupError, match="nothing is in quarantine of position 1:18") as refused:
        await in_thread(site, "quarantine", "show", "1:18")
    assert exit_code(refused.value) == ExitCode.FAILURE


async def test_what_is_discarded_is_gone(site: Site) -> None:
    await quarantine(site)
    assert await in_thread(site, "quarantine", "discard", "1:17") == ["1 discarded"]
    assert (await in_thread(site, "quarantine", "list"))[-1].startswith("2 in quarantine;")
    with pytest.raises(StartupError, match="nothing is in quarantine of position 1:17"):
        await in_thread(site, "quarantine", "discard", "1:17")
    (line,) = await in_thread(site, "quarantine", "discard", "all", "--json")
    assert json.loads(line) == {"discarded": 2}
    (count,) = await in_thread(site, "quarantine", "list")
    assert count.startswith("0 in quarantine")


async def test_what_belongs_to_another_log_is_not_appended_to_this_one(site: Site) -> None:
    await quarantine(site)
    database = await open_database(site.url, exclusive=False)
    await database.adopt("another")
    await database.close()
    with pytest.raises(StartupError, match="another") as refused:
        await in_thread(site, "quarantine", "retry", "all")
    assert exit_code(refused.value) == ExitCode.STORE_OF_ANOTHER_LOG


async def test_what_is_a_message_after_all_is_appended_once(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    await quarantine(site)
    database = await open_database(site.url, exclusive=False)
    message = encode_record(Record("late/a", b"\xff", 2, True, "c", NOON_MS, 0))
    place = Partition(site.bus.generation, 0)
    found = [
        Quarantined(offset=3, time_ms=NOON_MS, reason="no header", key=b"late/a", value=message),
        Quarantined(offset=4, time_ms=0, reason="r", key=b"", value=message, size=10**9),
        Quarantined(
            offset=5, time_ms=0, reason="r", key=b"", value=message.replace(b"late/a", b"$SYS/a")
        ),
    ]
    found += [
        Quarantined(offset=offset, time_ms=NOON_MS + offset, reason="r", key=b"", value=value)
        for offset, value in (
            (6, b'{"topic": "late/a", "payload": "off"}'),
            (7, b'{"topic": "late/a", "payload": "on"}'),
        )
    ]
    await commit_once(database, Commit(upto=8, quarantined=found), "b", partition=place)
    reader = site.bus.messages.read(dict(await site.bus.messages.end_positions()))
    assert await in_thread(site, "quarantine", "retry", "0:3") == [
        "1 appended to the log, 0 still in quarantine"
    ]
    # Stopped before it was taken out, it is appended again: a reader does not see that.
    await commit_once(database, Commit(upto=9, quarantined=found[:1]), "c", partition=place)
    await in_thread(site, "quarantine", "retry", "0:3")
    with pytest.raises(AssertionError):  # exit code 1: something is left
        await in_thread(site, "quarantine", "retry", "all")
    last = a_record("late/a", b"last")
    await site.bus.messages.append(
        site.bus.messages.partition_of("late/a"), [last], Stamp(site.bus.run, 0)
    )
    seen: list[Record] = []
    async with asyncio.timeout(30):
        async for batch in reader:
            seen += [at.record() for at in batch.entries if at.topic == b"late/a"]
            if seen and seen[-1].payload == b"last":
                break
    await reader.aclose()
    (again, off, on, _) = seen
    assert (off.payload, on.payload) == (b"off", b"on")
    assert (again.payload, again.qos, again.retained, again.client_id) == (b"\xff", 2, True, "c")
    assert again.timestamp_ms > NOON_MS
    told = capsys.readouterr().err
    assert "0:4 stays: only its beginning was kept" in told
    assert "0:5 stays: '$SYS/a' begins with $" in told
    assert "1:17 stays: the value is no JSON" in told
    assert (await in_thread(site, "quarantine", "list"))[-1].startswith("5 in quarantine;")
    await database.close()


async def test_what_ingress_has_put_aside_is_read_by_the_rules_of_its_topic(site: Site) -> None:
    await quarantine(site)
    rules = "{Topic: weather, Format: RAW, TopicFrom: 'weather/{header:station}', Retain: true}"
    text = site.path.read_text()
    site.path.write_text(text.replace("Bus:", f"Ingress: [{rules}], Bus:"))
    database = await open_database(site.url, exclusive=False)
    place = Partition("kafka:cluster:weather", 0)
    named = Quarantined(
        offset=3,
        time_ms=NOON_MS,
        reason="too large once",
        key=b"k",
        value=b"\xff",
        headers=(("station", b"north"),),
    )
    nameless = Quarantined(offset=4, time_ms=NOON_MS, reason="r", key=b"k", value=b"x")
    await database.put_in_quarantine(place, [named, nameless])
    reader = site.bus.messages.read(dict(await site.bus.messages.end_positions()))
    assert await in_thread(site, "quarantine", "retry", f"{place.generation}/0:3") == [
        "1 appended to the log, 0 still in quarantine"
    ]
    seen: list[Record] = []
    async with asyncio.timeout(30):
        while not seen:
            batch = await anext(reader)
            seen = [at.record() for at in batch.entries if at.topic == b"weather/north"]
    await reader.aclose()
    (record,) = seen
    assert (record.topic, record.payload, record.qos) == ("weather/north", b"\xff", 1)
    assert (record.retained, record.client_id) == (True, "kafka:weather")
    with pytest.raises(AssertionError):  # exit code 1: it stays
        await in_thread(site, "quarantine", "retry", f"{place.generation}/0:4")
    await database.close()


@pytest.mark.parametrize("text", ["", "1", "1:x", "1:-2", "a b/1:2", "1:2:3", "\u0661:2"])
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a position"):
        run("quarantine", "show", text)
