"""``rebuild`` and ``verify``: tables against the log that they are a fold of."""

from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from tests.support.kafka_tools import delete_below, write_in_transactions
from tests.support.projectors import ProjectorProcess, Setting, Writer, until
from tests.support.rebuilding import (
    TABLES,
    change,
    make_tables,
    rows_of,
    run_rebuild,
    run_verify,
)

from monstermq import rebuilding
from monstermq_shared.bus.ports import Stamp
from monstermq_shared.config.checks import postgres_connection
from monstermq_shared.errors import StartupError, StoreConflict
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.stores.postgres.shadows import Shadow, opened

pytestmark = pytest.mark.integration


async def publish_all_sorts(writer: Writer) -> None:
    """Write what is kept, replaced, cleared, binary, empty, and no record."""
    for number in range(60):
        await writer.publish(f"plant/{number % 6}", b"%d" % number, retained=number % 3 == 0)
    await writer.publish("plant/0", b"", retained=True)
    await writer.publish("plant/empty", b"")
    await writer.publish("b\u00e4r/'\"\\/x", b"\xff\x00\xfe", retained=True)
    log = writer.bus.messages
    producer = AIOKafkaProducer(bootstrap_servers=log._settings.section.servers)
    await producer.start()
    try:
        await producer.send_and_wait(log.topic, b"garbage", key=b"plant/1")
    finally:
        await producer.stop()
    await writer.publish("plant/1", b"after the garbage")


async def test_what_is_rebuilt_is_what_the_projector_holds_and_it_goes_on(
    setting: Setting, writer: Writer
) -> None:
    projector = ProjectorProcess(setting)
    try:
        await projector.start()
        await publish_all_sorts(writer)

        async def done() -> bool:
            return len(await setting.archived()) == len(writer.expected())

        await until(done, projector)
        before = await rows_of(setting)
        await change(
            setting,
            "GRANT SELECT, DELETE ON garchive TO PUBLIC",
            "GRANT UPDATE (payload_blob) ON garchive TO PUBLIC",
        )
        code, told = await run_verify(setting)
        assert (code, [at["differences"] for at in told]) == (ExitCode.OK, [0, 0, 0])
        assert {at["table"]: at["compared"] for at in told}["archive:G"] == len(writer.expected())
        for table in TABLES:
            assert f"{table}: made anew" in await run_rebuild(setting, table)
        assert await rows_of(setting) == before
        ((granted,),) = await setting.rows(
            "SELECT (SELECT relacl FROM pg_class WHERE relname = 'garchive')::text"
            " || (SELECT attacl FROM pg_attribute WHERE attname = 'payload_blob'"
            " AND attrelid = 'garchive'::regclass)::text"
        )
        assert ",=rd/" in granted
        assert "{=w/" in granted
        # The projector notices that another has committed, and goes on with the new tables.
        await writer.publish("plant/later", b"1", b"2", retained=True)
        await until(done, projector)
        assert (await setting.retained())["plant/later"] == b"2"
        assert "is loaded again" in projector.log
        assert "is given up" not in projector.log
    finally:
        projector.close()
    assert (await run_verify(setting))[0] == ExitCode.OK
    names = await setting.rows("SELECT name FROM monstermq_tables WHERE name LIKE '%new'")
    marks = await setting.rows("SELECT projection FROM watermarks WHERE projection LIKE '%new'")
    assert (names, marks) == ([], [])


async def test_a_new_group_is_filled_from_the_beginning(setting: Setting, writer: Writer) -> None:
    await publish_all_sorts(writer)
    await make_tables(setting)
    assert await setting.archived() == []
    code, told = await run_verify(setting, "archive:G")
    assert code == ExitCode.OK
    (found,) = told
    assert (found["compared"], found["olderRecords"]) == (0, len(writer.expected()))
    for table in TABLES:
        await run_rebuild(setting, table)
    assert await setting.archived() == writer.expected()
    code, told = await run_verify(setting)
    assert code == ExitCode.OK
    assert [at["olderRecords"] for at in told] == [0, 0, 0]


async def test_each_difference_is_told(setting: Setting, writer: Writer) -> None:
    await publish_all_sorts(writer)
    await make_tables(setting)
    for table in TABLES:
        await run_rebuild(setting, table)
    await change(
        setting,
        "DELETE FROM garchive WHERE payload = '7'",
        "UPDATE garchive SET payload_blob = 'x', qos = 2 WHERE payload = '8'",
        "INSERT INTO garchive (topic, time, payload_blob, qos, retained, client_id, message_uuid,"
        " generation, partition, position) SELECT 'forged', time + interval '1 s', '', 0, false,"
        " '', '', generation, partition, position FROM garchive WHERE payload = '9'",
        "DELETE FROM garchive WHERE payload = '9'",
        "DELETE FROM glastval WHERE topic = 'plant/2'",
        "UPDATE glastval SET payload_blob = 'y' WHERE topic = 'plant/3'",
        "UPDATE retainedmessages SET topic = 'plant/0', topic_digest = 'z' WHERE topic = 'plant/3'",
    )
    partition_of = writer.bus.messages.partition_of
    together = partition_of("plant/0") == partition_of("plant/3")
    code, told = await run_verify(setting)
    assert code == ExitCode.FAILURE
    found = {
        (at["table"], at["difference"], at["topic"]): at.get("columns")
        for at in told
        if "difference" in at
    }
    assert found == {
        ("archive:G", "missing", "plant/1"): None,
        ("archive:G", "differs", "plant/2"): ["payload", "qos"],
        ("archive:G", "missing", "plant/3"): None,
        ("lastval:G", "missing", "plant/2"): None,
        ("lastval:G", "differs", "plant/3"): ["payload"],
        ("retained", "missing", "plant/3"): None,
        ("retained", "uncleared" if together else "surplus", "plant/0"): None,
    }
    assert {at["table"]: at["differences"] for at in told if "differences" in at} == {
        "retained": 2,
        "lastval:G": 2,
        "archive:G": 3,
    }
    code, told = await run_verify(setting, limit=1)
    assert (code, len(told)) == (ExitCode.FAILURE, 1 + len(TABLES))
    for table in TABLES:
        await run_rebuild(setting, table)
    assert (await run_verify(setting))[0] == ExitCode.OK


async def test_rows_that_should_not_be_there_are_told(setting: Setting, writer: Writer) -> None:
    await writer.publish("a", b"1", b"2", b"3")
    # Appended twice: the second time counts for nobody, and its offset has no row.
    log = writer.bus.messages
    number = log.partition_of("a")
    records = [entry.record() for entry in await _entries(writer, number)][-1:]
    await log.append(number, records, Stamp(writer.bus.run, 2))
    await writer.publish("a", b"4")
    await make_tables(setting)
    for table in TABLES:
        await run_rebuild(setting, table)
    assert await setting.archived() == [b"1", b"2", b"3", b"4"]
    await change(
        setting,
        "INSERT INTO garchive (topic, time, payload_blob, qos, retained, client_id, message_uuid,"
        " generation, partition, position) SELECT 'doubled', time, '', 0, false, '', '',"
        " generation, partition, position - 1 FROM garchive WHERE payload = '4'",
        "INSERT INTO glastval (topic, topic_digest, time, payload_blob, qos, retained, client_id,"
        " message_uuid, generation, partition, position) SELECT 'stray', 'q', time, '', 0, false,"
        " '', '', generation, partition, position - 1 FROM glastval WHERE payload = '4'",
    )
    code, told = await run_verify(setting)
    assert code == ExitCode.FAILURE
    found = {(at["table"], at["topic"]) for at in told if at.get("difference") == "surplus"}
    assert found == {("archive:G", "doubled"), ("lastval:G", "stray")}


async def _entries(writer: Writer, number: int) -> list[Any]:
    log = writer.bus.messages
    end = (await log.end_positions())[number]
    found: list[Any] = []
    reader = log.read({number: 0})
    async for batch in reader:
        found += batch.entries
        if batch.upto >= end:
            break
    await reader.aclose()
    return [entry for entry in found if entry.key == "a"]


async def test_what_is_older_than_the_log_is_no_difference_and_is_kept(
    setting: Setting, writer: Writer
) -> None:
    await writer.publish("old", b"1", b"2", retained=True)
    await writer.publish("cleared", b"3", retained=True)
    await make_tables(setting)
    for table in TABLES:
        await run_rebuild(setting, table)
    # Of another log, as after db adopt.
    await change(
        setting,
        "INSERT INTO generations VALUES (77, 'of-before')",
        *(
            f"INSERT INTO {table} (topic, {more} time, payload_blob, qos, retained, client_id,"
            " message_uuid, generation, partition, position) VALUES ('other',"
            f" {value} '2026-01-15', 'x', 0, true, '', '', 77, 0, 5)"
            for table, more, value in (
                ("garchive", "", ""),
                ("glastval", "topic_digest,", "'d',"),
                ("retainedmessages", "topic_digest,", "'d',"),
            )
        ),
    )
    ends = await writer.bus.messages.end_positions()
    await delete_below(setting.config.kafka.servers, setting.topic, ends)
    await writer.publish("cleared", b"", retained=True)
    await writer.publish("new", b"4", retained=True)
    for table in TABLES:
        await run_rebuild(setting, table)
    assert await setting.retained() == {"old": b"2", "other": b"x", "new": b"4"}
    assert sorted(await setting.archived()) == [b"", b"1", b"2", b"3", b"4", b"x"]
    code, told = await run_verify(setting)
    assert code == ExitCode.OK
    assert {at["table"]: at["olderRows"] for at in told} == {
        "retained": 2,
        "lastval:G": 2,
        "archive:G": 4,
    }


async def test_a_transaction_of_a_stranger_is_no_loss(setting: Setting, writer: Writer) -> None:
    servers, partition = setting.config.kafka.servers, writer.bus.messages.partition_of("a")
    await writer.publish("a", b"1")
    await write_in_transactions(servers, setting.topic, partition)
    await writer.publish("a", b"2")
    await write_in_transactions(servers, setting.topic, partition)
    await make_tables(setting)
    assert "made anew" in await run_rebuild(setting, "archive:G")
    assert await setting.archived() == [b"1", b"2"]
    code, (found,) = await run_verify(setting, "archive:G")
    assert (code, found["compared"], found["olderRows"]) == (ExitCode.OK, 2, 0)


async def test_what_is_broken_off_changes_nothing_and_goes_on(
    setting: Setting, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await writer.publish("a", b"1", b"2")
    await make_tables(setting)

    async def fails(self: object, filling: object) -> str:
        raise StartupError("broken off")

    with monkeypatch.context() as patched:
        patched.setattr(rebuilding._Rebuilding, "_swap", fails)
        with pytest.raises(StartupError, match="broken off"):
            await run_rebuild(setting, "archive:G")
    assert await setting.archived() == []
    await writer.publish("a", b"3")
    assert "made anew of 1 records" in await run_rebuild(setting, "archive:G")
    assert await setting.archived() == [b"1", b"2", b"3"]

    with monkeypatch.context() as patched:
        patched.setattr(rebuilding._Rebuilding, "_swap", fails)
        with pytest.raises(StartupError, match="broken off"):
            await run_rebuild(setting, "archive:G")
    assert "was dropped" in await run_rebuild(setting, "archive:G", discard=True)
    assert "nothing was begun" in await run_rebuild(setting, "archive:G", discard=True)
    assert await setting.archived() == [b"1", b"2", b"3"]


async def test_two_rebuilds_of_one_table_and_views_of_others_are_refused(
    setting: Setting, writer: Writer
) -> None:
    await writer.publish("a", b"1")
    await make_tables(setting)
    shadow = Shadow(
        table="garchive",
        shadow="garchive_new",
        projection="GArchive",
        shadow_projection="GArchive_new",
        is_archive=True,
    )
    async with opened(postgres_connection(setting.config), shadow):
        with pytest.raises(StoreConflict, match="another process rebuilds garchive"):
            await run_rebuild(setting, "archive:G")
    await change(setting, "CREATE VIEW mine AS SELECT topic FROM garchive")
    with pytest.raises(StoreConflict, match="mine depends on garchive"):
        await run_rebuild(setting, "archive:G")
    assert await setting.archived() == []
