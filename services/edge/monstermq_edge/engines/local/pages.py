"""Reads the pages that the engine asks for."""

from monstermq_shared.positions import Partition
from monstermq_shared.records import Record
from monstermq_shared.sessions.local import QueueRead, RetainedRead
from monstermq_shared.stores.changes import QueuedMessage
from monstermq_shared.stores.ports import MessageReader, SessionStore


class PageReader:
    """Where pages come from.

    Args:
        sessions: Where queues are.
        retained: Where retained messages are.
        partition: Whose queue rows are read.
    """

    def __init__(
        self, sessions: SessionStore, retained: MessageReader, partition: Partition
    ) -> None:
        self._sessions = sessions
        self._retained = retained
        self._partition = partition

    async def queue(self, read: QueueRead) -> list[QueuedMessage]:
        """Read a page of a queue.

        Raises:
            StoreUnavailable: It may be repeated.
            StoreError: The database refuses.
        """
        return await self._sessions.page(
            self._partition,
            read.session.client_id,
            after=read.after,
            before=read.before,
            limit=read.limit,
        )

    async def retained(self, read: RetainedRead) -> list[Record]:
        """Read a page of the retained messages.

        Raises:
            StoreUnavailable: It may be repeated.
            StoreError: The database refuses.
        """
        return await self._retained.find(read.topic_filter, after=read.after, limit=read.limit)
