"""The one thread that writes: jobs in order, each on the one writing connection."""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from monstermq_shared.errors import StoreError
from monstermq_shared.stores.sqlite.errors import translated
from monstermq_shared.stores.sqlite.rescue import Guard

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

_LOOK_S = 2.0
"""How often the files are looked at while nothing is written."""

_LOOK_LASTS_S = 0.1
"""How long one look at the files is enough: under load it costs as much as some statements.

What is committed before the next one may be acknowledged, since it is in the rescue.
"""

_RESCUE_AT_STOP_S = 15.0
"""How long a stop waits for the rescue of a lost database, before it is given up."""
_INTERRUPT_S = 0.5


class Writer:
    """A thread of our own on ``sqlite3``: a transaction costs one hand-over, not one a statement.

    The queue is bounded by its users: one commit at a time, and one slice of maintenance per
    store. A commit never waits for more than the slices that are queued.

    Args:
        connection: The writing connection; from now on only the thread touches it.
        where: The database, as errors name it.
        guard: What is asked before and after each job whether the files are still the database's;
            None for one in memory.
    """

    def __init__(
        self, connection: sqlite3.Connection, where: str, guard: Guard | None = None
    ) -> None:
        self._connection = connection
        self._where = where
        self._guard = guard
        self._ended = threading.Event()
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

    @property
    def lost(self) -> str | None:
        """What has happened to the files, see ``Guard``; None if all is well."""
        return None if self._guard is None else self._guard.lost

    async def close(self) -> None:
        """Finish the jobs that are queued and close the connection.

        If the files are lost, it is left open: closing it would move its log into whatever is in
        the database's place, or remove what lies beside that. It ends with the process.
        """
        self._closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._wait_for_end)

    def _wait_for_end(self) -> None:
        self._ended.wait(_RESCUE_AT_STOP_S)
        # One that comes between two statements interrupts nothing.
        while not self._ended.wait(_INTERRUPT_S):
            if self.lost is not None:
                self._connection.interrupt()

    def _run(self) -> None:
        try:
            self._work()
            self._end()
        finally:
            # Whoever closes waits for it, whatever has failed.
            self._ended.set()

    def _work(self) -> None:
        """Do the jobs, until there is none any more."""
        moved = 0
        while True:
            worthwhile = self._connection.total_changes - moved >= _CHECKPOINT_ROWS
            try:
                item = self._jobs.get(timeout=self._patience_s(checkpoint=worthwhile))
            except queue.Empty:
                self._rest(checkpoint=worthwhile)
                if worthwhile:
                    moved = self._connection.total_changes
                continue
            if item is None:
                return
            self._run_job(*item)

    def _patience_s(self, *, checkpoint: bool) -> float | None:
        if checkpoint:
            return _CHECKPOINT_IDLE_S
        return None if self._guard is None else _LOOK_S

    def _run_job(self, job: Job[T], future: asyncio.Future[T]) -> None:
        try:
            with translated(self._where):
                self._check(age_s=_LOOK_LASTS_S)
                result = job(self._connection)
                self._check(age_s=_LOOK_LASTS_S)
        except BaseException as exc:  # noqa: BLE001 - whoever awaits the future gets it
            self._loop.call_soon_threadsafe(_fail, future, self._cause(exc))
        else:
            self._loop.call_soon_threadsafe(_succeed, future, result)
        self._rescue()

    def _rest(self, *, checkpoint: bool) -> None:
        """Look at the files, and do what is better done while there is no job."""
        try:
            self._check()
            if checkpoint:
                self._checkpoint()
                self._check()
        except StoreError:
            self._rescue()

    def _end(self) -> None:
        with suppress(StoreError):
            self._check()
        if self._guard is not None and self._guard.lost is not None:
            self._rescue(at_last=True)
            self._ended.set()
            # Not even the end of the interpreter closes what this thread holds.
            threading.Event().wait()
        self._connection.close()
        if self._guard is not None:
            self._guard.close()

    def _check(self, *, age_s: float = 0.0) -> None:
        if self._guard is not None:
            self._guard.check(age_s=age_s)

    def _cause(self, error: BaseException) -> BaseException:
        """Return why a job failed: what looks like damage may be a file that was truncated."""
        if isinstance(error, StoreError):
            try:
                self._check()
            except StoreError as exc:
                return exc
        return error

    def _rescue(self, *, at_last: bool = False) -> None:
        if self._guard is not None:
            self._guard.rescue(self._connection, at_last=at_last)

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
