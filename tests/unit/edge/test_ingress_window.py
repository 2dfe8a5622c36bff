"""Messages from Kafka on their way to the bus: each once, in order, whatever is refused or late."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial

import pytest
from aiokafka import TopicPartition

from monstermq_edge.ingress.appending import Appender, Item, run_of
from monstermq_edge.ingress.counts import IngressCounts
from monstermq_edge.ingress.messages import Incoming, Source
from monstermq_edge.ingress.window import UNDER_WAY_MAX, Window
from monstermq_shared.bus.ports import Stamp
from monstermq_shared.bus.ring import size_of
from monstermq_shared.bus.runs import Runs
from monstermq_shared.clock import SystemClock
from monstermq_shared.errors import BusRefused, BusUnavailable, BusUntimely
from monstermq_shared.positions import Position
from monstermq_shared.queries.live import Publication
from monstermq_shared.records import Record
from monstermq_shared.testing.bus_contract import begun, outcome_of, read_from
from monstermq_shared.testing.memory_bus import MemoryBus, MemoryLog

BOUND_S = 30.0
LATE = BusUntimely("the clock is off")


def run(partition: int) -> bytes:
    return run_of("cluster", "orders", partition)


def item(number: int, topic: str = "t", partition: int = 0) -> Item:
    payload = b"%d" % number
    source = Source(partition, number, 0, b"k", payload, ())
    return Item(
        run(partition), source, Incoming(Publication(topic=topic, payload=payload), "kafka:orders")
    )


class OddLog(MemoryLog):
    """Refuses records, by their payloads, each so many times; and makes a partition wait."""

    def __init__(
        self,
        refusals: dict[bytes, tuple[BusRefused, int]] | None = None,
        partitions: int = 1,
        append_size_max: int = 2**20,
    ) -> None:
        super().__init__(partitions, 2**20, append_size_max)
        self.refusals = refusals or {}
        self._late: set[int] = set()
        self._waiting: list[tuple[int, Sequence[Record], Stamp, asyncio.Future[Position | None]]]
        self._waiting = []

    def shrink(self) -> None:
        """Have room for one record at a time."""
        self._append_size_max = 1

    def delay(self, partition: int) -> None:
        """Let nothing of a partition become durable until ``deliver``."""
        self._late.add(partition)

    def deliver(self) -> None:
        """End that."""
        self._late.clear()
        waiting, self._waiting = self._waiting, []
        for partition, records, stamp, future in waiting:
            appended = self.append(partition, records, stamp)
            appended.add_done_callback(partial(_pass_on, future))

    def append(
        self, partition: int, records: Sequence[Record], stamp: Stamp
    ) -> asyncio.Future[Position | None]:
        refusal, times = self.refusals.get(records[0].payload, (None, 0))
        future: asyncio.Future[Position | None] = asyncio.get_running_loop().create_future()
        if refusal is not None and times and self._has_room():
            self.refusals[records[0].payload] = refusal, times - 1
            self._refuse(future, refusal, sum(map(size_of, records)))
        elif partition in self._late:
            self._waiting.append((partition, records, stamp, future))
        else:
            return super().append(partition, records, stamp)
        return future

    def _refuse(
        self, future: asyncio.Future[Position | None], refusal: BusRefused, size: int
    ) -> None:
        """Refuse something after a while, in which it takes its room."""

        def refuse() -> None:
            self.backlog_size -= size
            future.set_exception(refusal)
            self._room.look()

        self.backlog_size += size
        asyncio.get_running_loop().call_soon(refuse)


def _pass_on(
    future: asyncio.Future[Position | None], appended: asyncio.Future[Position | None]
) -> None:
    future.set_result(appended.result())


class Reading:
    """A window, and what counts as read: source partition -> the offset behind that."""

    def __init__(self, log: MemoryLog) -> None:
        self.counts = IngressCounts(topic="orders")
        self.upto: dict[int, int] = {}
        self.window = Window(
            Appender(log, SystemClock()),
            self.counts,
            lambda piece: self.upto.update({piece.at.partition: piece.upto}),
        )

    async def send(self, *items: Item) -> None:
        """Send items of one partition, which were read together."""
        first, last = items[0].source, items[-1].source
        piece = self.window.open(
            TopicPartition("orders", first.partition), last.offset + 1, [0] * len(items)
        )
        for at in items:
            await self.window.append(piece, at)
        self.window.close(piece)

    async def landed(self, count: int) -> None:
        """Return when the bus has so many messages."""
        async with asyncio.timeout(BOUND_S):
            while self.counts.messages < count:
                await self.window.change()

    def since_s(self) -> float | None:
        """Return what the window says."""
        return self.window.since_s

    async def refused(self) -> list[tuple[int, str]]:
        """Settle, and return offsets and reasons of what was refused, which is kept aside now."""
        async with asyncio.timeout(BOUND_S):
            refusals = await self.window.settle()
        self.window.kept(refusals)
        return [(at.source.offset, at.reason) for at in refusals]


@pytest.fixture
async def bus() -> AsyncIterator[MemoryBus]:
    bus = MemoryBus(partitions=1)
    yield bus
    await bus.close()


async def payloads(log: MemoryLog, count: int, partition: int = 0) -> list[bytes]:
    async with asyncio.timeout(BOUND_S):
        entries = await read_from(log, {partition: 1_000 * partition + 1}, count)
    return [entry.record().payload for entry in entries]


def numbers(*found: int) -> list[bytes]:
    return [b"%d" % number for number in found]


def topic_in(log: MemoryLog, partition: int) -> str:
    return next(f"t{n}" for n in range(100) if log.partition_of(f"t{n}") == partition)


def test_runs_are_of_one_place_each_and_never_those_of_wills() -> None:
    runs = {run_of("c", topic, number) for topic in ("a", "b") for number in range(500)}
    assert len(runs) == 1_000
    assert {len(run) for run in runs} == {8}
    assert not any(run.startswith(b"will") for run in runs)
    assert run_of("c", "a1", 1) != run_of("c", "a", 11)


async def test_what_is_appended_again_counts_once(bus: MemoryBus) -> None:
    reading = Reading(bus.messages)
    await reading.send(*map(item, range(10)))
    # As after a crash: the offset that was committed is an older one, and Kafka has more now.
    await reading.send(*map(item, range(4, 14)))
    assert await reading.refused() == []
    assert await payloads(bus.messages, 14) == numbers(*range(14))


async def test_a_full_log_is_waited_for() -> None:
    log = MemoryLog(1, 2**20, 100)
    reading = Reading(log)
    async with asyncio.timeout(BOUND_S):
        await reading.send(*map(item, range(200)))
    assert await reading.refused() == []
    assert await payloads(log, 200) == numbers(*range(200))


async def test_the_end_of_the_bus_is_told(bus: MemoryBus) -> None:
    reading = Reading(bus.messages)
    bus.messages.pause()
    await reading.send(item(1))
    await bus.close()
    with pytest.raises(BusUnavailable):
        await reading.window.settle()
    assert reading.window.needs_settling
    assert reading.upto == {}
    with pytest.raises(BusUnavailable):
        await reading.send(item(2))


async def test_what_the_log_has_late_counts_as_read_late_and_the_rest_at_once() -> None:
    log = OddLog(partitions=2)
    reading = Reading(log)
    slow, quick = topic_in(log, 0), topic_in(log, 1)
    log.delay(0)
    await reading.send(item(0, quick, 7), item(1, quick, 7))
    await reading.send(item(0, quick, 8), item(1, slow, 8))
    await reading.send(item(2, quick, 8))
    await reading.send(item(2, quick, 7))
    await reading.landed(5)
    assert await payloads(log, 5, partition=1) == numbers(0, 1, 0, 2, 2)
    # What stands behind the late one in its partition is on the bus, and does not count yet.
    assert reading.upto == {7: 3}
    assert reading.counts.under_way == 3
    assert reading.since_s() is not None
    log.deliver()
    assert await reading.refused() == []
    assert reading.upto == {7: 3, 8: 3}
    assert await payloads(log, 1) == numbers(1)
    assert reading.since_s() is None
    assert reading.counts.under_way == 0


async def test_there_is_room_again_when_the_bus_has_answered() -> None:
    log = OddLog()
    reading = Reading(log)
    log.delay(0)
    await reading.send(*map(item, range(UNDER_WAY_MAX - 1)))
    assert reading.window.room == 1
    await reading.send(item(UNDER_WAY_MAX))
    assert reading.window.room == 0
    waiting = await begun(reading.window.change())
    log.deliver()
    await outcome_of(waiting)
    await reading.refused()
    assert reading.window.room == UNDER_WAY_MAX


async def test_what_the_log_never_takes_counts_as_read_when_it_is_kept_aside() -> None:
    log = OddLog({b"2": (BusRefused("too large"), 1)})
    reading = Reading(log)
    await reading.send(item(0), item(1))
    await reading.send(item(2), item(3))
    await reading.send(item(4, "$SYS/x"))
    refusals = await reading.window.settle()
    assert [(at.source.offset, at.reason) for at in refusals] == [(2, "too large")]
    assert reading.upto == {0: 2}
    # It was not kept, and is told again.
    assert await reading.refused() == [(2, "too large")]
    assert reading.upto == {0: 5}
    assert await payloads(log, 4) == numbers(0, 1, 3, 4)


async def test_what_is_untimely_is_appended_until_it_is_not() -> None:
    log = OddLog({b"3": (LATE, 1), b"4": (LATE, 1)})
    reading = Reading(log)
    await reading.send(*map(item, range(5)))
    assert await reading.refused() == []
    assert await payloads(log, 5) == numbers(*range(5))
    assert reading.upto == {0: 5}


async def test_what_comes_after_something_untimely_waits_for_it() -> None:
    log = OddLog({b"1": (LATE, 1), b"2": (LATE, 1)})
    reading = Reading(log)
    await reading.send(*map(item, range(3)))
    async with asyncio.timeout(BOUND_S):
        while not reading.window.needs_settling:
            await reading.window.change()
        await reading.send(item(3), item(4))
    assert await reading.refused() == []
    assert await payloads(log, 5) == numbers(*range(5))


async def test_a_full_log_that_finds_something_untimely_gives_its_room_to_that_first() -> None:
    log = OddLog({b"0": (LATE, 1)}, append_size_max=1)
    reading = Reading(log)
    await reading.send(*map(item, range(20)))
    assert await reading.refused() == []
    assert await payloads(log, 20) == numbers(*range(20))


async def test_what_is_untimely_again_is_still_before_the_rest() -> None:
    log = OddLog({b"1": (LATE, 2), b"2": (LATE, 1), b"3": (LATE, 1)})
    reading = Reading(log)
    await reading.send(*map(item, range(4)))
    log.shrink()
    assert await reading.refused() == []
    assert reading.upto == {0: 4}
    assert await payloads(log, 4) == numbers(*range(4))


async def test_what_is_read_again_is_not_overtaken_by_what_was_there_before() -> None:
    """As after a hand-over: it would be kept aside, and stands on the log."""
    log = OddLog()
    reading = Reading(log)
    await reading.send(*map(item, range(5)))
    assert await reading.refused() == []
    log.refusals[b"3"] = LATE, 1
    await reading.send(item(2), item(3))
    assert await reading.refused() == []
    assert await payloads(log, 5) == numbers(*range(5))


async def test_what_others_have_overtaken_is_told_and_not_appended() -> None:
    """R1: behind a later one of its run it would count for nothing."""
    log = OddLog({b"3": (LATE, 1)})
    reading = Reading(log)
    await reading.send(*map(item, range(5)))
    ((offset, _),) = await reading.refused()
    assert offset == 3
    assert await payloads(log, 4) == numbers(0, 1, 2, 4)
    runs = Runs(900_000)
    assert runs.is_new(run(0), 4, 0)
    assert not runs.is_new(run(0), 3, 0)
