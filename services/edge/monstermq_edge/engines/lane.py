"""Reads what an engine asks for from one database, again and again while that is unavailable."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Generic, TypeVar

from monstermq_shared.errors import StoreError
from monstermq_shared.stores.outages import Outage

R = TypeVar("R")

READERS = 2
"""Pages of one kind that are read at the same time."""

CLEARED_MAX = 1_000
"""Waiting reads that are looked at after each attempt that failed: about a millisecond."""


class Lane(Generic[R]):
    """Pages of one kind, so that a database that does not answer holds up no others.

    Attributes:
        asked: What waits. The engine asks for one page per session and replay at a time, so
            sessions bound it; what those have left behind that are gone is cleared away while
            reads fail.

    Args:
        name: What is read, as the log names it.
        outage: What fails of its database.
        is_over: Whether nobody needs a page any more; then it has been brought, empty.
        read: Reads a page and brings it to the engine.
    """

    def __init__(
        self,
        name: str,
        outage: Outage,
        is_over: Callable[[R], bool],
        read: Callable[[R], Awaitable[None]],
    ) -> None:
        self.asked: asyncio.Queue[R] = asyncio.Queue()
        self._name = name
        self._outage = outage
        self._is_over = is_over
        self._read = read

    def tasks(
        self, touch: Callable[[], None], fail: Callable[[StoreError], None]
    ) -> list[asyncio.Task[None]]:
        """Begin to read; return the tasks, for the caller to cancel.

        Args:
            touch: Makes sure that the loop turn is finished, after a page was brought.
            fail: Told of an error after which the process must stop.
        """
        return [
            asyncio.create_task(self._run(touch, fail), name=self._name) for _ in range(READERS)
        ]

    async def _run(self, touch: Callable[[], None], fail: Callable[[StoreError], None]) -> None:
        while True:
            read = await self.asked.get()
            if not self._is_over(read):
                try:
                    await self._read_again_and_again(read)
                except StoreError as exc:
                    fail(exc)
                    return
            touch()
            # A store in memory answers without a pause, and there may be many to be read to.
            await asyncio.sleep(0)

    async def _read_again_and_again(self, read: R) -> None:
        """Read a page until that succeeds.

        Also if nobody needs it any more by then: it tells that the database is back.
        """
        await self._outage.repeat(self._name, partial(self._read, read), self._clear)

    def _clear(self) -> None:
        """Drop what nobody needs any more: clients come and go while their pages wait."""
        for _ in range(min(self.asked.qsize(), CLEARED_MAX)):
            read = self.asked.get_nowait()
            if not self._is_over(read):
                self.asked.put_nowait(read)
