"""Reads the pages that the engine asks for, and brings them to it.

Queues and retained messages may be in different databases, so they have lanes of their own: one
database that does not answer keeps nobody from the pages of the other.
"""

import asyncio
from collections.abc import Callable, Iterable

from monstermq_edge.engines.lane import Lane
from monstermq_shared.errors import StoreError
from monstermq_shared.positions import Partition
from monstermq_shared.sessions.local import LocalEngine, QueueRead, RetainedRead
from monstermq_shared.sessions.local.reads import Read
from monstermq_shared.stores.outages import Outage
from monstermq_shared.stores.ports import MessageReader, SessionStore


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
        self._of_queues = Lane[QueueRead](
            "queue reads", of_queues, self._is_queue_over, self._read_queue
        )
        self._of_retained = Lane[RetainedRead](
            "retained reads", of_retained, self._is_retained_over, self._read_retained
        )

    def tasks(
        self, touch: Callable[[], None], fail: Callable[[StoreError], None]
    ) -> list[asyncio.Task[None]]:
        """See ``Lane.tasks``."""
        return [*self._of_queues.tasks(touch, fail), *self._of_retained.tasks(touch, fail)]

    def ask(self, reads: Iterable[Read]) -> None:
        """Read these pages."""
        for read in reads:
            if isinstance(read, QueueRead):
                self._of_queues.asked.put_nowait(read)
            else:
                self._of_retained.asked.put_nowait(read)

    def _is_queue_over(self, read: QueueRead) -> bool:
        if self._engine.needs(read):
            return False
        self._engine.queue_page(read, [])
        return True

    def _is_retained_over(self, read: RetainedRead) -> bool:
        if self._engine.needs(read):
            return False
        self._engine.retained_page(read, [])
        return True

    async def _read_retained(self, read: RetainedRead) -> None:
        records = await self._retained.find(read.topic_filter, after=read.after, limit=read.limit)
        self._engine.retained_page(read, records)

    async def _read_queue(self, read: QueueRead) -> None:
        rows = await self._sessions.page(
            self._partition,
            read.session.client_id,
            after=read.after,
            before=read.before,
            limit=read.limit,
        )
        self._engine.queue_page(read, rows)
