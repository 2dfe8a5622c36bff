"""Kafka for the rows that need it: one server for all of them, and a topic for each run."""

import asyncio
import atexit
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import psutil
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from tests.support.kafka import KafkaServer
from tests.support.kafka_tools import VERSION, new_topic_name

from monstermq_shared.bus.kafka.topics import sessions_topic
from monstermq_shared.config import BrokerConfig, Kafka, KafkaBus, StoreType
from monstermq_shared.kafka.settings import KafkaSettings

_SETTINGS = {
    # So that deleted topics leave the disk while the bench goes on.
    "log.segment.delete.delay.ms": "1000",
}


class KafkaPlace(NamedTuple):
    """Where a bus or an archive is."""

    server: KafkaServer
    topic: str
    """Of the bus, or of the archive; nobody else has it."""

    @property
    def address(self) -> str:
        """Of the server, as clients take it."""
        return self.server.address()

    @property
    def bus(self) -> dict[str, object]:
        """What a configuration says that has the bus here."""
        bus = {"Enabled": True, "Topic": self.topic}
        return {"Kafka": {"Servers": self.address, "Bus": bus}}

    @property
    def archive(self) -> dict[str, object]:
        """What a configuration says whose only archive is here, of every topic."""
        group = {"Name": self.topic, "TopicFilter": ["#"], "ArchiveType": "KAFKA"}
        return {"Kafka": {"Servers": self.address}, "ArchiveGroups": [group]}

    @property
    def settings(self) -> KafkaSettings:
        """What that section means for a client of ours in the bench's own process."""
        bus = KafkaBus(enabled=True, topic=self.topic)
        kafka = Kafka(servers=self.address, bus=bus)
        return KafkaSettings.from_config(
            BrokerConfig(session_store_type=StoreType.POSTGRES, kafka=kafka)
        )

    @property
    def raw_topic(self) -> str:
        """Another topic, for records that are not the bus's."""
        return f"{self.topic}-raw"

    @property
    def ingress_topic(self) -> str:
        """Another one, whose records become messages where a configuration says so."""
        return f"{self.topic}-in"

    @property
    def ingress(self) -> dict[str, object]:
        """What a configuration says that has the bus here, and reads that topic."""
        bus = {"Enabled": True, "Topic": self.topic}
        ingress = {"Topic": self.ingress_topic, "Format": "RAW"}
        return {"Kafka": {"Servers": self.address, "Bus": bus, "Ingress": [ingress]}}

    async def records(self) -> int:
        """Return how many records stand in the topic."""
        consumer = AIOKafkaConsumer(self.topic, bootstrap_servers=self.address)
        try:
            await consumer.start()
            return sum((await consumer.end_offsets(consumer.assignment())).values())
        finally:
            await consumer.stop()

    def processor_s(self) -> float:
        """Seconds that the server has computed so far."""
        spent = psutil.Process(self.server.pid).cpu_times()
        return spent.user + spent.system


@cache
def _server() -> KafkaServer:
    """A server that lives as long as this process."""
    server = KafkaServer(settings=_SETTINGS)
    atexit.register(server.close)
    return server.start()


@contextmanager
def kafka_place() -> Iterator[KafkaPlace]:
    """A topic that nobody has used; its data is gone afterwards."""
    place = KafkaPlace(_server(), new_topic_name())
    try:
        yield place
    finally:
        asyncio.run(_delete(place))


async def _delete(place: KafkaPlace) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=place.address)
    await admin.start()
    try:
        ours = {place.topic, place.raw_topic, place.ingress_topic, sessions_topic(place.topic)}
        await admin.delete_topics([*ours.intersection(await admin.list_topics())])
    finally:
        await admin.close()


def version() -> str:
    """What is told of it in the report."""
    return f"Kafka {VERSION}"
