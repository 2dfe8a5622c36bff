"""The one thread that writes: jobs in order, each on the one writing connection."""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from monstermq_shared.errors import StoreError
from monstermq_shared.stores.sqlite.errors import translated

T = TypeVar("T")

Job = Callable[[sqlite3.Connection], T]

_CHECKPOINT_IDLE_S = 0.5
"""After so long without a job the write-ahead log may be moved into the database.

Under load SQLite does that by itself, see ``opening``; idle time is the better time for it.
"""

_CHECKPOINT_ROWS = 16_384
"""Fewer changed rows than this are left in the log: their pages will change again.

A checkpoint writes every page once more that has changed, so one in every pause of a few messages
would nearly double what these write.
"""


class Writer:
    """A thread of our own on ``sqlite3``: a transaction costs one hand-over, not one a statement.

    The queue is bounded by its users: one commit at a time, and one slice of maintenance per
    store. A commit never waits for more than the slices that are queued.

    Args:
        connection: The writing connection; from now on only the thread touches it.
        where: The database, as errors name it.
    """

    def __init__(self, connection: sqlite3.Connection, where: str) -> None:
        self._connection = connection
        self._where = where
        self._jobs: queue.SimpleQueue[tuple[Job[Any], asyncio.Future[Any]] | None] = (
            queue.SimpleQueue()
        )
        self._loop = asyncio.get_running_loop()
        self._closed = False
        # A daemon, so that a process that dies of an error does not hang here.
        self._thread = threading.Thread(target=self._run, name="sqlite-writer", daemon=True)
        self._thread.start()

    def submit(self, job: Job[T]) -> asyncio.Future[T]:
        """Have the thread call the job; the future has its result, or its error as ours.

        Jobs are run in order. A job that is running cannot be cancelled.

        Raises:
            StoreError: The writer has been closed.
        """
        if self._closed:
            raise StoreError(f"{self._where} has been closed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put((job, future))
        return future

    async def close(self) -> None:
        """Finish the jobs that are queued and close the connection."""
        self._closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        moved = 0
        while True:
            worthwhile = self._connection.total_changes - moved >= _CHECKPOINT_ROWS
            try:
                item = self._jobs.get(timeout=_CHECKPOINT_IDLE_S if worthwhile else None)
            except queue.Empty:
                self._checkpoint()
                moved = self._connection.total_changes
                continue
            if item is None:
                break
            self._run_job(*item)
        self._connection.close()

    def _run_job(self, job: Job[T], future: asyncio.Future[T]) -> None:
        try:
            with translated(self._where):
                result = job(self._connection)
        except BaseException as exc:  # noqa: BLE001 - whoever awaits the future gets it
            self._loop.call_soon_threadsafe(_fail, future, exc)
        else:
            self._loop.call_soon_threadsafe(_succeed, future, result)

    def _checkpoint(self) -> None:
        """Move the write-ahead log into the database, as far as no reader needs it."""
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error:
            # Nothing is lost: the next commit meets the same trouble, and reports it.
            return


def _succeed(future: asyncio.Future[T], result: T) -> None:
    if not future.cancelled():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.cancelled():
        future.set_exception(error)
