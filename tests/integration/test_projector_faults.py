"""Projectors that are joined, without a database, fed garbage or another log."""

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import time_ns
from unittest.mock import ANY

import pytest
from aiokafka import AIOKafkaProducer
from tests.support.kafka import KafkaServer
from tests.support.kafka_bus import HeaderName, produce_with_header
from tests.support.kafka_tools import delete_topics
from tests.support.postgres import PostgresServer
from tests.support.projectors import PATIENCE_S, ProjectorProcess, Setting, Writer, until

from monstermq_shared.bus.control import encode_facts
from monstermq_shared.bus.header import CONTROL_HEADER, HEADER, Kind, pack_header
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.records import CONTROL_TOPIC, ControlRecord, encode_record

pytestmark = pytest.mark.integration


@pytest.fixture
def two(setting: Setting) -> Iterator[list[ProjectorProcess]]:
    """Two projectors, to be started."""
    both = [ProjectorProcess(setting, f"projector-{number}") for number in (1, 2)]
    yield both
    for each in both:
        each.close()


class Load:
    """Publishes without a pause until it is told to stop."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.stopping = False

    async def run(self) -> None:
        number = 0
        while not self.stopping:
            payloads = [b"%d" % at for at in range(number, number + 20)]
            await self.writer.publish(f"load/{number // 20 % 16}", *payloads)
            number += 20


@asynccontextmanager
async def loading(writer: Writer) -> AsyncIterator[Load]:
    load = Load(writer)
    task = asyncio.create_task(load.run())
    try:
        yield load
    finally:
        load.stopping = True
        await task


async def archived(setting: Setting) -> int:
    ((count,),) = await setting.rows("SELECT count(*) FROM garchive")
    return int(count)


async def complete(setting: Setting, writer: Writer, *projectors: ProjectorProcess) -> None:
    """Wait until as much is there as was sent, and check that it is the same."""
    count = len(writer.expected())

    async def enough() -> bool:
        return await archived(setting) >= count

    await until(enough, *projectors)
    assert await setting.archived() == writer.expected()
    last = dict(await setting.rows("SELECT topic, payload_blob FROM glastval"))
    assert last == {topic: payloads[-1] for topic, payloads in writer.sent.items()}


async def grows(setting: Setting, *projectors: ProjectorProcess) -> None:
    """Wait until more is archived than now."""
    before = await archived(setting)

    async def more() -> bool:
        return await archived(setting) > before

    await until(more, *projectors)


async def test_two_workers_share_the_partitions_and_one_takes_over(
    setting: Setting, two: list[ProjectorProcess]
) -> None:
    first, second = two
    await first.start()
    async with setting.bus() as writer:
        async with loading(writer):
            await grows(setting, first)
            await second.start()
            name = 'monstermq_partitions{phase="following"}'

            async def shared() -> bool:
                return [await each.metric(name) for each in two] == [2.0, 2.0]

            await until(shared, *two)
            await grows(setting, *two)
            await first.kill()

            async def taken_over() -> bool:
                return await second.metric(name) == 4.0

            await until(taken_over, *two)
            await grows(setting, *two)
            await first.start()
            await until(shared, *two)
        await complete(setting, writer, *two)


async def test_an_idle_worker_notices_that_another_one_has_begun(
    setting: Setting, two: list[ProjectorProcess]
) -> None:
    """P5: nothing is published that would make it commit."""
    projector = two[0]
    await projector.start()
    # Its tenures begin once the group has dealt out the partitions.
    token = "SELECT token FROM watermarks WHERE partition = 0 AND token <> ''"
    before: list[tuple[str, ...]] = []

    async def begun() -> bool:
        before[:] = await setting.rows(token)
        return len(set(before)) == 1

    await until(begun, projector)
    await setting.rows("UPDATE watermarks SET version = version + 1, token = 'another'")

    async def given_up_and_loaded_again() -> bool:
        tokens = await setting.rows(token)
        return len(set(tokens)) == 1 and tokens[0] not in {before[0], ("another",)}

    await until(given_up_and_loaded_again, projector)
    assert "is given up: another process has begun to commit" in projector.log
    async with setting.bus() as writer:
        await writer.publish("a", b"after")
        await complete(setting, writer, projector)


async def test_a_database_that_goes_and_comes_back_is_told_and_loses_nothing(
    tmp_path: Path, kafka_server: KafkaServer, own_postgres: PostgresServer
) -> None:
    url = own_postgres.url(own_postgres.create_database())
    setting = Setting(tmp_path, kafka_server.address(), url)
    projector = ProjectorProcess(setting)
    try:
        await projector.start()
        async with setting.bus() as writer:
            async with loading(writer):
                await grows(setting, projector)
                own_postgres.stop("immediate")

                async def told() -> bool:
                    reasons = await projector.reasons()
                    return any("POSTGRES: commits fail" in each for each in reasons)

                await until(told, projector)
                own_postgres.start()
                await until(projector.is_ready, projector)
                await grows(setting, projector)
            await complete(setting, writer, projector)
        assert await projector.stop() == ExitCode.OK
    finally:
        projector.close()


async def test_partitions_taken_over_while_the_database_hangs_go_on_after_it(
    tmp_path: Path, kafka_server: KafkaServer, own_postgres: PostgresServer
) -> None:
    url = own_postgres.url(own_postgres.create_database())
    setting = Setting(tmp_path, kafka_server.address(), url)
    both = [ProjectorProcess(setting, f"projector-{number}") for number in (1, 2)]
    first, second = both
    try:
        for each in both:
            await each.start()
        async with setting.bus() as writer:
            for number in range(16):
                await writer.publish(f"t/{number}", b"before")
            await complete(setting, writer, *both)
            own_postgres.freeze()
            await second.kill()

            async def told() -> bool:
                return "0 of 4 partitions go on" in first.log

            await until(told, first)
            for number in range(16):
                await writer.publish(f"t/{number}", b"meanwhile")
            own_postgres.thaw()
            await until(first.is_ready, first)
            await complete(setting, writer, first)
        assert await first.stop() == ExitCode.OK
    finally:
        for each in both:
            each.close()


async def test_what_is_no_record_is_put_aside_and_nothing_else_suffers(
    setting: Setting, two: list[ProjectorProcess]
) -> None:
    projector = two[0]
    await projector.start()
    header = (HEADER, pack_header(Kind.MESSAGE, 0, False, False, b"stranger", 0))
    async with setting.bus() as writer:
        await writer.publish("a", b"before")
        await send(setting, b"k", b"garbage", [])
        await send(setting, b"a", b'{"topic":"a","payl', [header])
        name = HeaderName.of(b"\xff\xfe")
        servers = setting.config.kafka.servers
        await produce_with_header(servers, setting.topic, 0, name, b"its header is no text")
        await writer.publish("a", b"after")
        await complete(setting, writer, projector)

        async def counted() -> bool:
            return await projector.metric("monstermq_records_quarantined_total") == 3

        async def told() -> bool:
            return "not MonsterMQ's are in quarantine" in projector.log

        await until(counted, projector)
        await until(told, projector)
    rows = await setting.rows("SELECT value, headers FROM quarantine ORDER BY value")
    assert [value for value, _ in rows] == [b"garbage", b"its header is no text", ANY]
    assert json.loads(rows[1][1]) == [["??", b64encode(b"1").decode()]]
    assert await projector.is_ready()


async def test_a_control_record_of_a_later_release_stops_its_partition_alone(
    setting: Setting, two: list[ProjectorProcess]
) -> None:
    projector = two[0]
    await projector.start()
    now_ms = time_ns() // 1_000_000
    text = encode_facts([]).replace('"v":1', '"v":2').encode()
    value = encode_record(ControlRecord(CONTROL_TOPIC, text, now_ms, 0))
    header = pack_header(Kind.CONTROL, 0, False, False, b"later---", 0)
    headers = [(HEADER, header), (CONTROL_HEADER, b"")]
    async with setting.bus() as writer:
        await send(setting, CONTROL_TOPIC.encode(), value, headers, partition=0, time_ms=now_ms)
        topics = {writer.bus.messages.partition_of(f"t/{at}"): f"t/{at}" for at in range(64)}
        for topic in topics.values():
            await writer.publish(topic, b"x")

        async def stopped() -> bool:
            reasons = await projector.reasons()
            return any("is stopped at position 0:" in each for each in reasons)

        await until(stopped, projector)
        assert "control text of version 2" in projector.log

        async def others() -> bool:
            rows = await setting.rows("SELECT topic FROM garchive")
            return {topic for (topic,) in rows} == {topics[at] for at in topics if at}

        await until(others, projector)


async def send(
    setting: Setting,
    key: bytes,
    value: bytes,
    headers: list[tuple[str, bytes]],
    *,
    partition: int | None = None,
    time_ms: int | None = None,
) -> None:
    """Append something that our writer would not."""
    producer = AIOKafkaProducer(bootstrap_servers=setting.config.kafka.servers)
    await producer.start()
    try:
        await producer.send_and_wait(
            setting.topic,
            value,
            key=key,
            headers=headers,
            partition=partition,
            timestamp_ms=time_ms,
        )
    finally:
        await producer.stop()


async def test_a_topic_that_was_made_again_is_refused(
    setting: Setting, two: list[ProjectorProcess]
) -> None:
    projector = two[0]
    await projector.start()
    async with setting.bus() as writer:
        for number in range(20):
            await writer.publish(f"t/{number}", b"x")
        await complete(setting, writer, projector)
    await projector.stop()
    await delete_topics(setting.config.kafka.servers, setting.topic)
    async with asyncio.timeout(PATIENCE_S):
        async with setting.bus():
            projector.launch()
            assert await projector.wait() == ExitCode.STORE_OF_ANOTHER_LOG
    assert "The topic was deleted and made again" in projector.log
    assert "Kafka.Bus.Topic" in projector.log
    assert len(await setting.archived()) == 20
