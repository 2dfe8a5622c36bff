"""Read-only connections: what is asked on them can change nothing, and ends in time."""

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from monstermq_shared.errors import (
    NotSupported,
    QueryTimedOut,
    StoreError,
    StoreUnavailable,
)
from monstermq_shared.stores.sqlite.errors import translated
from monstermq_shared.stores.sqlite.files import MEMORY

T = TypeVar("T")

Ask = Callable[[sqlite3.Connection], T]

_WAITING_MAX = 64
"""Questions that may wait for a connection; more are refused, so that none waits for ever."""

# The page cache stays at the default of 2 MB: every commit of the broker empties it anyway, and
# a page that is read once is copied faster to where the processor's own cache still is.
_QUERY_ONLY = "PRAGMA query_only = ON"

_STEPS = 200_000
"""Steps of SQLite's machine, some milliseconds, between two looks at the clock.

Each look waits for the interpreter lock, which the event loop may be holding.
"""

_LATE_S = 0.5
"""How long after its time a question is given up that does not look at the clock."""


class Connections:
    """A few connections, opened when they are first needed, each with a thread.

    Args:
        path: The database file, as the configuration has it.
        timeout_s: Seconds after which a question is given up, its waiting included.
        size: How many questions run at the same time.
    """

    def __init__(
        self,
        path: str,
        *,
        timeout_s: float,
        size: int = 2,
    ) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._size = size
        self._idle: queue.SimpleQueue[_Connection] = queue.SimpleQueue()
        self._threads: ThreadPoolExecutor | None = None
        self._asked = 0
        self._closed = threading.Event()

    async def run(self, ask: Ask[T]) -> T:
        """Call ``ask`` with a connection, on another thread; return what it returns.

        Raises:
            NotSupported: The database is in memory, where only the broker can read it.
            QueryTimedOut: It took too long.
            StoreUnavailable: The file cannot be opened or read now, or too many are waiting.
            StoreError: See ``translated``.
        """
        if self._path == MEMORY:
            raise NotSupported(
                "questions are not supported by SQLITE in memory; set SQLite.Path to a file"
            )
        if self._closed.is_set():
            raise StoreError(f"{self._path} has been closed")
        if self._asked >= self._size + _WAITING_MAX:
            raise StoreUnavailable(f"{self._path}: too many questions at a time; ask again later")
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._size, thread_name_prefix="sqlite-query")
        turn = _Turn(time.monotonic() + self._timeout_s, self._closed)
        self._asked += 1
        future = asyncio.get_running_loop().run_in_executor(self._threads, self._work, ask, turn)
        future.add_done_callback(self._finished)
        try:
            async with asyncio.timeout(self._timeout_s + _LATE_S):
                return await asyncio.shield(future)
        except TimeoutError as exc:
            raise self._timed_out() from exc
        finally:
            turn.given_up.set()

    async def close(self) -> None:
        """End what is running, and close all connections. A second call does nothing."""
        self._closed.set()
        if self._threads is not None:
            threads, self._threads = self._threads, None
            await asyncio.to_thread(threads.shutdown)
        while not self._idle.empty():
            self._idle.get_nowait().close()

    def _finished(self, future: "asyncio.Future[T]") -> None:
        self._asked -= 1
        if not future.cancelled():
            # Nobody may be waiting for its error any more.
            future.exception()

    def _work(self, ask: Ask[T], turn: "_Turn") -> T:
        if turn.is_over():
            raise self._timed_out()
        with translated(self._path):
            connection = self._connection()
            connection.handle.set_progress_handler(turn.is_over, _STEPS)
            try:
                result = ask(connection.handle)
            except sqlite3.OperationalError as exc:
                connection.close()
                if exc.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                    raise self._timed_out() from exc
                raise
            except BaseException:
                connection.close()
                raise
            connection.handle.set_progress_handler(None, 0)
            self._idle.put(connection)
            return result

    def _connection(self) -> "_Connection":
        """Return one that nobody uses, of the file that is there now."""
        while True:
            try:
                connection = self._idle.get_nowait()
            except queue.Empty:
                return _Connection(Path(self._path))
            if connection.is_current():
                return connection
            connection.close()

    def _timed_out(self) -> QueryTimedOut:
        return QueryTimedOut(
            f"the SQLite database {self._path} has not answered within {self._timeout_s:g} "
            "seconds; ask for less: a narrower filter, a shorter stretch of time"
        )


class _Turn:
    """How long one question may run.

    Args:
        deadline: When it is over, as ``time.monotonic`` counts.
        closed: Set when nobody is to ask any more.

    Attributes:
        given_up: Set when nobody waits for it any more.
    """

    def __init__(self, deadline: float, closed: threading.Event) -> None:
        self._deadline = deadline
        self._closed = closed
        self.given_up = threading.Event()

    def is_over(self) -> bool:
        """Tell whether it must end now; SQLite asks while it works."""
        over = self.given_up.is_set() or self._closed.is_set()
        return over or time.monotonic() >= self._deadline


class _Connection:
    """A connection, and which file it is of: a restored backup puts another in its place."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _identity(path)
        self.handle = sqlite3.connect(
            f"file:{quote(str(path))}?mode=ro", uri=True, check_same_thread=False
        )
        try:
            self.handle.execute(_QUERY_ONLY)
        except BaseException:
            self.handle.close()
            raise

    def is_current(self) -> bool:
        """Tell whether the path still leads to the file that is open."""
        return _identity(self._path) == self._file

    def close(self) -> None:
        """Close it."""
        self.handle.close()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
