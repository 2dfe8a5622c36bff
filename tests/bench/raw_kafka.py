"""Kafka's own figures: batches made by hand are sent with aiokafka and read back.

What is sent are records as the bus has them, ready-made; nobody looks at what is read. Producer,
consumer and server share the machine as an edge, its clients and the server do.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple, Self, TypeVar

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.producer.message_accumulator import BatchBuilder
from tests.bench.kafka_places import KafkaPlace
from tests.support.kafka_tools import create_topic

from monstermq_shared.bus.header import HEADER, HEADER_SIZE
from monstermq_shared.records import Record, encode_record

PARTITIONS = 12
TICK_S = 0.001
TOPIC = "t-00/bench"
KEYS = [b"t-%02d/bench" % partition for partition in range(PARTITIONS)]
PATIENCE_S = 30.0
"""How long the last ones of some messages may take."""
_DUE_SIZE = 16
"""What a value ends with: when it was handed over, in hexadecimal."""


T = TypeVar("T")


class Latencies(NamedTuple):
    """In nanoseconds, of each message."""

    acknowledged: list[int]
    """From when it was handed over until its future was done."""
    delivered: list[int]
    """From then until the consumer gave it back."""


class RawKafka:
    """A producer and a consumer on a topic of their own; use it in a ``with``.

    Args:
        place: Where; the topic is another one beside the bus topic.
        payload_size: Of the messages in the records.
    """

    def __init__(self, place: KafkaPlace, payload_size: int) -> None:
        self._place = place
        self.topic = place.raw_topic
        payload, now_ms = b"x" * payload_size, int(time.time() * 1000)
        self.value = encode_record(Record(TOPIC, payload, 0, False, "pub-00", now_ms, 0))
        self.headers = [(HEADER, bytes(HEADER_SIZE))]
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._turns = [asyncio.Lock() for _ in range(PARTITIONS)]
        self._received = 0
        self._on_value: Callable[[bytes, int], None] | None = None

    def __enter__(self) -> Self:
        """Create the topic and start the clients."""
        self.run(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        """Close them."""
        self.run(self._close())
        self._runner.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something with it; nothing of it goes on meanwhile but within."""
        return self._runner.run(work)

    async def _open(self) -> None:
        await create_topic(self._place.address, self.topic, partitions=PARTITIONS)
        self._producer = AIOKafkaProducer(**self._place.settings.producer_options())
        await self._producer.start()
        await self.open_reader()
        # Once there is an answer, a partition has its leader.
        await asyncio.gather(*(self.send_one(n, Latencies([], [])) for n in range(PARTITIONS)))

    async def _close(self) -> None:
        await self._producer.stop()
        await self.close_reader()

    # -- who reads it ------------------------------------------------------------------------------

    async def open_reader(self) -> None:
        """Begin to read what is sent."""
        self._consumer = AIOKafkaConsumer(
            **self._place.settings.consumer_options(),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        await self._consumer.start()
        self._consumer.assign([TopicPartition(self.topic, n) for n in range(PARTITIONS)])

    async def close_reader(self) -> None:
        """End that."""
        await self._consumer.stop()

    async def read(self) -> None:
        """Give ``took`` all that comes, until this is cancelled."""
        while True:
            fetched = await self._consumer.getmany(timeout_ms=1000)
            now_ns = time.perf_counter_ns()
            for records in fetched.values():
                self.took([record.value for record in records], now_ns)

    def took(self, values: Sequence[bytes], now_ns: int) -> None:
        """Note what has come."""
        self._received += len(values)
        if self._on_value is not None:
            for value in values:
                self._on_value(value, now_ns)

    # -- how many ----------------------------------------------------------------------------------

    def rate(self, batch: int, *, warm_up_s: float, seconds: float) -> float:
        """Records a second that were sent and read back, the next batch after each answer.

        Args:
            batch: Records in one; every partition has one under way.
            warm_up_s: Before it is counted.
            seconds: While it is counted.
        """
        return self.run(self._rate(batch, warm_up_s, seconds))

    async def _rate(self, batch: int, warm_up_s: float, seconds: float) -> float:
        works = [self.read(), *(self._send_batches(n, batch) for n in range(PARTITIONS))]
        async with _Working(works):
            await asyncio.sleep(warm_up_s)
            began, before = time.perf_counter(), self._received
            await asyncio.sleep(seconds)
            return (self._received - before) / (time.perf_counter() - began)

    async def _send_batches(self, partition: int, count: int) -> None:
        while True:
            builder = self._producer.create_batch()
            now_ms = int(time.time() * 1000)
            for _ in range(count):
                self._append(builder, now_ms, KEYS[partition], self.value)
            await self._send(builder, partition)

    # -- how soon ----------------------------------------------------------------------------------

    def latencies(self, messages_per_s: int, seconds: float) -> Latencies:
        """Send messages at a fixed rate, each by itself as it comes, and read them back.

        Args:
            messages_per_s: In bursts a millisecond apart, as far as the event loop's clock goes.
            seconds: How long.
        """
        return self.run(self._latencies(messages_per_s, seconds))

    async def _latencies(self, messages_per_s: int, seconds: float) -> Latencies:
        found = Latencies([], [])
        size, count = _DUE_SIZE, round(messages_per_s * seconds)
        all_came = asyncio.Event()

        def note(value: bytes, now_ns: int) -> None:
            found.delivered.append(now_ns - int(value[-size:], 16))
            if len(found.delivered) == count:
                all_came.set()

        self._on_value = note
        async with _Working([self.read()]):
            await asyncio.sleep(0)
            sends: set[asyncio.Task[None]] = set()
            began = time.perf_counter()
            for number in range(count):
                late_s = time.perf_counter() - began - number / messages_per_s
                if late_s < 0:
                    await asyncio.sleep(max(TICK_S, -late_s))
                task = asyncio.create_task(self.send_one(number % PARTITIONS, found))
                sends.add(task)
                task.add_done_callback(sends.discard)
            await asyncio.gather(*sends)
            async with asyncio.timeout(PATIENCE_S):
                await all_came.wait()
        self._on_value = None
        return found

    async def send_one(self, partition: int, found: Latencies) -> None:
        """Send a message by itself, and note how long that takes."""
        began_ns = time.perf_counter_ns()
        builder = self._producer.create_batch()
        due = b"%0*x" % (_DUE_SIZE, began_ns)
        self._append(builder, int(time.time() * 1000), KEYS[partition], self.value + due)
        await self._send(builder, partition)
        found.acknowledged.append(time.perf_counter_ns() - began_ns)

    # -- both --------------------------------------------------------------------------------------

    def _append(self, builder: BatchBuilder, now_ms: int, key: bytes, value: bytes) -> None:
        added = builder.append(timestamp=now_ms, key=key, value=value, headers=self.headers)
        if added is None:
            raise ValueError("more records than fit into a batch")

    async def _send(self, builder: BatchBuilder, partition: int) -> None:
        builder.close()
        # Not several at a time: aiokafka counts what each waits for the others more than once.
        async with self._turns[partition]:
            sent = await self._producer.send_batch(builder, self.topic, partition=partition)
        await sent


class _Working:
    """Tasks that go on within; one that fails fails the block's end."""

    def __init__(self, works: Sequence[Coroutine[Any, Any, None]]) -> None:
        self._works = works
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> None:
        self._tasks = [asyncio.create_task(work) for work in self._works]

    async def __aexit__(self, *_: object) -> None:
        failed = [task for task in self._tasks if task.done()]
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for task in failed:
            task.result()
