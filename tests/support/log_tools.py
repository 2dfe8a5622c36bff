"""A log and a broker, and what the operator's tools say of them."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.support.broker import LOOPBACK, RunningBroker
from tests.support.kafka_tools import delete_below
from tests.support.operator_tools import WITHIN_S, run_tool

from monstermq_shared.bus.control import encode_facts
from monstermq_shared.bus.facts import Fact
from monstermq_shared.bus.header import Kind
from monstermq_shared.bus.kafka.bus import KafkaBus, open_kafka_bus
from monstermq_shared.bus.ports import Stamp
from monstermq_shared.clock import SystemClock
from monstermq_shared.config import load_config
from monstermq_shared.errors import MonsterError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.kafka.settings import KafkaSettings
from monstermq_shared.operation.process import exit_status
from monstermq_shared.records import CONTROL_TOPIC, ControlRecord, Record

AGO_MS = 60_000
"""The records of these tests are of a minute ago."""


class Log:
    """A bus on Kafka with a configuration of its own; records are appended as an edge would."""

    def __init__(self, config: Path, bus: KafkaBus, servers: str, topic: str) -> None:
        self.config = config
        self.bus = bus
        self.servers = servers
        self.topic = topic
        self.begin_ms = SystemClock().wall_ms() - AGO_MS
        self._sequences = dict.fromkeys(range(bus.messages.partitions), 0)

    async def append(self, *records: Record) -> None:
        log = self.bus.messages
        for record in records:
            partition = log.partition_of(record.topic)
            stamp = Stamp(b"a writer", self._sequences[partition])
            self._sequences[partition] += 1
            await log.append(partition, [record], stamp)

    async def state(self, partition: int, fact: Fact, kind: Kind) -> None:
        """Append a fact."""
        record = ControlRecord(CONTROL_TOPIC, encode_facts([fact]).encode(), self.begin_ms, 0, kind)
        await self.bus.messages.append(partition, [record], Stamp(b"of facts", 0))

    async def fill(self, count: int, prefix: str = "plant") -> list[Record]:
        """Append messages, a millisecond apart, on seven topics in turn."""
        records = [self.message(f"{prefix}/{n % 7}", b"%d" % n, n) for n in range(count)]
        await self.append(*records)
        return records

    def message(self, topic: str, payload: bytes, at_ms: int, client_id: str = "sensor") -> Record:
        return Record(topic, payload, 1, False, client_id, self.begin_ms + at_ms, 0)

    async def run(self, *arguments: str) -> tuple[ExitCode, list[str]]:
        return await asyncio.to_thread(run_tool, *arguments, "-config", str(self.config))

    async def tail(self, *arguments: str) -> list[dict[str, Any]]:
        """Return what ``tail`` shows up to now."""
        code, lines = await self.run("tail", *arguments, "--to", "now", "--json")
        assert code == ExitCode.OK
        return [json.loads(line) for line in lines]

    async def refusal(self, *arguments: str) -> tuple[int, str]:
        with pytest.raises(MonsterError) as refused:
            await self.run(*arguments)
        return exit_status(refused.value), str(refused.value)

    async def cut(self, partition: int, offset: int) -> None:
        """Delete what is below an offset, as retention does."""
        await delete_below(self.servers, self.topic, {partition: offset})


def write_config(path: Path, servers: str, topic: str, size_max_kb: int) -> None:
    # A record of the largest size has to fit, in JSON at its longest.
    room_kb = max(8_192, 3 * size_max_kb)
    path.write_text(
        f"Kafka: {{Servers: '{servers}', Bus: {{Enabled: true, Topic: {topic}, Partitions: 3, "
        f"InFlightKbPerPartition: {room_kb}}}}}\nMaxMessageSizeKb: {size_max_kb}\n"
        "SessionStoreType: POSTGRES\nRetainedStoreType: POSTGRES\n"
    )


async def opened_log(path: Path, servers: str, topic: str, size_max_kb: int = 512) -> Log:
    """Return a log whose configuration is this file; closing its bus is up to the caller.

    Args:
        path: The file, which is written.
        servers: Kafka's.
        topic: The bus's.
        size_max_kb: ``MaxMessageSizeKb``.
    """
    write_config(path, servers, topic, size_max_kb)
    bus = await open_kafka_bus(KafkaSettings.from_config(load_config(path, {}).config))
    return Log(path, bus, servers, topic)


KEPT = """
ArchiveGroups:
  - {Name: All, TopicFilter: ["#"], LastValType: NONE, ArchiveType: SQLITE}
MaxMessageSizeKb: 2048
"""
"""What a target has beside its ports."""


class Target:
    """A broker on the internal bus that archives everything."""

    def __init__(self, process: RunningBroker) -> None:
        self.process = process
        self.url = f"mqtt://{LOOPBACK}:{process.tcp_port}"
        self.config = str(process.directory / "config.yaml")

    async def archived(self, topic_filter: str = "#") -> list[dict[str, Any]]:
        """Return what its archive has, as ``tail --archive`` shows it."""
        _, lines = await asyncio.to_thread(
            run_tool, "tail", topic_filter, "--archive", "All", "--json", "-config", self.config
        )
        return [json.loads(line) for line in lines]


async def until_archived(target: Target, topic_filter: str, count: int) -> None:
    """Return once its archive has so many."""
    async with asyncio.timeout(WITHIN_S):
        # Another process has no event to wait for.
        while len(await target.archived(topic_filter)) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def said(lines: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(line["topic"], line["payload"]) for line in lines]


def told(records: Sequence[Record], prefix: str = "") -> list[tuple[str, str]]:
    return [(prefix + record.topic, record.payload.decode()) for record in records]
