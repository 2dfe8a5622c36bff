"""Transactions on condition that nobody else has written to the database since we opened it."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from monstermq_shared.errors import StoreConflict, StoreUnavailable
from monstermq_shared.stores.sql import load_queries

_QUERIES = load_queries(__package__, "database.sql")


class Ownership:
    """Our claim on the database: a token in its meta row, and the version of our last commit.

    Every commit raises the version, and carries the token beside it, so that nobody takes
    another's commit for his own.

    Args:
        writer: The token, unique to this opening of the database.
        version: The version that stands beside it.
    """

    def __init__(self, writer: str, version: int) -> None:
        self._writer = writer
        self._version = version
        self.uncertain = False

    @contextmanager
    def transaction(self, connection: sqlite3.Connection) -> Iterator[None]:
        """Commit what the body writes, or nothing of it.

        Raises:
            StoreConflict: Another process has taken the database over.
            StoreUnavailable: An earlier COMMIT has neither succeeded nor failed: see ``settle``.
        """
        if self.uncertain:
            raise StoreUnavailable("the outcome of the last commit is not known yet")
        # A deferred transaction that reads and then writes could not wait for a lock.
        connection.execute("BEGIN IMMEDIATE")
        try:
            self._claim(connection)
            yield
            self._commit(connection)
        except BaseException:
            # When the disk is full, SQLite has rolled back by itself.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def settle(self, connection: sqlite3.Connection) -> bool:
        """Find out whether a COMMIT that failed was applied all the same.

        Raises:
            sqlite3.Error: That cannot be known now; ``uncertain`` stays True.
        """
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        found = connection.execute(_QUERIES["version"]).fetchone()
        self.uncertain = False
        applied: bool = found == (self._writer, self._version + 1)
        if applied:
            self._version += 1
        return applied

    def _claim(self, connection: sqlite3.Connection) -> None:
        claim = (self._writer, self._version)
        if connection.execute(_QUERIES["advance_version"], claim).rowcount != 1:
            raise StoreConflict(
                "another broker has opened this database and writes to it; this one stops"
            )

    def _commit(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("COMMIT")
        except sqlite3.Error:
            self.uncertain = True
            if not self.settle(connection):
                raise
        else:
            self._version += 1
