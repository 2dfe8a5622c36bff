"""How stores read: beside the writer with aiosqlite, or for ``:memory:`` on the writer's thread."""

import asyncio
import sqlite3
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import aiosqlite

from monstermq_shared.errors import StoreDamaged, StoreError
from monstermq_shared.stores.sqlite.errors import translated
from monstermq_shared.stores.sqlite.writer import Writer

Row = tuple[Any, ...]

_READERS = 2
"""Connections, each with a thread: a long history query does not hold up a replay."""

_READER_PRAGMAS = ("PRAGMA query_only = ON", "PRAGMA cache_size = -16384")


class Readers(Protocol):
    """Runs queries that see everything committed before the call."""

    async def fetch(self, query: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Return the rows. Best called for few rows: see ``fragments.sql``."""
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
        """Return the rows.

        Raises:
            StoreError: The readers are closed, or see ``translated``.
        """
        try:
            return await self._fetch(query, parameters)
        except StoreDamaged:
            # What looks like damage may be a file that was truncated: the writer finds out.
            await self._writer.submit(lambda _: None)
            raise

    async def _fetch(self, query: str, parameters: Sequence[object]) -> list[Row]:
        slot = next(self._turns)
        with translated(str(self._path)):
            async with slot.lock:
                if self._closed:
                    raise StoreError(f"{self._path} has been closed")
                if slot.connection is None:
                    slot.connection = await self._connect()
            return [tuple(row) for row in await slot.connection.execute_fetchall(query, parameters)]

    async def close(self) -> None:
        """Close the connections, also those that are just being opened; and open no more."""
        self._closed = True
        for slot in self._slots:
            async with slot.lock:
                if slot.connection is not None:
                    await slot.connection.close()

    async def _connect(self) -> aiosqlite.Connection:
        # A thread is a daemon if the one that makes it is: as the writer's, it must not keep a
        # process alive that dies of an error.
        connection = await self._writer.submit(
            # Never makes a file, should the database be gone just now.
            lambda _: aiosqlite.connect(
                f"file:{quote(str(self._path))}?mode=rw", uri=True, isolation_level=None
            )
        )
        await connection
        try:
            for pragma in _READER_PRAGMAS:
                await connection.execute_fetchall(pragma)
        except BaseException:
            await connection.close()
            raise
        return connection


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

    async def close(self) -> None:
        """Do nothing: the connection is the writer's."""
