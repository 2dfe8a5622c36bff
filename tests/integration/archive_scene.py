"""A broker under load that archives in Kafka, and what must be there in the end."""

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import yaml
from tests.integration.faults import BOOT_SHIFT, MISSING, READY_S, ROUND_S, SETTLE_S
from tests.integration.observing import fetch, until_ready
from tests.support.broker import RunningBroker
from tests.support.kafka_tools import read_topic
from tests.support.load import Cast, message_maker, retained_maker

_OWN = "SELECT position, message_uuid, topic FROM ownarchive ORDER BY position"


class ArchiveScene:
    """A broker with sessions in SQLite, and clients that publish with QoS 1 and 2.

    Its group ``load`` is archived in Kafka, and again in SQLite as the group ``own``: that has what
    was accepted, with the same ids, in order of position.

    Args:
        broker: Not yet started.
        cast: Empty.
        servers: Kafka's address.
        extra: More of the configuration.
    """

    def __init__(self, broker: RunningBroker, cast: Cast, servers: str, **extra: Any) -> None:
        self.broker = broker
        self.cast = cast
        self.servers = servers
        groups = [
            {"Name": "load", "TopicFilter": ["load/#"], "ArchiveType": "KAFKA"},
            {"Name": "own", "TopicFilter": ["load/#"], "ArchiveType": "SQLITE"},
        ]
        settings = {"Kafka": {"Servers": servers}, "ArchiveGroups": groups, **extra}
        self.config = str(yaml.safe_dump(settings))
        for qos in (1, 2):
            cast.add_publisher(f"pub{qos}", message_maker(f"pub{qos}", qos))
            cast.add_publisher(f"ret{qos}", retained_maker(f"ret{qos}", qos))

    async def begin(self) -> None:
        """Start the broker and the load."""
        await asyncio.to_thread(self.broker.start, self.config)
        await self.cast.connect(self.broker.tcp_port, self.cast.publishers)
        await self.some_load(100)

    async def some_load(self, packets: int) -> None:
        """Return after so many more packets have gone or come."""
        await self.cast.ledger.packets(packets, ROUND_S)

    async def restart_broker(self) -> None:
        """Start a broker that has ended, and bring everybody back."""
        await self.cast.gone()
        await asyncio.to_thread(self.broker.start, self.config)
        await self.cast.connect(self.broker.tcp_port, self.cast.publishers)

    async def until_told(self, *words: str) -> None:
        """Ask ``/ready`` until it says all of these."""
        body = ""
        try:
            async with asyncio.timeout(READY_S):
                while not all(word in body for word in words):
                    body = await until_ready(self.broker, 503, READY_S)
        except TimeoutError:
            raise AssertionError(f"/ready does not say {words}: {body}") from None

    async def over(self) -> None:
        """Return once the broker is ready again and everything flows."""
        await until_ready(self.broker, 200, READY_S)
        ledger = self.cast.ledger
        enough = len(ledger.acknowledged) + 10 * len(self.cast.publishers)
        await ledger.until(lambda: len(ledger.acknowledged) > enough, ROUND_S)

    async def finish(self) -> int:
        """Assert that nothing is missing and each topic is in order; return how many came again."""
        publishers = self.cast.publishers
        for publisher in publishers:
            publisher.stop()
        absent = [publisher for publisher in publishers if not publisher.is_connected]
        await self.cast.connect(self.broker.tcp_port, absent)
        await self.cast.ledger.until(lambda: all(at.idle for at in publishers), SETTLE_S)
        await self._until_shown()
        return await self.check()

    async def check(self) -> int:
        """The same of what is there now."""
        ranges = [*self._named_as_missing()]
        own = self._own()
        found, again = await self._archived()
        present = {record_id for ids in found.values() for record_id in ids}
        unexpected = [
            position
            for position, record_id, _ in own
            if record_id not in present and not any(position in at for at in ranges)
        ]
        assert not unexpected, f"{len(unexpected)} are missing, such as {unexpected[:5]}"
        expected: dict[str, list[str]] = {}
        for _, record_id, topic in own:
            if record_id in present:
                expected.setdefault(topic, []).append(record_id)
        assert found == expected
        return again

    async def _until_shown(self) -> None:
        """Wait until Kafka has come up with the sessions."""
        async with asyncio.timeout(SETTLE_S):
            while True:
                _, text = await fetch(self.broker, "/metrics")
                lags = [
                    line.rpartition(" ")[2]
                    for line in text.splitlines()
                    if line.startswith("monstermq_projection_lag_records{")
                ]
                assert lags
                if not any(map(float, lags)):
                    return

    def _own(self) -> list[tuple[int, str, str]]:
        path = self.broker.directory / "monstermq.db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            return database.execute(_OWN).fetchall()

    async def _archived(self) -> tuple[dict[str, list[str]], int]:
        """Return MQTT topic -> ids in order, each once; and how many stood there again."""
        records = await read_topic(self.servers, "load")
        found: dict[str, dict[str, None]] = {}
        places: dict[bytes, int] = {}
        for record in records:
            members = json.loads(record.value)
            assert record.key == members["topic"].encode()
            assert places.setdefault(record.key, record.partition) == record.partition
            found.setdefault(members["topic"], {})[members["id"]] = None
        once = sum(map(len, found.values()))
        return {topic: [*ids] for topic, ids in found.items()}, len(records) - once

    def _named_as_missing(self) -> Iterator[range]:
        for said in MISSING.finditer(self.broker.log_text()):
            if said["view"] == "loadArchive":
                yield range(_position(said["from"]), _position(said["to"]))


def _position(written: str) -> int:
    boot, _, counter = written.partition(":")
    return (int(boot) << BOOT_SHIFT) + int(counter)
