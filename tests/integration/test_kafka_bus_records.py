"""What stands on a bus on Kafka: ours, somebody else's, large, refused; and a topic that goes."""

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from aiokafka.partitioner import DefaultPartitioner
from tests.support.kafka import KafkaServer
from tests.support.kafka_bus import (
    HeaderName,
    a_run,
    bus_settings,
    opened,
    produce,
    produce_with_header,
)
from tests.support.kafka_tools import create_topic, delete_topics, read_topic

from monstermq_shared.bus.control import decode_facts
from monstermq_shared.bus.facts import Ack, Gap, Lease, Release
from monstermq_shared.bus.header import Kind, pack_header
from monstermq_shared.bus.kafka import presence
from monstermq_shared.bus.kafka import reader as reader_module
from monstermq_shared.bus.kafka.log import KafkaLog
from monstermq_shared.bus.ports import Entry, LogReader, Stamp
from monstermq_shared.errors import BusGap, BusLost, BusRefused, BusUntimely, InvalidRecord
from monstermq_shared.records import Record, encode_record
from monstermq_shared.testing.bus_contract import begun, next_batch, outcome_of
from monstermq_shared.testing.bus_records import a_record, payloads

pytestmark = pytest.mark.integration

L_MS = 900_000
SCHEMA = json.loads((Path(__file__).parents[2] / "schemas/bus-record.v1.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Told:
    """What a log says of what was appended, in order."""

    def __init__(self, log: KafkaLog) -> None:
        self.log = log
        self.appended: list[object] = []
        self.refused: list[object] = []
        self.rooms: list[int] = []
        self._changed = asyncio.Event()
        log.on_appended = self._on_appended
        log.on_refused = self._on_refused
        log.on_room = self._on_room

    def _on_appended(self, tickets: list[object]) -> None:
        self.appended += tickets
        self._changed.set()

    def _on_refused(self, tickets: list[object], error: BusRefused) -> None:
        self.refused += tickets
        self._changed.set()

    def _on_room(self, partition: int) -> None:
        self.rooms.append(partition)
        self._changed.set()

    async def until(self, count: int) -> None:
        """Return once so many tickets have come back."""
        async with asyncio.timeout(60):
            while len(self.appended) + len(self.refused) < count:
                self._changed.clear()
                await self._changed.wait()


async def read(reader: LogReader, count: int) -> list[Entry]:
    """Return the next entries, whatever their partition."""
    entries: list[Entry] = []
    while len(entries) < count:
        entries += (await next_batch(reader)).entries
    return entries


def run_payloads(entries: Sequence[Entry]) -> list[bytes]:
    return payloads([entry for entry in entries if entry.kind == Kind.MESSAGE])


# -- runs, facts, tickets ------------------------------------------------------------------------


async def test_runs_and_facts_of_a_turn_are_read_back_by_their_sequences(
    kafka_server: KafkaServer, kafka_topic: str
) -> None:
    async with opened(bus_settings(kafka_server.address(), kafka_topic)) as bus:
        log, told = bus.messages, Told(bus.messages)
        partition = log.partition_of("a")
        async with aclosing(log.read(await log.end_positions())) as reader:
            first = log.append_run(partition, b"a", a_run("a", b"1", b"2"), "c", now_ms(), "run")
            ack, release = (
                Ack(client_id="c", offsets=(7,)),
                Release(client_id="c", packet_id=1, since=7),
            )
            places = [
                log.append_facts(partition, [ack], now_ms(), "ack"),
                log.append_facts(partition, [release, ack], now_ms(), "both"),
            ]
            last = log.append_run(partition, b"a", a_run("a", b"3", qos=1), "c", now_ms(), None)
            log.flush()
            entries = await read(reader, 4)
            await told.until(3)
    assert first == 0
    assert places == [(2, 0), (2, 1)]
    assert last == 3
    assert [(entry.writer, entry.sequence) for entry in entries] == [
        (log.run, number) for number in range(4)
    ]
    assert [entry.kind for entry in entries] == [0, 0, Kind.CONTROL, 0]
    assert decode_facts(entries[2].record().payload) == [ack, release, ack]
    assert run_payloads(entries) == [b"1", b"2", b"3"]
    assert told.appended == ["run", "ack", "both"]


async def test_facts_of_the_next_turn_are_another_record(
    kafka_server: KafkaServer, kafka_topic: str
) -> None:
    async with opened(bus_settings(kafka_server.address(), kafka_topic)) as bus:
        log, told = bus.sessions, Told(bus.sessions)
        places = []
        for turn in range(3):
            fact = Gap(partition=turn, to=1)
            places.append(log.append_facts(5, [fact], now_ms(), turn))
            log.flush()
        places.append(log.append_facts(5, [Lease(run=log.run, for_ms=1)], now_ms(), 3))
        log.flush()
        await told.until(4)
    assert places == [(0, 0), (1, 0), (2, 0), (3, 0)]
    assert told.appended == [0, 1, 2, 3]


async def test_a_run_larger_than_a_batch_is_one_ticket(
    kafka_server: KafkaServer, kafka_topic: str
) -> None:
    settings = bus_settings(
        kafka_server.address(), kafka_topic, producer_config={"batch.size": 1000}
    )
    wanted = [str(number).encode() for number in range(100)]
    async with opened(settings) as bus:
        log, told = bus.messages, Told(bus.messages)
        async with aclosing(log.read(await log.end_positions())) as reader:
            for ticket in ("first", "second"):
                log.append_run(0, b"a", a_run("a", *wanted), "c", now_ms(), ticket)
            log.flush()
            entries = await read(reader, 200)
            await told.until(2)
    assert run_payloads(entries) == 2 * wanted
    assert told.appended == ["first", "second"]


async def test_a_full_partition_tells_when_it_is_half_empty_and_others_are_not_full(
    own_kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = bus_settings(own_kafka.address(), "monster", in_flight_kb_per_partition=64)
    async with opened(settings) as bus:
        log, told = bus.messages, Told(bus.messages)
        own_kafka.freeze()
        try:
            count = 0
            while not log.is_full(0):
                log.append_run(0, b"a", a_run("a", b"x" * 1000), "c", now_ms(), count)
                count += 1
            log.flush()
            await asyncio.sleep(0)
            assert (20 < count < 100, log.is_full(1), told.rooms) == (True, False, [])
            monkeypatch.setattr("monstermq_shared.bus.kafka.log.STUCK_S", 0.0)
            assert [log.is_stuck(partition) for partition in (0, 1)] == [True, False]
        finally:
            own_kafka.thaw()
        await told.until(count)
        assert (told.rooms, log.backlog_size) == ([0], 0)
        assert (log.is_full(0), log.is_stuck(0)) == (False, False)


@pytest.mark.parametrize(
    "config",
    [
        {"acks": 1},
        {"compression.type": "gzip"},
        {"compression.type": "lz4"},
        {"compression.type": "snappy"},
        {"compression.type": "zstd"},
        {"linger.ms": 5},
        {"batch.size": 0},
    ],
)
async def test_producer_settings_change_nothing_of_what_is_read(
    kafka_server: KafkaServer, kafka_topic: str, config: dict[str, object]
) -> None:
    settings = bus_settings(kafka_server.address(), kafka_topic, producer_config=config)
    wanted = [b"%d" % number * 50 for number in range(50)]
    async with opened(settings) as bus:
        log = bus.messages
        async with aclosing(log.read(await log.end_positions())) as reader:
            log.append_run(0, b"a", a_run("a", *wanted), "c", now_ms(), None)
            log.flush()
            assert run_payloads(await read(reader, 50)) == wanted


async def test_a_batch_has_no_more_records_than_are_asked_for(
    kafka_server: KafkaServer, kafka_topic: str
) -> None:
    settings = bus_settings(
        kafka_server.address(), kafka_topic, consumer_config={"max.poll.records": 7}
    )
    wanted = [b"%d" % number for number in range(50)]
    async with opened(settings) as bus:
        log, told = bus.messages, Told(bus.messages)
        async with aclosing(log.read(await log.end_positions())) as reader:
            log.append_run(0, b"a", a_run("a", *wanted), "c", now_ms(), None)
            log.append_run(0, b"a", a_run("a", b"last"), "c", now_ms(), "last")
            log.flush()
            await told.until(1)
            read: list[bytes] = []
            while len(read) < 51:
                entries = (await next_batch(reader)).entries
                assert len(entries) <= 7
                read += payloads(entries)
    assert read == [*wanted, b"last"]


async def test_a_record_of_ten_megabytes_passes_among_small_ones(
    each_kafka: KafkaServer, kafka_topic: str
) -> None:
    settings = bus_settings(
        each_kafka.address(),
        kafka_topic,
        record_size_max=15_000_000,
        in_flight_kb_per_partition=16_384,
    )
    large = b"\xff" * 10_000_000
    async with opened(settings) as bus:
        log, told = bus.messages, Told(bus.messages)
        async with aclosing(log.read(await log.end_positions())) as reader:
            for payload in (b"before", large, b"after"):
                log.append_run(0, b"a", a_run("a", payload), "c", now_ms(), payload[:6])
            log.flush()
            entries = await read(reader, 3)
            await told.until(3)
    assert run_payloads(entries) == [b"before", large, b"after"]
    assert told.refused == []


async def test_a_bug_of_whoever_is_called_back_ends_what_watches(
    kafka_server: KafkaServer, kafka_topic: str
) -> None:
    def fail(tickets: list[object]) -> None:
        raise ZeroDivisionError

    async with opened(bus_settings(kafka_server.address(), kafka_topic)) as bus:
        bus.messages.on_appended = fail
        watching = await begun(bus.watch())
        bus.messages.append_run(0, b"a", a_run("a", b"1"), "c", now_ms(), "ticket")
        bus.messages.flush()
        with pytest.raises(ZeroDivisionError):
            await outcome_of(watching)
    async with opened(bus_settings(kafka_server.address(), kafka_topic)) as bus:
        watching = await begun(bus.watch())
        await bus.close()
        await outcome_of(watching)


async def test_large_records_of_many_partitions_are_no_request_that_a_server_refuses(
    own_kafka: KafkaServer,
) -> None:
    """It would close the connection, for ever."""
    own_kafka.settings["socket.request.max.bytes"] = "5000000"
    await asyncio.to_thread(own_kafka.restart)
    settings = bus_settings(own_kafka.address(), "monster", record_size_max=4_000_000)
    async with opened(settings) as bus:
        log, told = bus.messages, Told(bus.messages)
        for number in range(9):
            partition = number % 3
            log.append_run(partition, b"a", a_run("a", b"x" * 3_000_000), "c", now_ms(), number)
        log.flush()
        await told.until(9)
    assert sorted(told.appended, key=str) == [*range(9)]


# -- refused -------------------------------------------------------------------------------------


async def test_a_record_that_is_too_old_is_refused_and_its_neighbours_are_not(
    each_kafka: KafkaServer, kafka_topic: str
) -> None:
    """All three are one batch, and the next one is queued behind it (R1)."""
    async with opened(bus_settings(each_kafka.address(), kafka_topic)) as bus:
        log, told = bus.messages, Told(bus.messages)
        async with aclosing(log.read(await log.end_positions())) as reader:
            for name, age_ms in (("1", 0), ("old", 2 * L_MS), ("3", 0)):
                at_ms = now_ms() - age_ms
                log.append_run(0, b"a", a_run("a", name.encode()), "c", at_ms, name)
            log.flush()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            for name in ("4", "5"):
                log.append_run(0, b"a", a_run("a", name.encode()), "c", now_ms(), name)
            log.flush()
            entries = await read(reader, 4)
            await told.until(5)
    assert run_payloads(entries) == [b"1", b"3", b"4", b"5"]
    assert [entry.sequence for entry in entries] == [0, 2, 3, 4]
    assert (told.refused, told.appended) == (["old"], ["1", "3", "4", "5"])
    assert log.refused == 1


async def test_a_record_that_is_too_new_is_found_by_halving_its_batch(
    kafka_server: KafkaServer, kafka_topic: str
) -> None:
    async with opened(bus_settings(kafka_server.address(), kafka_topic)) as bus:
        log, told = bus.messages, Told(bus.messages)
        async with aclosing(log.read(await log.end_positions())) as reader:
            for number in range(9):
                at_ms = now_ms() + (2 * L_MS if number == 5 else 0)
                log.append_run(0, b"a", a_run("a", b"%d" % number), "c", at_ms, number)
            log.flush()
            entries = await read(reader, 8)
            await told.until(9)
    assert run_payloads(entries) == [b"%d" % number for number in range(9) if number != 5]
    assert told.refused == [5]
    assert told.appended == [0, 1, 2, 3, 4, 6, 7, 8]


async def test_with_a_wrong_clock_all_are_refused_at_the_price_of_one(
    kafka_server: KafkaServer, kafka_topic: str
) -> None:
    async with opened(bus_settings(kafka_server.address(), kafka_topic)) as bus:
        log, told = bus.messages, Told(bus.messages)
        for number in range(500):
            log.append_run(0, b"a", a_run("a", b"1"), "c", now_ms() + 2 * L_MS, number)
        log.flush()
        await told.until(500)
        assert told.refused == [*range(500)]
        assert log.producers_begun <= 3


async def test_a_run_of_which_one_message_is_refused_is_refused(
    kafka_server: KafkaServer, kafka_topic: str
) -> None:
    settings = bus_settings(kafka_server.address(), kafka_topic)
    async with opened(settings) as bus:
        log, told = bus.messages, Told(bus.messages)
        async with aclosing(log.read(await log.end_positions())) as reader:
            run = a_run("a", b"1", b"x" * 3_000_000, b"3")
            log.append_run(0, b"a", run, "c", now_ms(), "run")
            log.append_run(0, b"a", a_run("a", b"4"), "c", now_ms(), "next")
            log.flush()
            entries = await read(reader, 3)
            await told.until(2)
    assert run_payloads(entries) == [b"1", b"3", b"4"]
    assert (told.refused, told.appended) == (["run"], ["next"])


async def test_an_append_by_the_port_ends_with_the_refusal(
    kafka_server: KafkaServer, kafka_topic: str
) -> None:
    async with opened(bus_settings(kafka_server.address(), kafka_topic)) as bus:
        old = Record("a", b"1", 1, False, "c", now_ms() - 2 * L_MS, 0)
        refused = bus.messages.append(0, [a_record("a"), old], Stamp(b"a writer", 0))
        with pytest.raises(BusUntimely, match="too far from the server's clock"):
            await outcome_of(refused)
        await outcome_of(bus.messages.append(0, [a_record("a")], Stamp(b"a writer", 2)))


# -- outside -------------------------------------------------------------------------------------


async def test_whoever_reads_the_topics_finds_what_the_schema_says(
    each_kafka: KafkaServer, kafka_topic: str
) -> None:
    """With a client of his own: keys, partitions, times, headers and JSON."""
    topics = ["a", "sensors/temperature/room1", "käse/😀", "x" * 3_000, '"quoted"/\x01']
    awkward = [b"23.5", b"", b"\xff\xfe", b"\0" * 9, '{"a": "ä"}'.encode(), b'"' * 50]
    before_ms = now_ms()
    async with opened(bus_settings(each_kafka.address(), kafka_topic, partitions=7)) as bus:
        log, told = bus.messages, Told(bus.messages)
        for topic in topics:
            run = a_run(topic, *awkward, qos=1)
            partition = log.partition_of(topic)
            log.append_run(partition, topic.encode(), run, "c\x02", now_ms(), topic)
        log.append_facts(3, [Gap(partition=1, to=2)], now_ms(), "facts")
        log.flush()
        await told.until(len(topics) + 1)
        ends = await log.end_positions()
    records = await read_topic(each_kafka.address(), kafka_topic)
    assert len(records) == sum(ends.values())
    choose = DefaultPartitioner()
    for record in records:
        members = json.loads(record.value)
        VALIDATOR.validate(members)
        assert members["topic"].encode() == record.key
        written = datetime.strptime(members["timestamp"], "%Y-%m-%dT%H:%M:%S.%f%z")
        assert written.timestamp() * 1000 == pytest.approx(record.timestamp, abs=0.01)
        assert len(members["timestamp"]) == len("2026-01-15T10:30:00.123Z")
        assert before_ms - 60_000 <= record.timestamp <= now_ms()
        assert record.timestamp_type == 0
        names = [name for name, _ in record.headers]
        if "control" in members:
            assert names == ["m", "monstermq-control"]
            assert set(members) == {"topic", "timestamp", "control"}
        else:
            assert names == ["m"]
            assert record.partition == choose(record.key, [*range(7)], [*range(7)])
    messages = [json.loads(record.value) for record in records if len(record.headers) == 1]
    assert sorted({message["topic"] for message in messages}) == sorted(topics)
    assert len(messages) == len(topics) * len(awkward)


# -- somebody else's -----------------------------------------------------------------------------


async def test_garbage_is_met_as_foreign_and_nothing_is_passed_over(
    each_kafka: KafkaServer, kafka_topic: str
) -> None:
    message = encode_record(a_record("a", b"1"))
    header = pack_header(Kind.MESSAGE, 1, False, False, b"somebody", 0)
    garbage: list[dict[str, Any]] = [
        {"value": b"garbage", "partition": 0},
        {"value": None, "key": b"tombstone", "partition": 0},
        {"value": b"\xff" * 10_000_000, "key": b"\xff\xfe", "partition": 0},
        {"value": message, "key": b"a", "partition": 0},
        {"value": message, "key": b"a", "partition": 0, "headers": [("x", b"1"), ("m", header)]},
        {"value": message[:-9], "key": b"a", "partition": 0, "headers": [("m", header)]},
    ]
    settings = bus_settings(each_kafka.address(), kafka_topic, record_size_max=15_000_000)
    async with opened(settings) as bus:
        log = bus.messages
        start = await log.end_positions()
        async with aclosing(log.read(start)) as reader:
            address, name = each_kafka.address(), HeaderName.of(b"\xff\xfe")
            await produce_with_header(address, kafka_topic, 0, name, b"no text")
            await produce(address, kafka_topic, *garbage)
            log.append_run(0, b"a", a_run("a", b"ours"), "c", now_ms(), None)
            log.flush()
            entries = await read(reader, len(garbage) + 2)
    assert [entry.offset for entry in entries] == [*range(start[0], start[0] + len(garbage) + 2)]
    assert [entry.foreign for entry in entries] == [True] * 6 + [False] * 2
    for entry in entries[:-1]:
        with pytest.raises(InvalidRecord):
            entry.record()
    assert entries[-1].record().payload == b"ours"


async def test_a_topic_that_is_deleted_ends_its_readers(
    own_kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "MISSING_S", 0.5)
    monkeypatch.setattr(reader_module, "POLL_S", 0.2)
    async with opened(bus_settings(own_kafka.address(), "monster")) as bus:
        log = bus.messages
        async with aclosing(log.read(await log.end_positions())) as reader:
            waiting = await begun(next_batch(reader))
            await delete_topics(own_kafka.address(), "monster")
            with pytest.raises(BusLost, match=r"Kafka.Bus.Topic: the topic monster is gone"):
                await outcome_of(waiting)


async def test_a_topic_that_was_made_again_is_not_read_on(
    own_kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has other partitions, or its end is below where we were."""
    monkeypatch.setattr(reader_module, "POLL_S", 0.2)
    for partitions in (5, 3):
        topic = f"monster{partitions}"
        async with opened(bus_settings(own_kafka.address(), topic)) as bus:
            log, told = bus.messages, Told(bus.messages)
            for partition in range(3):
                log.append_run(partition, b"a", a_run("a", b"1"), "c", now_ms(), partition)
            log.flush()
            await told.until(3)
            async with aclosing(log.read(await log.end_positions())) as reader:
                waiting = await begun(next_batch(reader))
                await delete_topics(own_kafka.address(), topic)
                await create_topic(own_kafka.address(), topic, partitions=partitions)
                with pytest.raises((BusGap, BusLost)):
                    await outcome_of(waiting)
