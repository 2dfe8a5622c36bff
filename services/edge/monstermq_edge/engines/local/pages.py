"""Reads the pages that the engine asks for, and brings them to it.

Queues and retained messages may be in different databases, so they have lanes of their own: one
database that does not answer keeps nobody from the pages of the other.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable

from monstermq_shared.errors import StoreError, StoreUnavailable
from monstermq_shared.positions import Partition
from monstermq_shared.retries import pause
from monstermq_shared.sessions.local import LocalEngine, QueueRead, RetainedRead
from monstermq_shared.sessions.local.reads import Read
from monstermq_shared.stores.ports import MessageReader, SessionStore

logger = logging.getLogger(__name__)

READERS = 2
"""Pages of one kind that are read at the same time."""

CLEARED_MAX = 1_000
"""Waiting reads that are looked at after each attempt that failed: about a millisecond."""


class PageReader:
    """Where pages come from.

    Args:
        engine: Who asks.
        sessions: Where queues are.
        retained: Where retained messages are.
        partition: Whose queue rows are read.
    """

    def __init__(
        self,
        engine: LocalEngine,
        sessions: SessionStore,
        retained: MessageReader,
        partition: Partition,
    ) -> None:
        self._engine = engine
        self._sessions = sessions
        self._retained = retained
        self._partition = partition
        # One read per session and replay can be asked for at a time, so sessions bound the queues;
        # what those have left behind that are gone is cleared away while reads fail.
        self._of_queues: asyncio.Queue[Read] = asyncio.Queue()
        self._of_retained: asyncio.Queue[Read] = asyncio.Queue()
        self._failing: dict[asyncio.Queue[Read], str] = {}

    def tasks(
        self, touch: Callable[[], None], fail: Callable[[StoreError], None]
    ) -> list[asyncio.Task[None]]:
        """Begin to read; return the tasks, for the caller to cancel.

        Args:
            touch: Makes sure that the loop turn is finished, after a page was brought.
            fail: Told of an error after which the process must stop.
        """
        lanes = {"queue reads": self._of_queues, "retained reads": self._of_retained}
        return [
            asyncio.create_task(self._read_lane(lane, touch, fail), name=name)
            for name, lane in lanes.items()
            for _ in range(READERS)
        ]

    def ask(self, reads: Iterable[Read]) -> None:
        """Read these pages."""
        for read in reads:
            lane = self._of_queues if isinstance(read, QueueRead) else self._of_retained
            lane.put_nowait(read)

    @property
    def failing(self) -> list[str]:
        """Why pages cannot be read now."""
        return [*self._failing.values()]

    async def _read_lane(
        self,
        lane: asyncio.Queue[Read],
        touch: Callable[[], None],
        fail: Callable[[StoreError], None],
    ) -> None:
        while True:
            read = await lane.get()
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

    async def _read_again_and_again(self, lane: asyncio.Queue[Read], read: Read) -> None:
        """Read a page until that succeeds.

        Also if nobody needs it any more by then: it tells that the database is back.
        """
        attempt = 0
        while True:
            try:
                await self._read(read)
            except StoreUnavailable as exc:
                if lane not in self._failing:
                    logger.warning("reads fail, they are repeated: %s", exc)
                self._failing[lane] = f"pages cannot be read: {exc}"
                self._clear(lane)
                await pause(attempt)
                attempt += 1
            else:
                if self._failing.pop(lane, None) is not None:
                    logger.warning("reads succeed again")
                return

    def _clear(self, lane: asyncio.Queue[Read]) -> None:
        """Drop what nobody needs any more: clients come and go while their pages wait."""
        for _ in range(min(lane.qsize(), CLEARED_MAX)):
            read = lane.get_nowait()
            if not self._is_over(read):
                lane.put_nowait(read)

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
