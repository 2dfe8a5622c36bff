"""Transactions on condition that nobody else has written to the database since we opened it."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from monstermq_shared.errors import StoreConflict
from monstermq_shared.stores.sql import load_queries

_QUERIES = load_queries(__package__, "database.sql")


class Attempt:
    """One transaction, as whoever runs it remembers it when its COMMIT reports an error.

    Attributes:
        applied: Whether it took effect all the same; False as long as that is not known.
    """

    def __init__(self) -> None:
        self.applied = False


class Ownership:
    """Our claim on the database: a token in its meta row, and the number of our last commit.

    Every commit raises the number, on condition that the token is still there, so that nobody
    takes another's commit for his own.

    Attributes:
        writer: The token, unique to this opening of the database.

    Args:
        writer: The same.
        last_commit: The number of the last commit.
    """

    def __init__(self, writer: str, last_commit: int) -> None:
        self.writer = writer
        self._last_commit = last_commit
        self._uncertain: Attempt | None = None

    @contextmanager
    def transaction(
        self, connection: sqlite3.Connection, attempt: Attempt | None = None
    ) -> Iterator[None]:
        """Commit what the body writes, or nothing of it.

        Args:
            connection: The writing connection, in autocommit mode.
            attempt: Told if the transaction took effect although its COMMIT failed: then this call
                raises, and a later ``settle``, whoever calls it, finds out.

        Raises:
            StoreConflict: Another process has taken the database over.
            sqlite3.Error: Nothing was written, or that cannot be known yet.
        """
        self.settle(connection)
        # A deferred transaction that reads and then writes could not wait for a lock.
        connection.execute("BEGIN IMMEDIATE")
        try:
            self._claim(connection)
            yield
            self._commit(connection, Attempt() if attempt is None else attempt)
        except BaseException:
            # When the disk is full, SQLite has rolled back by itself.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def settle(self, connection: sqlite3.Connection) -> None:
        """If a COMMIT has neither succeeded nor failed, find out, and tell its attempt.

        Raises:
            sqlite3.Error: That cannot be known now; nothing may be written before it is.
        """
        if self._uncertain is None:
            return
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        found = connection.execute(_QUERIES["last_commit"]).fetchone()
        if found == (self.writer, self._last_commit + 1):
            self._last_commit += 1
            self._uncertain.applied = True
        self._uncertain = None

    def _claim(self, connection: sqlite3.Connection) -> None:
        claim = (self.writer, self._last_commit)
        if connection.execute(_QUERIES["advance_commits"], claim).rowcount != 1:
            raise StoreConflict(
                "another broker has opened this database and writes to it; this one stops"
            )

    def _commit(self, connection: sqlite3.Connection, attempt: Attempt) -> None:
        try:
            connection.execute("COMMIT")
        except sqlite3.Error:
            self._uncertain = attempt
            self.settle(connection)
            if not attempt.applied:
                raise
        else:
            self._last_commit += 1
