"""What stands on the bus and is not ours: kept aside and counted, or stopped at, by everybody."""

import asyncio
import json
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from tests.integration.kafka_scenes import KafkaScene
from tests.integration.observing import metric, until_metric, until_ready
from tests.support.kafka_stack import KafkaStack, StackProcess
from tests.support.kafka_tools import write_in_transactions

pytestmark = pytest.mark.integration

BOUND_S = 60.0
MAX_KB = 8_192
LARGE = 10_000_000
SESSIONS_PARTITIONS = 12
RUN = b"stranger"

Headers = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Raw:
    """A record as a stranger appends it."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()


_sequences = count(1_000_000)


def ours(flags: int = 1) -> list[tuple[str, bytes]]:
    """Return the header of a record of ours."""
    return [("m", struct.pack(">B8sQ", flags, RUN, next(_sequences)))]


def message(topic: str = "some/topic", **members: object) -> bytes:
    """Return the JSON of a message, with members that replace or add to it; None: left out."""
    whole = {
        "topic": topic,
        "payload": "23.5",
        "timestamp": "2026-01-15T10:30:00.123Z",
        "qos": 1,
        "retained": False,
        "clientId": "stranger",
        "id": "01890a5d-ac96-774b-bcce-b302099a8057",
        **members,
    }
    return json.dumps({name: value for name, value in whole.items() if value is not None}).encode()


BAD: dict[str, Raw] = {
    "garbage": Raw(b"some/topic", b"\xff\x00garbage"),
    "nothing": Raw(None, b""),
    "no header": Raw(b"some/topic", message()),
    "no key": Raw(None, message(), ours()),
    "another first header": Raw(b"some/topic", message(), [("other", b"1"), *ours()]),
    "a short header": Raw(b"some/topic", message(), [("m", b"short")]),
    "flags of nobody": Raw(b"some/topic", message(), ours(0b1000_0001)),
    "no value": Raw(b"some/topic", None, ours()),
    "half JSON": Raw(b"some/topic", message()[:40], ours()),
    "not UTF-8": Raw(b"some/topic", message().replace(b"23.5", b"\xff\xfe"), ours()),
    "JSON of something else": Raw(b"some/topic", b"[1, 2]", ours()),
    "a member of another type": Raw(b"some/topic", message(qos="1"), ours()),
    "a QoS there is not": Raw(b"some/topic", message(qos=7), ours()),
    "another QoS than the header": Raw(b"some/topic", message(qos=2), ours()),
    "no payload": Raw(b"some/topic", message(payload=None), ours()),
    "two payloads": Raw(b"some/topic", message(payloadBase64="MQ=="), ours()),
    "bad base64": Raw(b"some/topic", message(payload=None, payloadBase64="%"), ours()),
    "a foreign key": Raw(b"another/topic", message(), ours()),
    "a key that is no text": Raw(b"\xff\xfe", message(), ours()),
    "a NUL in the topic": Raw(b"some/\0topic", message("some/\0topic"), ours()),
    "a wildcard in the topic": Raw(b"some/#", message("some/#"), ours()),
    "a NUL in the client's id": Raw(b"some/topic", message(clientId="a\0b"), ours()),
    "no time": Raw(b"some/topic", message(timestamp="yesterday"), ours()),
    "a stamp without an epoch": Raw(b"some/topic", message(qos=2), ours(0b1010)),
    "much": Raw(b"some/topic", b"x" * LARGE),
    "much of ours": Raw(b"some/topic", b"x" * LARGE, ours()),
}


async def append(
    stack: KafkaStack, topic: str, records: Sequence[Raw], partition: int = 0
) -> list[int]:
    """Append to a partition; return the offsets."""
    producer = AIOKafkaProducer(
        bootstrap_servers=stack.servers, max_request_size=2 * LARGE, acks="all"
    )
    try:
        await producer.start()
        done = [
            await producer.send_and_wait(
                topic,
                record.value,
                key=record.key,
                headers=list(record.headers),
                partition=partition,
                timestamp_ms=time.time_ns() // 1_000_000,
            )
            for record in records
        ]
    finally:
        await producer.stop()
    return [at.offset for at in done]


_QUARANTINE = """
SELECT partition, position, reason FROM quarantine
JOIN generations ON number = quarantine.generation WHERE generations.generation LIKE $1
"""


async def quarantined(scene: KafkaScene) -> dict[tuple[int, int], str]:
    """Return (partition, position) -> reason of what is kept aside of the bus."""
    stack = scene.stack
    connection = await asyncpg.connect(stack.postgres.url(stack.database))
    try:
        rows = await connection.fetch(_QUARANTINE, f"kafka:%:{stack.topic}")
    finally:
        await connection.close()
    return {(partition, position): reason for partition, position, reason in rows}


async def until_stopped(process: StackProcess, places: Mapping[int, int]) -> None:
    """Return once both ``/ready`` and the log name partitions, and where they stopped.

    Raises:
        AssertionError: They do not.
    """
    body = ""
    try:
        async with asyncio.timeout(BOUND_S):
            while not (_names(body, places) and _names(process.log_text(), places)):
                body = await until_ready(process, 503, BOUND_S)
    except TimeoutError:
        raise AssertionError(f"/ready or the log does not name {places}: {body}") from None


def _names(text: str, places: Mapping[int, int]) -> bool:
    return all(
        f"position {partition}:{offset}: " in text
        or f"partition {partition} stopped at offset {offset}: " in text
        for partition, offset in places.items()
    )


@pytest.fixture
def large_scene(kafka_scene: KafkaScene) -> KafkaScene:
    """A scene whose topics take records of 10 MB."""
    stack = kafka_scene.stack
    stack.settings["MaxMessageSizeKb"] = MAX_KB
    stack.settings["Kafka"]["Bus"]["InFlightKbPerPartition"] = 2 * MAX_KB
    stack.write()
    return kafka_scene


async def test_what_is_no_record_is_kept_aside_and_counted(large_scene: KafkaScene) -> None:
    scene, stack = large_scene, large_scene.stack
    await scene.begin()
    offsets = await append(stack, stack.topic, list(BAD.values()))
    scene.strangers.update((0, offset) for offset in offsets)
    for partition in range(SESSIONS_PARTITIONS):
        await append(stack, stack.sessions_topic, [BAD["garbage"]], partition)
    for client in scene.clients:
        await client.drop()
    await scene.all_served()
    quarantined_total = "monstermq_records_quarantined_total"
    await until_metric(stack.views, quarantined_total, len(BAD), BOUND_S)
    await until_metric(stack.sessions, quarantined_total, SESSIONS_PARTITIONS, BOUND_S)
    async with asyncio.timeout(BOUND_S):
        # It is counted when it is read, and kept when that is committed.
        while len(found := await quarantined(scene)) < len(BAD):
            pass
    missing = [name for name, at in zip(BAD, offsets, strict=True) if (0, at) not in found]
    assert not missing, missing
    assert len(found) == len(BAD)
    assert all(found.values())
    assert await metric(stack.views, quarantined_total) == len(BAD)
    foreign = sum(raw.headers == () or raw.headers[0][0] != "m" for raw in BAD.values())
    for edge in stack.edges:
        # An edge looks into what begins as ours only if somebody there wants it.
        await until_metric(edge, "monstermq_records_unreadable_total", foreign, BOUND_S)
    await scene.until_ready()
    await scene.finish()


async def test_a_transaction_of_a_stranger_ends_nobody(kafka_scene: KafkaScene) -> None:
    scene, stack = kafka_scene, kafka_scene.stack
    await scene.begin()
    offsets = await write_in_transactions(stack.servers, stack.topic, 0)
    scene.strangers.update((0, offset) for offset in offsets)
    for partition in range(SESSIONS_PARTITIONS):
        await write_in_transactions(stack.servers, stack.sessions_topic, partition)
    for client in scene.clients:
        await client.drop()
    await scene.all_served()
    await scene.until_ready()
    await scene.finish()


CONTROL, SESSION = "$SYS/bus/control", "$SYS/bus/session"


def control(text: object) -> bytes:
    """Return the JSON of a control record."""
    return json.dumps(
        {"topic": CONTROL, "timestamp": "2026-01-15T10:30:00.123Z", "control": json.dumps(text)}
    ).encode()


UNKNOWN: dict[str, bytes] = {
    "version": control({"v": 2, "facts": []}),
    "fact": control({"v": 1, "facts": [{"f": "novelty", "c": "client"}]}),
    "half": control({"v": 1, "facts": []})[:30],
}


async def test_unknown_control_stops_its_partition_loudly(kafka_scene: KafkaScene) -> None:
    """R6: in the projector and in edges; other partitions go on."""
    scene, stack = kafka_scene, kafka_scene.stack
    await scene.begin()
    places = {}
    for partition, value in enumerate(UNKNOWN.values()):
        headers = [*ours(0x10), ("monstermq-control", b"")]
        raw = Raw(CONTROL.encode(), value, headers)
        places[partition] = (await append(stack, stack.topic, [raw], partition))[0]
    for process in (stack.views, *stack.edges):
        await until_stopped(process, places)
    stack.views.stop()
    await asyncio.to_thread(stack.views.start)
    await until_stopped(stack.views, places)


async def test_an_unknown_session_fact_stops_its_partition_loudly(kafka_scene: KafkaScene) -> None:
    """R6."""
    scene, stack = kafka_scene, kafka_scene.stack
    await scene.begin()
    places = {}
    for partition, text in enumerate(UNKNOWN.values()):
        value = text.replace(CONTROL.encode(), SESSION.encode())
        raw = Raw(SESSION.encode(), value, [*ours(0x30), ("monstermq-control", b"")])
        places[partition] = (await append(stack, stack.sessions_topic, [raw], partition))[0]
    for process in (stack.sessions, *stack.edges):
        await until_stopped(process, places)
