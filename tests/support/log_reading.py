"""The two logs of a Kafka bus, read and folded by code that shares nothing with the product.

A plain consumer, ``json`` and ``struct``: what counts is decided here once more, by the rules R1
and R3 of the protocol, so that log and tables can be compared.
"""

import asyncio
import base64
import json
import struct
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Self

from aiokafka import AIOKafkaConsumer, ConsumerRecord

_HEADER = struct.Struct(">B8sQ")
_STAMPED = 0x08
_NOBODYS = 0x80
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FETCH_MS = 200
_FETCH_SIZE = 4 * 1024 * 1024
START_S = 60.0

MESSAGE, CONTROL = 0, 1


class Row(NamedTuple):
    """A message as tables of messages have it."""

    partition: int
    position: int
    topic: str
    payload: bytes
    qos: int
    retained: bool
    client_id: str
    uuid: str
    time_ms: int


ROWS = """
SELECT partition, position, topic, payload_blob, qos, retained, client_id, message_uuid,
    (extract(epoch FROM time) * 1000)::bigint
FROM "{table}"
"""
"""The statement that returns them from PostgreSQL."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record as it stands in Kafka.

    Attributes:
        partition: Where.
        offset: Where in it.
        time_ms: Its CreateTime.
        key: Empty if there is none.
        value: Empty if there is none.
        flags: The header's first byte; None if it does not begin with our header.
        run: Who wrote it.
        sequence: Its number.
    """

    partition: int
    offset: int
    time_ms: int
    key: bytes
    value: bytes
    flags: int | None
    run: bytes
    sequence: int

    @property
    def kind(self) -> int | None:
        """What it is; None if it is foreign."""
        return None if self.flags is None else self.flags >> 4

    def members(self) -> dict[str, Any]:
        """Return the members of its JSON."""
        members = json.loads(self.value)
        assert isinstance(members, dict), self
        return members

    def facts(self) -> list[dict[str, Any]]:
        """Return the facts of a control record."""
        members = self.members()
        assert members.keys() == {"topic", "timestamp", "control"}, self
        control = json.loads(members["control"])
        assert control["v"] == 1, self
        facts: list[dict[str, Any]] = control["facts"]
        return facts

    def row(self) -> Row:
        """Return what tables have of a message; asserts that header, key and JSON agree."""
        members = self.members()
        assert self.flags is not None
        assert members["topic"].encode() == self.key, self
        assert members["qos"] == self.flags & 3, self
        assert members["retained"] == bool(self.flags & 4), self
        assert _milliseconds(members["timestamp"]) == self.time_ms, self
        assert ("payload" in members) != ("payloadBase64" in members), self
        payload = (
            members["payload"].encode()
            if "payload" in members
            else base64.b64decode(members["payloadBase64"], validate=True)
        )
        return Row(
            self.partition,
            self.offset,
            members["topic"],
            payload,
            members["qos"],
            members["retained"],
            members["clientId"],
            members["id"],
            self.time_ms,
        )


class LogReader:
    """Reads a topic from its beginning, and goes on as far as it is asked to; use it as a context.

    Args:
        address: The servers'.
        topic: Which.

    Attributes:
        records: All that was read, by partition, in order.
    """

    def __init__(self, address: str, topic: str) -> None:
        self.records: dict[int, list[LogRecord]] = {}
        self._consumer = AIOKafkaConsumer(
            topic,
            bootstrap_servers=address,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=_FETCH_SIZE,
        )

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(START_S):
                await self._consumer.start()
        except BaseException:
            await self._consumer.stop()
            raise
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._consumer.stop()

    async def read_to_end(self) -> Mapping[int, int]:
        """Read what there is now; return the next offset of each partition.

        Raises:
            TimeoutError: It took too long.
        """
        async with asyncio.timeout(START_S):
            partitions = self._consumer.assignment()
            ends = await self._consumer.end_offsets(partitions)
            for partition, end in ends.items():
                while await self._consumer.position(partition) < end:
                    await self._fetch()
        return {partition.partition: end for partition, end in ends.items()}

    async def until(self, condition: Callable[[], bool], within_s: float) -> None:
        """Read on until something is so; it is looked at after each fetch.

        Raises:
            TimeoutError: It did not come to be so.
        """
        async with asyncio.timeout(within_s):
            while not condition():
                await self._fetch()

    async def _fetch(self) -> None:
        fetched = await self._consumer.getmany(timeout_ms=_FETCH_MS)
        for partition, records in fetched.items():
            here = self.records.setdefault(partition.partition, [])
            here += map(_read, records)

    # -- what counts -----------------------------------------------------------------------------

    def counted(self) -> Iterator[LogRecord]:
        """Yield the records that count (R1, R3), each partition in order; foreign ones do not."""
        for records in self.records.values():
            yield from _counted(records)

    def by_partition(self) -> dict[int, list[LogRecord]]:
        """Return the records that count, by partition, each in order; foreign ones do not."""
        return {partition: [*_counted(records)] for partition, records in self.records.items()}

    def doubles(self) -> int:
        """Return how many records of ours do not count."""
        ours = sum(r.flags is not None for records in self.records.values() for r in records)
        return ours - sum(1 for _ in self.counted())

    def rows(self, strangers: Collection[tuple[int, int]] = ()) -> list[Row]:
        """Return the messages that count, each partition in order.

        Args:
            strangers: Partition and offset of what a test wrote that only looks like a message.
        """
        return [
            record.row()
            for record in self.counted()
            if record.kind == MESSAGE and (record.partition, record.offset) not in strangers
        ]

    def facts(self, name: str) -> list[dict[str, Any]]:
        """Return the facts of one name that count, each partition in order."""
        return [
            fact
            for record in self.counted()
            if record.kind != MESSAGE
            for fact in record.facts()
            if fact["f"] == name
        ]


class Fold:
    """The tables that follow from the messages that count.

    Args:
        rows: As ``LogReader.rows`` returns them.

    Attributes:
        archive: All of them.
        retained: Topic -> what is retained.
        last_values: Topic -> the last one.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.archive = {(row.partition, row.position): row for row in rows}
        self.retained: dict[str, Row] = {}
        self.last_values: dict[str, Row] = {}
        for row in rows:
            if row.retained and not row.payload:
                self.retained.pop(row.topic, None)
                self.last_values.pop(row.topic, None)
                continue
            self.last_values[row.topic] = row
            if row.retained:
                self.retained[row.topic] = row

    def by_topic(self) -> dict[str, list[bytes]]:
        """Return the payloads of each topic, in order."""
        topics: dict[str, list[bytes]] = {}
        for row in self.archive.values():
            topics.setdefault(row.topic, []).append(row.payload)
        return topics


def _counted(records: Sequence[LogRecord]) -> Iterator[LogRecord]:
    highest: dict[bytes, int] = {}
    fences: dict[str, int] = {}
    for record in records:
        if record.flags is None:
            continue
        if record.sequence <= highest.get(record.run, -1):
            continue  # R1
        highest[record.run] = record.sequence
        if record.kind == CONTROL:
            for fact in record.facts():
                if fact["f"] == "marker":
                    fences[fact["c"]] = max(fact["e"], fences.get(fact["c"], -1))
        elif record.flags & _STAMPED:
            members = record.members()
            if members.get("epoch", 0) < fences.get(members["clientId"], -1):
                continue  # R3
        yield record


def _read(record: "ConsumerRecord[bytes, bytes]") -> LogRecord:
    headers = record.headers
    flags, run, sequence = None, b"", -1
    if headers and headers[0][0] == "m" and len(headers[0][1]) == _HEADER.size:
        flags, run, sequence = _HEADER.unpack(headers[0][1])
        if flags & _NOBODYS:
            flags = None
    if flags is not None:
        control = [name for name, _ in headers[1:]] == ["monstermq-control"]
        assert control == (flags >> 4 != MESSAGE), headers
    return LogRecord(
        record.partition,
        record.offset,
        record.timestamp,
        record.key or b"",
        record.value or b"",
        flags,
        run,
        sequence,
    )


def _milliseconds(timestamp: str) -> int:
    moment = datetime.strptime(timestamp, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    assert len(timestamp) == len("2026-01-15T10:30:00.123Z"), timestamp
    return (moment - _EPOCH) // timedelta(milliseconds=1)
