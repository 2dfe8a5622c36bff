"""Transactions, and the tenures that commits are conditional on."""

import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from monstermq_shared.errors import StoreConflict, StoreError
from monstermq_shared.positions import Mark, Partition
from monstermq_shared.stores.changes import Commit, CommitResult, Tenure
from monstermq_shared.stores.sql import load_queries
from monstermq_shared.stores.sqlite.statements import to_json

_QUERIES = load_queries(__package__, "database.sql")


class PartitionColumns(NamedTuple):
    """What the rows of a partition have in their columns of these names.

    Attributes:
        generation: Its number in the table ``generations``.
        partition: The number of the partition.
    """

    generation: int
    partition: int


Apply = Callable[[PartitionColumns], CommitResult]
"""Writes what a commit changes into the transaction that is open."""


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit what the body writes, or nothing of it.

    Args:
        connection: The writing connection; what a COMMIT that failed has left open is given up.

    Raises:
        sqlite3.Error: Nothing was written; or it was COMMIT that failed, and nobody knows.
    """
    if connection.in_transaction:
        connection.execute("ROLLBACK")
    # A deferred transaction that reads and then writes could not wait for a lock.
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # When the disk is full, SQLite has rolled back by itself.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A commit of which nobody knows yet whether it took effect, and what it returns if it did."""

    token: str
    commit: Commit
    result: CommitResult


class Tenures:
    """The tenures of one database; used on the writer's thread.

    A tenure is a token and a version in the rows of its projections in ``watermarks``. Every commit
    raises the version, on condition that token and version are still its own. So nobody can write
    under a tenure that is over, and whether a commit took effect can be read.

    Args:
        one_partition: Whether there is room for one partition only, see ``_check_partition``.
    """

    def __init__(self, *, one_partition: bool = False) -> None:
        self._one_partition = one_partition
        self._numbers: dict[str, int] = {}
        self._unknown: dict[tuple[Partition, tuple[str, ...]], _Attempt] = {}

    def begin(
        self, connection: sqlite3.Connection, partition: Partition, projections: Sequence[str]
    ) -> Tenure:
        """Begin a tenure; an older one of any of these projections is over.

        Raises:
            ValueError: There is no projection, so that nothing could tell its commits apart.
            StoreError: The tables have no room for this partition.
        """
        if not projections:
            raise ValueError("a tenure is of at least one projection")
        token = secrets.token_hex(8)
        with transaction(connection):
            if self._one_partition:
                _check_partition(connection, partition)
            connection.execute(_QUERIES["put_generation"], (partition.generation,))
            ((number,),) = connection.execute(
                _QUERIES["generation_number"], (partition.generation,)
            ).fetchall()
            connection.execute(
                _QUERIES["begin_tenure"], (number, partition.number, token, to_json([*projections]))
            )
            marks = read_marks(connection.execute(_QUERIES["marks"], partition).fetchall())
        self._numbers[partition.generation] = number
        return Tenure(
            partition=partition,
            projections=tuple(dict.fromkeys(projections)),
            marks={name: mark for name, mark in marks.items() if name in projections},
            token=token,
            version=0,
        )

    def commit(
        self, connection: sqlite3.Connection, tenure: Tenure, commit: Commit, apply: Apply
    ) -> CommitResult:
        """Apply a commit in one transaction, unless this very call has been applied before.

        Raises:
            StoreConflict: The tenure is over. Nothing was written.
            sqlite3.Error: Nothing was written; or nobody knows, then the next call finds out.
        """
        earlier = self._settle(connection, tenure)
        if earlier is not None and earlier.commit == commit:
            return earlier.result
        key = (tenure.partition, tenure.projections)
        try:
            with transaction(connection):
                columns = self._advance(connection, tenure, commit)
                result = apply(columns)
                self._unknown[key] = _Attempt(tenure.token, commit, result)
        except sqlite3.Error:
            applied = self._settle(connection, tenure)
            if applied is None:
                raise
            return applied.result
        del self._unknown[key]
        tenure.version += 1
        return result

    def _advance(
        self, connection: sqlite3.Connection, tenure: Tenure, commit: Commit
    ) -> PartitionColumns:
        """Move the marks, and so find out whether the tenure goes on."""
        columns = self._columns(tenure)
        restart = commit.upto if commit.restart is None else commit.restart
        parameters = (*columns, tenure.token, tenure.version, commit.upto, restart)
        moved = connection.execute(_QUERIES["advance"], parameters).rowcount
        if moved != len(tenure.projections):
            raise StoreConflict(
                "another broker, or another part of this one, writes what this one wrote until now "
                f"({', '.join(tenure.projections)}); this one stops"
            )
        return columns

    def _settle(self, connection: sqlite3.Connection, tenure: Tenure) -> _Attempt | None:
        """Return the tenure's last attempt if its COMMIT failed and yet took effect."""
        key = (tenure.partition, tenure.projections)
        attempt = self._unknown.get(key)
        if attempt is None or attempt.token != tenure.token:
            return None
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        parameters = (*self._columns(tenure), tenure.token)
        ((version,),) = connection.execute(_QUERIES["version_of_tenure"], parameters).fetchall()
        del self._unknown[key]
        if version != tenure.version + 1:
            return None
        tenure.version += 1
        return attempt

    def _columns(self, tenure: Tenure) -> PartitionColumns:
        generation, number = tenure.partition
        return PartitionColumns(self._numbers[generation], number)


def _check_partition(connection: sqlite3.Connection, partition: Partition) -> None:
    """Refuse a partition whose positions may be those of other rows in tables of version 1.

    There they are unique by themselves. Those of the internal log are in any case, because every
    boot begins above all earlier ones.

    Raises:
        StoreError: It is another one.
    """
    log = connection.execute(_QUERIES["log"]).fetchone()
    if partition.number == 0 and (log is None or log[0] == partition.generation):
        return
    raise StoreError(
        "the tables of this SQLite database were made by an earlier release and have room for the "
        f"internal log only, not for partition {partition.number} of {partition.generation!r}; "
        "stop the broker and copy it into new tables with: monstermq db recover OLD NEW, then "
        "monstermq db restore NEW"
    )


def read_marks(rows: Sequence[tuple[str, int, int]]) -> dict[str, Mark]:
    """Read the rows of the statement ``marks``."""
    return {projection: Mark(reflected, restart) for projection, reflected, restart in rows}
