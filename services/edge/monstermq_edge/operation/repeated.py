"""Work that many may ask for at once, done one at a time and no more often than needed."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager


class Repeated:
    """Whoever asks gets a run that begins afterwards; all who ask during one share the next.

    Args:
        work: One run.
        contained: Makes what each run is done in, which keeps its faults.
    """

    def __init__(
        self,
        work: Callable[[], Awaitable[None]],
        contained: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._work = work
        self._contained = contained
        self._wanted = False
        self._task: asyncio.Task[None] | None = None

    def ask(self) -> None:
        """Have it done, now or after the run that is going on."""
        self._wanted = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def end(self) -> None:
        """Begin no more runs, and wait for the one that is going on."""
        self._wanted = False
        await self.idle()

    async def idle(self) -> None:
        """Wait until everything that was asked for is done."""
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        while self._wanted:
            self._wanted = False
            with self._contained():
                await self._work()
