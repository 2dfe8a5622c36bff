"""The partitions that are ours at present, and a follower for each."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any

from monstermq_projector.chunks import Chunk, Reading
from monstermq_shared.bus.kafka.entries import entries_of
from monstermq_shared.bus.kafka.log import KafkaLog
from monstermq_shared.errors import BusUnavailable, MonsterError
from monstermq_shared.kafka.errors import CLIENT_ERRORS, meaning_of
from monstermq_shared.views.log_follower import LogFollower
from monstermq_shared.views.log_loading import Bounds

logger = logging.getLogger(__name__)

LOAD_WAIT_S = 2.0
"""How long a rebalance waits for the database to say where to go on; then it goes on without."""

MakeFollower = Callable[[int], LogFollower[Any]]
"""Partition -> its follower."""


class Following:
    """Takes what Faust brings (``ChunkTarget``), and is the log for its followers (``LogSource``).

    Attributes:
        followers: Partition -> its follower.
        forget: Called before partitions are begun that are dealt out anew.
        assignments: How often partitions were assigned.

    Args:
        log: The log, to be asked where it begins and ends.
        fail: Told of an error after which the process must end.
    """

    def __init__(self, log: KafkaLog, fail: Callable[[MonsterError], None]) -> None:
        self.followers: dict[int, LogFollower[Any]] = {}
        self.assignments = 0
        self.make_follower: MakeFollower
        self.forget: Callable[[], None] = _nothing
        self._log = log
        self._fail = fail
        self._reading: Reading | None = None
        self._tasks: dict[asyncio.Task[None], None] = {}
        # Partitions that will begin to be read once the database has said where.
        self._late: set[int] = set()

    # -- for Faust -------------------------------------------------------------------------------

    def assigned(self, partitions: Collection[int], reading: Reading) -> None:
        """See ``ChunkTarget.assigned``."""
        self.revoked()
        self._reading = reading
        self.assignments += 1
        self.forget()
        logger.info("partitions %s are ours", ", ".join(map(str, sorted(partitions))) or "(none)")
        for number in sorted(partitions):
            follower = self.followers[number] = self.make_follower(number)
            self._start(follower.run(), f"the follower of partition {number}")

    def revoked(self) -> None:
        """See ``ChunkTarget.revoked``."""
        for task in self._tasks:
            task.cancel()
        for follower in self.followers.values():
            follower.close()
        self.followers = {}
        self._late.clear()

    async def positions(self) -> Mapping[int, int]:
        """See ``ChunkTarget.positions``."""
        followers = dict(self.followers)
        loading = [
            asyncio.create_task(follower.loaded.wait())
            for follower in followers.values()
            if not follower.loaded.is_set()
        ]
        if loading:
            await asyncio.wait(loading, timeout=LOAD_WAIT_S)
            for task in loading:
                task.cancel()
        for number, follower in followers.items():
            if not follower.loaded.is_set() and number not in self._late:
                self._late.add(number)
                self._start(self._begin_late(number, follower), f"the start of partition {number}")
        known = {
            number: follower.position
            for number, follower in followers.items()
            if follower.position is not None
        }
        behind = sum(followers[number].behind for number in known)
        logger.info(
            "%d of %d partitions go on, %d records behind the end",
            *(len(known), len(followers), behind),
        )
        return known

    async def deliver(self, chunk: Chunk) -> None:
        """See ``ChunkTarget.deliver``."""
        follower = self.followers.get(chunk.partition)
        if follower is not None:
            await follower.deliver(entries_of(chunk.records))

    async def _begin_late(self, number: int, follower: LogFollower[Any]) -> None:
        await follower.loaded.wait()
        while follower.position is not None and self.followers.get(number) is follower:
            with suppress(BusUnavailable):
                await self.read_from(number, follower.position)
                return

    def _start(self, work: Any, name: str) -> None:  # noqa: ANN401 - a coroutine
        task = asyncio.create_task(work, name=name)
        self._tasks[task] = None
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.critical("%s failed", task.get_name(), exc_info=error)
            self._fail(MonsterError(f"a fault in the projector ended {task.get_name()}"))

    async def close(self) -> None:
        """End all followers."""
        tasks = list(self._tasks)
        self.revoked()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- for followers ---------------------------------------------------------------------------

    async def bounds(self, partition: int) -> Bounds:
        """See ``LogSource.bounds``."""
        first = (await self._log.first_positions())[partition]
        end = (await self._log.end_positions())[partition]
        return Bounds(first, end)

    async def read_from(self, partition: int, offset: int) -> None:
        """See ``LogSource.read_from``."""
        if self._reading is None:
            return
        try:
            await self._reading.read_from(partition, offset)
        except CLIENT_ERRORS as exc:
            raise BusUnavailable(f"Kafka does not take a new position: {meaning_of(exc)}") from exc

    def hold(self, partition: int) -> None:
        """See ``LogSource.hold``."""
        if self._reading is not None:
            self._reading.hold(partition)

    # -- for whoever looks -----------------------------------------------------------------------

    def stopped(self) -> Iterator[str]:
        """Yield what does not go on until somebody acts, and why."""
        for follower in self.followers.values():
            yield from follower.stopped

    def reflected(self) -> Mapping[int, Mapping[str, int]]:
        """Return partition -> projection -> up to where its rows reflect the partition."""
        return {number: at.reflected() for number, at in self.followers.items()}


def _nothing() -> None:
    """Nobody has anything to forget."""
