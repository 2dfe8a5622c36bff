"""Reads the pages that the engine asks for, and brings them to it.

Queues and retained messages may be in different databases, so they have lanes of their own: one
database that does not answer keeps nobody from the pages of the other.
"""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial

from monstermq_shared.errors import StoreError
from monstermq_shared.positions import Partition
from monstermq_shared.sessions.local import LocalEngine, QueueRead, RetainedRead
from monstermq_shared.sessions.local.reads import Read
from monstermq_shared.stores.outages import Outage
from monstermq_shared.stores.ports import MessageReader, SessionStore

READERS = 2
"""Pages of one kind that are read at the same time."""

CLEARED_MAX = 1_000
"""Waiting reads that are looked at after each attempt that failed: about a millisecond."""


class _Lane:
    """Pages of one kind, and what fails of the database they are read from."""

    def __init__(self, name: str, outage: Outage) -> None:
        self.name = name
        self.outage = outage
        self.asked: asyncio.Queue[Read] = asyncio.Queue()


class PageReader:
    """Where pages come from.

    Args:
        engine: Who asks.
        sessions: Where queues are, and what fails of that database.
        retained: Where retained messages are, and what fails of that one.
        partition: Whose queue rows are read.
    """

    def __init__(
        self,
        engine: LocalEngine,
        sessions: tuple[SessionStore, Outage],
        retained: tuple[MessageReader, Outage],
        partition: Partition,
    ) -> None:
        self._engine = engine
        self._sessions, of_queues = sessions
        self._retained, of_retained = retained
        self._partition = partition
        # One read per session and replay can be asked for at a time, so sessions bound the queues;
        # what those have left behind that are gone is cleared away while reads fail.
        self._of_queues = _Lane("queue reads", of_queues)
        self._of_retained = _Lane("retained reads", of_retained)

    def tasks(
        self, touch: Callable[[], None], fail: Callable[[StoreError], None]
    ) -> list[asyncio.Task[None]]:
        """Begin to read; return the tasks, for the caller to cancel.

        Args:
            touch: Makes sure that the loop turn is finished, after a page was brought.
            fail: Told of an error after which the process must stop.
        """
        return [
            asyncio.create_task(self._read_lane(lane, touch, fail), name=lane.name)
            for lane in (self._of_queues, self._of_retained)
            for _ in range(READERS)
        ]

    def ask(self, reads: Iterable[Read]) -> None:
        """Read these pages."""
        for read in reads:
            lane = self._of_queues if isinstance(read, QueueRead) else self._of_retained
            lane.asked.put_nowait(read)

    async def _read_lane(
        self,
        lane: _Lane,
        touch: Callable[[], None],
        fail: Callable[[StoreError], None],
    ) -> None:
        while True:
            read = await lane.asked.get()
            if not self._is_over(read):
                try:
                    await self._read_again_and_again(lane, read)
                except StoreError as exc:
                    fail(exc)
                    return
            touch()
            # A store in memory answers without a pause, and there may be many to be read to.
            await asyncio.sleep(0)

    def _is_over(self, read: Read) -> bool:
        """Whether nobody needs a page any more; then it has been brought, empty."""
        engine = self._engine
        if engine.needs(read):
            return False
        if isinstance(read, RetainedRead):
            engine.retained_page(read, [])
        else:
            engine.queue_page(read, [])
        return True

    async def _read_again_and_again(self, lane: _Lane, read: Read) -> None:
        """Read a page until that succeeds.

        Also if nobody needs it any more by then: it tells that the database is back.
        """
        await lane.outage.repeat(
            lane.name, partial(self._read, read), partial(self._clear, lane.asked)
        )

    def _clear(self, asked: asyncio.Queue[Read]) -> None:
        """Drop what nobody needs any more: clients come and go while their pages wait."""
        for _ in range(min(asked.qsize(), CLEARED_MAX)):
            read = asked.get_nowait()
            if not self._is_over(read):
                asked.put_nowait(read)

    async def _read(self, read: Read) -> None:
        engine = self._engine
        if isinstance(read, RetainedRead):
            records = await self._retained.find(
                read.topic_filter, after=read.after, limit=read.limit
            )
            engine.retained_page(read, records)
            return
        rows = await self._sessions.page(
            self._partition,
            read.session.client_id,
            after=read.after,
            before=read.before,
            limit=read.limit,
        )
        engine.queue_page(read, rows)
