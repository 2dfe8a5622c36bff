"""``rebuild`` and ``verify`` while a server dies, a disk is full, or the log is cut."""

import asyncio
import os
from pathlib import Path
from time import time_ns
from typing import Any

import pytest
from tests.support.kafka import KafkaServer
from tests.support.kafka_tools import delete_below, delete_topics
from tests.support.postgres import PostgresServer
from tests.support.projectors import ProjectorProcess, Setting, Writer, until
from tests.support.rebuilding import TABLES, change, make_tables, run_rebuild, run_verify
from tests.support.tablespace import small_tablespace
from tests.support.troubles import before_first

from monstermq import rebuilding, verifying
from monstermq.filling import Filling
from monstermq_shared.bus.ports import Stamp
from monstermq_shared.errors import StartupError, StoreUnavailable
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.records import Record
from monstermq_shared.stores.postgres.database import PostgresDatabase
from monstermq_shared.stores.postgres.shadows import Shadows

pytestmark = pytest.mark.integration


async def fill(writer: Writer) -> None:
    for number in range(60):
        await writer.publish(f"plant/{number % 6}", b"%d" % number, retained=number % 3 == 0)


async def test_a_postgres_that_is_killed_is_waited_for_wherever_that_is(
    tmp_path: Path,
    kafka_server: KafkaServer,
    hasty_postgres: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database = hasty_postgres.create_database()
    setting = Setting(tmp_path, kafka_server.address(), hasty_postgres.url(database))
    async with setting.bus() as writer:
        await fill(writer)
    await make_tables(setting)

    async def killed() -> None:
        hasty_postgres.kill()
        asyncio.get_running_loop().run_in_executor(None, hasty_postgres.start)

    for owner, method in (
        (Shadows, "copy"),
        (PostgresDatabase, "commit"),
        (rebuilding._Rebuilding, "_swap_once"),
    ):
        with monkeypatch.context() as patched:
            before_first(patched, owner, method, killed)
            await run_rebuild(setting, "archive:G")
        assert await setting.archived() == writer.expected()
    assert (await run_verify(setting, "archive:G"))[0] == ExitCode.OK


async def test_a_swap_whose_answer_was_lost_is_not_made_again(
    setting: Setting, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(writer)
    await make_tables(setting)
    swap = rebuilding._Rebuilding._swap_once

    async def without_answer(self: Any, filling: Filling) -> None:
        await swap(self, filling)
        raise StoreUnavailable("the connection was lost")

    monkeypatch.setattr(rebuilding._Rebuilding, "_swap_once", without_answer)
    assert "made anew" in await run_rebuild(setting, "archive:G")
    assert await setting.archived() == writer.expected()


async def test_a_disk_that_it_fills_is_given_back_to_projectors(
    tmp_path: Path, kafka_server: KafkaServer, hasty_postgres: PostgresServer
) -> None:
    with small_tablespace(hasty_postgres) as tablespace:
        database = hasty_postgres.create_database()
        setting = Setting(tmp_path, kafka_server.address(), hasty_postgres.url(database))
        projector = ProjectorProcess(setting)
        try:
            await projector.start()
            async with setting.bus() as writer:
                await writer.publish("a", *(os.urandom(50_000) for _ in range(150)))

                async def done() -> bool:
                    return len(await setting.archived()) == len(writer.expected())

                await until(done, projector)
                tablespace.fill(4 * 1024 * 1024)
                with pytest.raises(StartupError, match=r"its disk is full.*was dropped") as refused:
                    await run_rebuild(setting, "archive:G")
                assert refused.value.exit_code == ExitCode.STORE_FULL
                await writer.publish("a", *(os.urandom(50_000) for _ in range(20)))
                await until(done, projector)
                tablespace.free()
                assert "made anew" in await run_rebuild(setting, "archive:G")
                await until(done, projector)
        finally:
            projector.close()


async def test_a_log_that_was_made_again_is_refused_and_the_history_stays(
    setting: Setting, writer: Writer
) -> None:
    await writer.publish("a", b"1", b"2")
    await make_tables(setting)
    await run_rebuild(setting, "archive:G")
    await delete_topics(setting.config.kafka.servers, setting.topic)
    await writer.bus.close()
    async with setting.bus() as again:
        for payloads in ([b"3"], [b"4", b"5"]):  # shorter, and then longer
            await again.publish("a", *payloads)
            for tool in (run_rebuild(setting, "archive:G"), run_verify(setting)):
                with pytest.raises(StartupError, match="was deleted and made again") as refused:
                    await tool
                assert refused.value.exit_code == ExitCode.STORE_OF_ANOTHER_LOG
    assert await setting.archived() == [b"1", b"2"]


async def test_what_retention_takes_meanwhile_is_kept_as_the_table_in_use_has_it(
    setting: Setting, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(writer)
    await make_tables(setting)
    for table in TABLES:
        await run_rebuild(setting, table)
    await writer.publish("plant/1", b"", retained=True)
    await change(setting, "DELETE FROM retainedmessages WHERE topic = 'plant/1'")
    ends = dict(await writer.bus.messages.end_positions())
    await change(
        setting,
        *(
            f"UPDATE watermarks SET reflected = {end}, restart = {end}, last_id = NULL"
            f" WHERE partition = {number}"
            for number, end in ends.items()
        ),
    )
    before = await setting.archived(), await setting.retained()

    async def cut() -> None:
        await delete_below(setting.config.kafka.servers, setting.topic, ends)

    with monkeypatch.context() as patched:
        before_first(patched, Filling, "_take_batches", cut)
        await run_rebuild(setting, "retained")
    await run_rebuild(setting, "archive:G")
    assert (await setting.archived(), await setting.retained()) == before


async def test_what_retention_has_taken_from_all_is_told_and_nothing_is_swapped(
    setting: Setting, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await writer.publish("a", b"1", b"2")
    await make_tables(setting)
    await writer.publish("a", b"3", b"4")
    ends = dict(await writer.bus.messages.end_positions())

    async def cut() -> None:
        await delete_below(setting.config.kafka.servers, setting.topic, ends)

    with monkeypatch.context() as patched:
        before_first(patched, Filling, "_take_batches", cut)
        with pytest.raises(StartupError, match="retention has taken the records from"):
            await run_rebuild(setting, "archive:G")
    assert await setting.archived() == []
    await writer.publish("a", b"5")
    await run_rebuild(setting, "archive:G")
    assert await setting.archived() == [b"5"]


async def test_verify_passes_over_what_retention_takes_meanwhile(
    setting: Setting, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(writer)
    await make_tables(setting)
    for table in TABLES:
        await run_rebuild(setting, table)
    ends = dict(await writer.bus.messages.end_positions())

    async def cut() -> None:
        below = {number: max(0, end - 2) for number, end in ends.items()}
        await delete_below(setting.config.kafka.servers, setting.topic, below)

    with monkeypatch.context() as patched:
        before_first(patched, verifying._Verification, "_fold", cut)
        code, told = await run_verify(setting)
    assert (code, [at["differences"] for at in told]) == (ExitCode.OK, [0, 0, 0])


async def test_a_double_whose_first_copy_is_deleted_counts_for_nobody(
    setting: Setting, writer: Writer
) -> None:
    await writer.publish("a", b"1", b"2")
    log = writer.bus.messages
    number = log.partition_of("a")
    # As ingress does after a crash: the same message, with an id and a time of now.
    again = Record("a", b"2", 1, False, "c", time_ns() // 1_000_000, 0)
    await log.append(number, [again], Stamp(writer.bus.run, 1))
    await writer.publish("a", b"2", b"3")
    end = (await log.end_positions())[number]
    await make_tables(setting)
    await run_rebuild(setting, "archive:G")
    assert await setting.archived() == [b"1", b"2", b"2", b"3"]
    await delete_below(setting.config.kafka.servers, setting.topic, {number: end - 3})
    await run_rebuild(setting, "archive:G")
    assert await setting.archived() == [b"1", b"2", b"2", b"3"]
    code, (found,) = await run_verify(setting, "archive:G")
    assert (code, found["compared"], found["doubtful"]) == (ExitCode.OK, 2, 0)
    # What is missing and nobody's double cannot be told from one, and comes again.
    await change(setting, "DELETE FROM garchive WHERE payload = '3'")
    code, (found,) = await run_verify(setting, "archive:G")
    assert (code, found["compared"], found["doubtful"]) == (ExitCode.OK, 2, 1)
    await run_rebuild(setting, "archive:G")
    assert await setting.archived() == [b"1", b"2", b"2", b"3"]


async def test_a_kafka_that_is_killed_meanwhile_is_waited_for(
    tmp_path: Path,
    own_kafka: KafkaServer,
    postgres_database: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("monstermq_shared.retries.LATE_S", 0.1)
    setting = Setting(tmp_path, own_kafka.address(), postgres_database)
    async with setting.bus() as writer:
        await fill(writer)
    await make_tables(setting)

    async def killed() -> None:
        own_kafka.kill()
        asyncio.get_running_loop().run_in_executor(None, own_kafka.start)

    with monkeypatch.context() as patched:
        before_first(patched, Filling, "_take_batches", killed)
        await run_rebuild(setting, "archive:G")
    assert await setting.archived() == writer.expected()
    assert "nothing comes from Kafka, which is waited for" in caplog.text
    with monkeypatch.context() as patched:
        before_first(patched, verifying._Verification, "_fold", killed)
        code, (found,) = await run_verify(setting, "archive:G")
    assert (code, found["compared"]) == (ExitCode.OK, len(writer.expected()))
