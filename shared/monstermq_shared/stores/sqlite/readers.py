"""How stores read: beside the writer with aiosqlite, or for ``:memory:`` on the writer's thread."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import aiosqlite

from monstermq_shared.errors import StoreDamaged, StoreError
from monstermq_shared.stores.sqlite.errors import translated
from monstermq_shared.stores.sqlite.files import MEMORY
from monstermq_shared.stores.sqlite.writer import Writer

Row = tuple[Any, ...]

_READERS = 2
"""Connections, each with a thread: a long history query does not hold up a replay."""

_READER_PRAGMAS = ("PRAGMA query_only = ON", "PRAGMA cache_size = -16384")


class Reader(Protocol):
    """Runs queries."""

    async def fetch(self, query: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Return the rows. Best called for few rows: see ``fragments.sql``.

        Raises:
            StoreError: It is closed, or see ``translated``.
        """
        ...


class Readers(Reader, Protocol):
    """Runs queries that see everything committed before the call."""

    def snapshot(self) -> AbstractAsyncContextManager[Reader]:
        """Return what sees everything as it was at the moment this is entered."""
        ...

    async def close(self) -> None:
        """Close what was opened."""
        ...


class FileReaders:
    """A small number of aiosqlite connections, opened when they are first needed.

    Args:
        path: The database file; it is open for writing already.
        writer: Its writer, which is closed after the readers.
    """

    def __init__(self, path: Path, writer: Writer) -> None:
        self._path = path
        self._writer = writer
        self._closed = False
        self._slots = [_Slot() for _ in range(_READERS)]
        self._turns = cycle(self._slots)

    async def fetch(self, query: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Return the rows."""
        slot = next(self._turns)
        async with slot.lock:
            self._check_open()
            if slot.connection is None:
                slot.connection = await self._connect()
        return await self._fetch(slot.connection, query, parameters)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Reader]:
        """Return what sees one moment: a connection of its own, with a transaction."""
        self._check_open()
        connection = await self._connect()
        try:
            fetch = partial(self._fetch, connection)
            await fetch("BEGIN")
            await fetch("SELECT 1 FROM sqlite_schema")  # the moment is that of the first read
            yield _Snapshot(fetch)
        finally:
            await connection.close()

    async def _fetch(
        self, connection: aiosqlite.Connection, query: str, parameters: Sequence[object] = ()
    ) -> list[Row]:
        try:
            with translated(str(self._path)):
                return [tuple(row) for row in await connection.execute_fetchall(query, parameters)]
        except StoreDamaged:
            # What looks like damage may be a file that was truncated: the writer finds out.
            await self._writer.submit(lambda _: None)
            raise

    async def close(self) -> None:
        """Close the connections, also those that are just being opened; and open no more."""
        self._closed = True
        for slot in self._slots:
            async with slot.lock:
                if slot.connection is not None:
                    await slot.connection.close()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"{self._path} has been closed")

    async def _connect(self) -> aiosqlite.Connection:
        # A thread is a daemon if the one that makes it is: as the writer's, it must not keep a
        # process alive that dies of an error.
        connection = await self._writer.submit(
            # Never makes a file, should the database be gone just now.
            lambda _: aiosqlite.connect(
                f"file:{quote(str(self._path))}?mode=rw", uri=True, isolation_level=None
            )
        )
        with translated(str(self._path)):
            await connection
            try:
                for pragma in _READER_PRAGMAS:
                    await connection.execute_fetchall(pragma)
            except BaseException:
                await connection.close()
                raise
        return connection


class _Snapshot:
    """Runs queries by way of a function."""

    def __init__(self, fetch: Callable[[str, Sequence[object]], Awaitable[list[Row]]]) -> None:
        self._fetch = fetch

    async def fetch(self, query: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Return the rows."""
        return await self._fetch(query, parameters)


class _Slot:
    """Where a connection is, or will be; the lock is held while it is opened."""

    def __init__(self) -> None:
        self.connection: aiosqlite.Connection | None = None
        self.lock = asyncio.Lock()


class WriterReaders:
    """Reads on the writer's connection, which alone sees a database that is in memory."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def fetch(self, query: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Return the rows."""

        def run(connection: sqlite3.Connection) -> list[Row]:
            return connection.execute(query, parameters).fetchall()

        return await self._writer.submit(run)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Reader]:
        """Return what sees one moment: a copy. At a start, which asks for it, nothing is there."""
        copy = sqlite3.connect(MEMORY, check_same_thread=False)
        try:
            await self._writer.submit(lambda connection: connection.backup(copy))

            async def fetch(query: str, parameters: Sequence[object]) -> list[Row]:
                return await self._writer.submit(
                    lambda _: copy.execute(query, parameters).fetchall()
                )

            yield _Snapshot(fetch)
        finally:
            copy.close()

    async def close(self) -> None:
        """Do nothing: the connection is the writer's."""
