"""Waiting until a log takes an append again."""

import asyncio
from collections.abc import Callable

from monstermq_shared.errors import BusUnavailable

WAITERS_MAX = 1_000
"""Who may wait for one log at a time; for one more it is unavailable at once."""


class Room:
    """Those who wait for room in one log.

    Args:
        is_there: Whether an append would be taken now. If it says no, ``look`` is called after it
            may have changed.
        waiters_max: How many may wait.
    """

    def __init__(self, is_there: Callable[[], bool], waiters_max: int = WAITERS_MAX) -> None:
        self._is_there = is_there
        self._waiters_max = waiters_max
        self._waiting: dict[asyncio.Future[None], None] = {}
        self._closed = False

    async def wait(self) -> None:
        """See ``LogPort.room``."""
        while not self._closed and not self._is_there():
            if len(self._waiting) >= self._waiters_max:
                raise BusUnavailable(f"{self._waiters_max} others wait for room already")
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting[future] = None
            try:
                await future
            finally:
                del self._waiting[future]
        if self._closed:
            raise BusUnavailable("the bus is closed")

    def look(self) -> None:
        """Something has become free: wake those who wait, if it is enough."""
        if self._waiting and self._is_there():
            self._wake()

    def close(self) -> None:
        """There is never room again."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
