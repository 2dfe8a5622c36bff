"""Kafka topics of others whose records become MQTT messages, on both buses."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import yaml
from aiokafka import AIOKafkaProducer
from tests.integration.observing import metric, until_logged, until_metric, until_ready
from tests.support.broker import BrokerProcess, RunningBroker
from tests.support.kafka import KafkaServer
from tests.support.kafka_stack import KafkaStack
from tests.support.kafka_tools import (
    add_partitions,
    create_topic,
    delete_below,
    delete_topics,
    read_topic,
)
from tests.support.load import Cast
from tests.support.mqtt_peer import Connack, ConnectOptions, Peer, Publish
from tests.support.postgres import PostgresServer

from monstermq_shared.kafka.admin import ANY_TIME

pytestmark = pytest.mark.integration

BOUND_S = 60.0
MANY = 2_000
BIT = 25
KEPT = ConnectOptions(clean=False)
ANY_TIME_AND_SIZE = {**ANY_TIME, "max.message.bytes": "12000000"}
YEAR_2_948_000_MS = 93_000_000_000_000_000
QUARANTINED = (
    "SELECT generations.generation, key, reason FROM quarantine "
    "JOIN generations ON number = quarantine.generation"
)


@dataclass(frozen=True, slots=True)
class Written:
    """A record as its producer writes it."""

    value: bytes | None
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = field(default=())
    time_ms: int | None = None


async def write(servers: str, topic: str, records: Sequence[Written], partition: int = 0) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=servers, acks="all", max_request_size=12_000_000, linger_ms=5
    )
    await producer.start()
    try:
        sent = [
            await producer.send(
                *(topic, at.value, at.key, partition, at.time_ms, list(at.headers)),
            )
            for at in records
        ]
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


async def write_bit_by_bit(
    servers: str, topic: str, records: Sequence[Written], partition: int
) -> None:
    """Write in pieces, so that much of it is still to come while it is read."""
    for first in range(0, len(records), BIT):
        await write(servers, topic, records[first : first + BIT], partition)


def assert_in_order(found: Sequence[int], kinds: int) -> None:
    """Assert that numbers of a kind, which have one partition and one topic, grow."""
    for kind in range(kinds):
        of_kind = [number for number in found if number % kinds == kind]
        assert of_kind == sorted(of_kind)


def settings_of(server: KafkaServer, *ingress: dict[str, Any], **extra: Any) -> str:
    kafka = {"Servers": server.address(), "Ingress": [*ingress]}
    return str(yaml.safe_dump({"Kafka": kafka, **extra}))


async def begun(broker: BrokerProcess, topic: str, partition: int = 0) -> None:
    """Return once what is written is read."""
    await until_logged(broker, f" begins at {topic}:{partition}:", BOUND_S)


async def subscriber(
    cast: Cast, port: int, *filters: str, options: ConnectOptions | None = None
) -> Peer:
    peer = await cast.peer(port)
    assert isinstance(await peer.connect("subscriber", options), Connack)
    await peer.subscribe(*((at, 2) for at in filters))
    return peer


async def taken(peer: Peer, count: int) -> list[Publish]:
    found: list[Publish] = []
    async with asyncio.timeout(BOUND_S):
        while len(found) < count:
            found.append(await peer.take())
    return found


async def test_records_become_messages_and_what_cannot_goes_to_the_dead_letters(
    broker: RunningBroker, cast: Cast, kafka_server: KafkaServer, kafka_topic: str
) -> None:
    servers, bare, dead = kafka_server.address(), f"{kafka_topic}.bare", f"{kafka_topic}.dead"
    await create_topic(servers, kafka_topic, partitions=2, settings=ANY_TIME_AND_SIZE)
    await create_topic(servers, bare)
    await create_topic(servers, dead)
    await write(servers, kafka_topic, [Written(b'{"topic": "in/early", "payload": "0"}')])
    broker.start(
        settings_of(
            kafka_server,
            {"Topic": kafka_topic, "DeadLetterTopic": dead},
            {"Topic": bare, "Format": "RAW", "TopicFrom": "raw/{header:place}", "Retain": True},
        )
    )
    peer = await subscriber(cast, broker.tcp_port, "in/#", "raw/#")
    for topic, partition in ((kafka_topic, 0), (kafka_topic, 1), (bare, 0)):
        await begun(broker, topic, partition)
    original = {"topicName": "in/b", "payloadBase64": "/wA=", "qosLevel": 2, "isRetain": True}
    good = [
        Written(b'{"topic": "in/a", "payload": "23.5", "qos": 1, "clientId": "press"}'),
        Written(json.dumps(original).encode()),
    ]
    bad = [
        Written(b"garbage", b"k", [("a", b"1")]),
        Written(b'{"topic": "$SYS/x", "payload": ""}'),
        Written(b"x" * 10_000_000),
        Written(None, b"tombstone"),
        Written(b"y", b"k" * 1_048_000, [("h", b"z" * 100_000)], time_ms=YEAR_2_948_000_MS),
    ]
    await write(servers, kafka_topic, [good[0], *bad, good[1]], 1)
    found = [(at.topic, at.payload, at.qos) for at in await taken(peer, 2)]
    assert found == [("in/a", b"23.5", 1), ("in/b", b"\xff\x00", 2)]
    async with asyncio.timeout(BOUND_S):
        while len(letters := await read_topic(servers, dead)) < 4:
            pass
    assert [(at.key, at.value[:7]) for at in letters] == [
        *((b"k", b"garbage"), (None, b'{"topic'), (None, b"xxxxxxx")),
        (b"k" * 16_384, b"y"),
    ]
    headers = dict(letters[0].headers)
    assert headers["a"] == b"1"
    assert headers["monstermq-source"] == f"{kafka_topic}:1:1".encode()
    assert b"the value is no JSON" in headers["monstermq-error"]
    assert dict(letters[2].headers)["monstermq-cut"] == b"10000000"
    cut = dict(letters[3].headers)
    assert (cut["monstermq-cut"], cut["monstermq-time"]) == (b"1048001", b"93000000000000000")
    assert "h" not in cut
    await write(servers, bare, [Written(b"\xff", None, [("place", b"x")])])
    ((topic, payload),) = [(at.topic, at.payload) for at in await taken(peer, 1)]
    assert (topic, payload) == ("raw/x", b"\xff")
    assert await metric(broker, "monstermq_ingress_messages_total", topic=kafka_topic) == 2
    assert await metric(broker, "monstermq_ingress_refused_total", topic=kafka_topic) == 4


async def test_a_restart_loses_nothing_and_an_own_archive_does_not_come_again(
    broker: RunningBroker, cast: Cast, kafka_server: KafkaServer, kafka_topic: str
) -> None:
    servers, archive = kafka_server.address(), f"{kafka_topic}.archive"
    await create_topic(servers, kafka_topic)
    group = {"Name": "g", "ArchiveType": "KAFKA", "KafkaTopic": archive}
    config = settings_of(kafka_server, {"Topic": kafka_topic, "QoS": 1}, ArchiveGroups=[group])
    broker.start(config)
    await subscriber(cast, broker.tcp_port, "in/#", options=KEPT)
    await begun(broker, kafka_topic)
    await write(servers, kafka_topic, [Written(b'{"topic": "in/0", "payload": "0"}')])
    async with asyncio.timeout(BOUND_S):
        while not (archived := await read_topic(servers, archive)):
            pass
    broker.stop()
    # As a mirror would bring what the archive has to where it comes from.
    copies = [Written(at.value, at.key, at.headers) for at in archived]
    record = b'{"topic": "in/%d", "payload": "1"}'
    more = [Written(record % number) for number in range(1, 100)]
    await add_partitions(servers, kafka_topic, 3)
    await write(servers, kafka_topic, [*copies, *more[:80]])
    await write(servers, kafka_topic, more[80:], 2)
    broker.start(config)
    await until_metric(broker, "monstermq_ingress_messages_total", 99, BOUND_S)
    peer = await cast.peer(broker.tcp_port)
    await peer.connect("subscriber", KEPT)
    found = [at.topic for at in await taken(peer, 100)]
    assert sorted(found) == sorted(f"in/{number}" for number in range(100))
    assert await metric(broker, "monstermq_ingress_own_total", topic=kafka_topic) == len(copies)
    assert await metric(broker, "monstermq_ingress_messages_total", topic=kafka_topic) == 99


async def test_a_stop_with_records_on_their_way_loses_and_doubles_nothing(
    broker: RunningBroker, cast: Cast, kafka_server: KafkaServer, kafka_topic: str
) -> None:
    """On the internal bus, which forgets what was appended: all of it has to be committed."""
    servers = kafka_server.address()
    await create_topic(servers, kafka_topic, partitions=2)
    config = settings_of(kafka_server, {"Topic": kafka_topic, "Format": "RAW"})
    broker.start(config)
    await subscriber(cast, broker.tcp_port, "in/#", options=KEPT)
    for partition in range(2):
        await begun(broker, kafka_topic, partition)
    records = [Written(b"%d" % n, b"in/%d" % (n % 5)) for n in range(MANY)]
    writing = [
        asyncio.create_task(write_bit_by_bit(servers, kafka_topic, records[n::2], n))
        for n in range(2)
    ]
    await until_metric(broker, "monstermq_ingress_messages_total", MANY // 4, BOUND_S)
    assert await asyncio.to_thread(broker.stop) == 0
    await asyncio.gather(*writing)
    broker.start(config)
    peer = await cast.peer(broker.tcp_port)
    await peer.connect("subscriber", KEPT)
    await write(servers, kafka_topic, [Written(b"%d" % MANY, b"in/end")])
    found = [int(at.payload) for at in await taken(peer, MANY + 1)]
    assert sorted(found) == [*range(MANY + 1)]
    assert_in_order(found, 2 * 5)


async def test_a_topic_that_is_not_there_and_a_kafka_that_goes_keep_nobody_waiting(
    broker: RunningBroker, cast: Cast, own_kafka: KafkaServer
) -> None:
    broker.start(settings_of(own_kafka, {"Topic": "orders", "Format": "RAW", "QoS": 1}))
    peer = await subscriber(cast, broker.tcp_port, "k/#")
    warnings = ""
    async with asyncio.timeout(BOUND_S):
        while "there is no topic orders (Kafka.Ingress)" not in warnings:
            warnings = await until_ready(broker, 200)
    await create_topic(own_kafka.address(), "orders")
    await begun(broker, "orders")
    numbers = [b"%d" % number for number in range(200)]
    await write(own_kafka.address(), "orders", [Written(at, b"k/t") for at in numbers[:100]])
    assert [at.payload for at in await taken(peer, 100)] == numbers[:100]
    await asyncio.to_thread(own_kafka.kill)
    async with asyncio.timeout(BOUND_S):
        while "nothing comes of the Kafka topic orders" not in await until_ready(broker, 200):
            pass
    await peer.publish("k/own", b"goes on", 1)
    assert (await peer.take()).payload == b"goes on"
    await asyncio.to_thread(own_kafka.start)
    await write(own_kafka.address(), "orders", [Written(at, b"k/t") for at in numbers[100:]])
    await until_metric(broker, "monstermq_ingress_messages_total", 200, BOUND_S)
    assert [at.payload for at in await taken(peer, 100)] == numbers[100:]


async def test_what_was_deleted_before_it_was_read_is_counted(
    broker: RunningBroker, kafka_server: KafkaServer, kafka_topic: str
) -> None:
    await create_topic(kafka_server.address(), kafka_topic)
    config = settings_of(kafka_server, {"Topic": kafka_topic, "Format": "RAW"})
    broker.start(config)
    await begun(broker, kafka_topic)
    broker.stop()
    await write(kafka_server.address(), kafka_topic, [Written(b"%d" % n, b"t") for n in range(10)])
    await delete_below(kafka_server.address(), kafka_topic, {0: 7})
    broker.start(config)
    await until_metric(broker, "monstermq_ingress_messages_total", 3, BOUND_S)
    assert await metric(broker, "monstermq_ingress_missed_total", topic=kafka_topic) == 7
    assert f"Kafka has deleted {kafka_topic}:0:0 to 6 before they were read" in broker.log_text()


async def test_on_the_kafka_bus_each_record_is_one_message_whatever_edge_dies(
    tmp_path: Path,
    cast: Cast,
    kafka_server: KafkaServer,
    kafka_topic: str,
    postgres_server: PostgresServer,
) -> None:
    source = f"{kafka_topic}.source"
    await create_topic(kafka_server.address(), source, partitions=4, settings=ANY_TIME)
    stack = KafkaStack(tmp_path, kafka_server.address(), kafka_topic, postgres_server)
    stack.settings["Kafka"]["Ingress"] = [{"Topic": source, "Format": "RAW"}]
    stack.write()
    try:
        await asyncio.to_thread(stack.start)
        await until_begun(stack.edges, source, 4)
        peer = await one_message_each(stack, cast, source)
        await made_again(stack, peer, source)
    finally:
        stack.close()


async def until_begun(edges: Sequence[BrokerProcess], topic: str, partitions: int) -> None:
    async with asyncio.timeout(BOUND_S):
        for number in range(partitions):
            told = f" begins at {topic}:{number}:"
            while not any(told in edge.log_text() for edge in edges):
                await asyncio.to_thread(edges[0].has_ended, within_s=0.1)


async def made_again(stack: KafkaStack, peer: Peer, source: str) -> None:
    """Offsets that were read once are others now, also for an edge that has not noticed it."""
    _, victim = stack.edges
    await delete_topics(stack.servers, source)
    await create_topic(stack.servers, source, partitions=4, settings=ANY_TIME)
    for number in range(4):
        await write(stack.servers, source, [Written(b"again", b"k/%d" % number)], number)
    assert sorted([at.topic for at in await taken(peer, 4)]) == [f"k/{n}" for n in range(4)]
    await asyncio.to_thread(victim.kill)
    for number in range(4):
        await write(stack.servers, source, [Written(b"more", b"k/%d" % number)], number)
    assert [at.payload for at in await taken(peer, 4)] == [b"more"] * 4


async def one_message_each(stack: KafkaStack, cast: Cast, source: str) -> Peer:
    survivor, victim = stack.edges
    peer = await subscriber(cast, survivor.tcp_port, "k/#")
    written = [Written(b"%d" % n, b"k/%d" % (n % 7)) for n in range(MANY)]
    writing = [
        asyncio.create_task(write_bit_by_bit(stack.servers, source, written[number::4], number))
        for number in range(4)
    ]
    found = await taken(peer, MANY // 8)
    # Partitions are dealt out anew while records of them are on their way.
    await asyncio.to_thread(victim.stop)
    await asyncio.to_thread(victim.start)
    found += await taken(peer, MANY // 8)
    await asyncio.to_thread(victim.kill)
    await write(stack.servers, source, [Written(b"bad", b"k/#", time_ms=YEAR_2_948_000_MS)])
    await asyncio.gather(*writing)
    await asyncio.to_thread(victim.start)
    found += await taken(peer, MANY - len(found))
    numbers = [int(at.payload) for at in found]
    assert sorted(numbers) == [*range(MANY)]
    assert_in_order(numbers, 4 * 7)
    # What would come twice would have come before this.
    await write(stack.servers, source, [Written(b"end", b"k/end")])
    assert [at.payload for at in await taken(peer, 1)] == [b"end"]
    connection = await asyncpg.connect(stack.postgres.url(stack.database))
    try:
        # Messages that were read together with what is put aside are there before it.
        async with asyncio.timeout(BOUND_S):
            while not (rows := await connection.fetch(QUARANTINED)):
                pass
    finally:
        await connection.close()
    ((generation, key, reason),) = rows
    assert generation.endswith(f":{source}")
    assert key == b"k/#"
    assert "wildcard" in reason
    return peer
