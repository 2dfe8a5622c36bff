"""A bus topic that real MQTT clients have filled through the real broker, and what stands in it.

What readers have to find is told twice, by code that shares nothing with them: by what the clients
have published, and by a plain consumer that knows the rules of the log.
"""

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Semaphore
from typing import NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from tests.lake.rights import login
from tests.support.broker import LOOPBACK
from tests.support.kafka_stack import KafkaStack
from tests.support.log_reading import LogReader, LogRecord, Row

from monstermq_mcp.kafka.door import BusDoor
from monstermq_mcp.kafka.publishing import KafkaPublisher
from monstermq_shared.bus.publishing import CLIENT_ID, PublisherLimits
from monstermq_shared.config import load_config
from monstermq_shared.kafka.settings import KafkaSettings
from monstermq_shared.queries.live import Publication

ROOMS = ("cellar", "kitchen", "living-room")
PER_ROOM = 400
WAIT_S = 60.0

AWKWARD = (
    b"",
    b"\0",
    b"null",
    b"23.50",
    b'{"a":"b"}',  # shorter in base64 than with its escapes
    b'"quoted \\ text"\r\n\t\x01\x7f',
    b'{"payload": "ours", "control": 1}',
    "käse 😀 \u2028 \ufeff \uffff".encode(),
    b"\xff\xfe",
    b"\xed\xa0\x80",  # half of a pair: UTF-8 has no such thing
    bytes(range(256)),
    random.Random(1).randbytes(100_000),
    b"x" * 100_000,
)
"""Payloads that text, JSON and columns of tables get wrong most easily."""


class Published(NamedTuple):
    """What a client has published."""

    topic: str
    payload: bytes
    qos: int
    retained: bool
    client_id: str


@dataclass(frozen=True, slots=True)
class FilledBus:
    """A topic that nobody writes to any more.

    Attributes:
        servers: Kafka's, as clients take them.
        topic: Of the bus.
        messages: What stands in it of clients, each partition in order.
        records: All that stands in it, control records too.
    """

    servers: str
    topic: str
    messages: Sequence[Row]
    records: Sequence[LogRecord]

    @property
    def controls(self) -> int:
        """How many control records there are."""
        return len(self.records) - len(self.messages)


async def fill(stack: KafkaStack, servers: str) -> FilledBus:
    """Publish to a stack that runs, and read what stands in its topic then.

    Args:
        stack: Its projectors have made rows of everything in the end.
        servers: Kafka's, as readers reach them.
    """
    published = [*_rooms(), *_awkward()]
    _publish(stack.edges[0].tcp_port, published)
    published.append(await _publish_by_mcp(stack))
    await _until_archived(stack, len(published))
    async with LogReader(servers, stack.topic) as reader:
        await reader.read_to_end()
        messages = reader.rows()
        records = [record for part in reader.records.values() for record in part]
    found = [
        Published(row.topic, row.payload, row.qos, row.retained, row.client_id) for row in messages
    ]
    assert _in_order(found) == _in_order(published)
    assert reader.doubles() == 0
    return FilledBus(servers, stack.topic, messages, records)


def _in_order(messages: Sequence[Published]) -> dict[tuple[str, str], list[Published]]:
    """Return what each client has published on each topic, in order."""
    parted: dict[tuple[str, str], list[Published]] = {}
    for message in messages:
        parted.setdefault((message.topic, message.client_id), []).append(message)
    return parted


def _rooms() -> list[Published]:
    """Return the climate of some rooms, as a sensor of each tells it."""
    chance = random.Random(2)
    return [
        Published(f"rooms/{room}/climate", json.dumps(values).encode(), 1, False, f"sensor-{room}")
        for _ in range(PER_ROOM)
        for room in ROOMS
        for values in [{"temperature": round(chance.uniform(14, 24), 2), "humidity": 48}]
    ]


def _awkward() -> list[Published]:
    """Return the payloads at each QoS, retained and not, on topics that are awkward too."""
    return [
        Published(topic, payload, qos, retained, f"awkward-{qos}")
        for qos in range(3)
        for topic, retained in (("lab/käse", False), ('lab/"quoted" \\ 😀', True))
        for payload in AWKWARD
    ]


def _publish(port: int, messages: Sequence[Published]) -> None:
    """Publish as the clients of the messages, while a client with a kept session takes them."""
    taken = Semaphore(0)
    acknowledged = sum(message.qos > 0 for message in messages)
    keeper = _client("keeper")
    keeper.on_message = lambda *_: taken.release()
    keeper.on_subscribe = lambda *_: taken.release()
    keeper.connect(LOOPBACK, port)
    keeper.loop_start()
    keeper.subscribe("#", 2)
    assert taken.acquire(timeout=WAIT_S)
    clients = {name: _client(name) for name in {message.client_id for message in messages}}
    for client in clients.values():
        client.connect(LOOPBACK, port)
        client.loop_start()
    told = [
        clients[message.client_id].publish(
            message.topic, message.payload, message.qos, message.retained
        )
        for message in messages
    ]
    for one in told:
        one.wait_for_publish(WAIT_S)
        assert one.is_published()
    for _ in range(acknowledged):
        assert taken.acquire(timeout=WAIT_S)
    for client in (*clients.values(), keeper):
        client.disconnect()
        client.loop_stop()


async def _publish_by_mcp(stack: KafkaStack) -> Published:
    """Publish as an MCP server does for its clients."""
    config = load_config(stack.config_path, login("mcp")).config
    door = BusDoor(KafkaSettings.from_config(config))
    publisher = KafkaPublisher(door, PublisherLimits.from_config(config))
    setpoint = Publication(topic="setpoints/kitchen", payload=b"21", qos=1, retained=True)
    try:
        await publisher.publish(setpoint)
    finally:
        await door.close()
    return Published(setpoint.topic, setpoint.payload, 1, True, CLIENT_ID)


async def _until_archived(stack: KafkaStack, count: int) -> None:
    query, found = "SELECT count(*) FROM mcparchive", ""
    async with asyncio.timeout(WAIT_S):
        while found != str(count):
            found = await asyncio.to_thread(stack.postgres.psql, query, database=stack.database)


def _client(client_id: str) -> paho.Client:
    return paho.Client(CallbackAPIVersion.VERSION2, client_id, clean_session=False)
