"""The marks of archives in Kafka, which live in another database: that of the sessions."""

import asyncio
import logging
from contextlib import suppress

from monstermq_shared.errors import StoreError, StoreUnavailable
from monstermq_shared.retries import pause
from monstermq_shared.stores.changes import Commit, CommitResult, Tenure
from monstermq_shared.stores.ports import Database

logger = logging.getLogger(__name__)

INTERVAL_S = 1.0
"""How often a mark is moved that nothing but the next start depends on."""

CLOSE_S = 2.0
"""How long the end waits for the last one."""


class Marks:
    """Moves the marks of one tenure, each time by a small commit of its own.

    What is in Kafka is never kept waiting for a mark that may come later: ``later`` notes how far
    it is, and a task brings the mark there now and then. ``commit`` moves it at once.

    Args:
        database: Where they are.
        tenure: The right to move them.
    """

    def __init__(self, database: Database, tenure: Tenure) -> None:
        self._database = database
        self._tenure = tenure
        self._upto = 0
        self._written = 0
        self._unknown: Commit | None = None
        self._error: StoreError | None = None
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def later(self, upto: int) -> None:
        """Let the marks come to here soon.

        Raises:
            StoreError: The last try has failed for good.
        """
        if self._error is not None:
            raise self._error
        self._upto = upto
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._follow(), name="marks of archives in Kafka")

    async def commit(self, commit: Commit) -> CommitResult:
        """Move them now, with what is kept beside them; as ``Database.commit``.

        Raises:
            StoreError: See there.
        """
        async with self._turn:
            if self._error is not None:
                raise self._error
            await self._settle(commit)
            result = await self._database.commit(self._tenure, commit)
            self._written = max(self._written, commit.upto)
            return result

    def are_taken_by(self, tenure: Tenure) -> bool:
        """Whether another tenure ends this one."""
        mine = self._tenure
        return mine.partition == tenure.partition and not set(mine.projections).isdisjoint(
            tenure.projections
        )

    def stop(self) -> None:
        """Move them no more."""
        if self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        """Move them to where they should be, if that takes no longer than ``CLOSE_S``."""
        self.stop()
        if self._task is not None:
            await asyncio.wait([self._task])
        if self._upto > self._written and self._error is None:
            with suppress(StoreError, TimeoutError):
                async with asyncio.timeout(CLOSE_S), self._turn:
                    await self._move()

    async def _follow(self) -> None:
        failures = 0
        while self._upto > self._written:
            await asyncio.sleep(INTERVAL_S)
            try:
                async with self._turn:
                    await self._move()
            except StoreUnavailable as exc:
                # The database has others that ask it, and tell what is wrong.
                logger.debug("the marks of archives in Kafka stay behind: %s", exc)
                await pause(failures)
                failures += 1
            except StoreError as exc:
                self._error = exc
                return
            else:
                failures = 0

    async def _move(self) -> None:
        commit = self._unknown or Commit(upto=self._upto)
        self._unknown = commit
        await self._database.commit(self._tenure, commit)
        self._written, self._unknown = commit.upto, None

    async def _settle(self, commit: Commit) -> None:
        """Repeat a try whose outcome nobody knows: what follows it must not be taken for it."""
        if self._unknown is not None and self._unknown != commit:
            await self._move()
