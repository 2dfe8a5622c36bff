"""Tenures in PostgreSQL: who may commit what, and how far it has come."""

import secrets
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from monstermq_shared.errors import StoreConflict, TenureEnded
from monstermq_shared.positions import Mark, Partition
from monstermq_shared.stores.changes import Commit, CommitResult, Tenure
from monstermq_shared.stores.postgres.connection import Connection
from monstermq_shared.stores.postgres.log_states import QUERIES as LOG_QUERIES
from monstermq_shared.stores.postgres.log_states import begin_rows, check_owner, columns_of
from monstermq_shared.stores.postgres.readers import changed_rows
from monstermq_shared.stores.postgres.rows import Place
from monstermq_shared.stores.sql import load_queries

_QUERIES = load_queries(__package__, "database.sql")


class _Uncertain(NamedTuple):
    """A commit that may have taken effect: under which tenure, and what it returns if it has."""

    token: str
    commit: Commit
    result: CommitResult


class Tenures:
    """Begins tenures, and moves their marks with each commit.

    Args:
        where: The database, as messages name it.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._generations: dict[str, int] = {}
        # The newest commit of each whose outcome nobody knows.
        self._uncertain: dict[tuple[Partition, tuple[str, ...]], _Uncertain] = {}

    async def find_place(self, connection: Connection, partition: Partition) -> Place | None:
        """Return how rows name a partition; None if there are none of its generation.

        Not to be asked in a transaction that adds the generation: it remembers what it finds.
        """
        number = await self.find_generation(connection, partition.generation)
        return None if number is None else Place(number, partition.number)

    async def find_generation(self, connection: Connection, generation: str) -> int | None:
        """Return how rows name a generation, as ``find_place`` does that of a partition."""
        number = self._generations.get(generation)
        if number is None:
            number = await connection.fetchval(_QUERIES["find_generation"], generation)
            if number is not None:
                self._generations[generation] = number
        return number

    async def place(self, connection: Connection, partition: Partition) -> Place:
        """Return how rows name a partition, in a transaction that is open; made if it is new."""
        return Place(await self.number(connection, partition.generation), partition.number)

    async def marks(self, connection: Connection, partition: Partition) -> dict[str, Mark]:
        """Return where the projections stand that have committed in a partition."""
        place = await self.find_place(connection, partition)
        if place is None:
            return {}
        rows = await connection.fetch(_QUERIES["marks"], *place)
        return {name: Mark(reflected, restart) for name, reflected, restart in rows}

    async def begin(
        self, connection: Connection, partition: Partition, projections: Sequence[str]
    ) -> Tenure:
        """Begin a tenure, in a transaction that is open.

        Raises:
            ValueError: There is no projection, so that nothing could tell its commits apart.
            StartupError: The database has been given to another log.
        """
        if not projections:
            raise ValueError("a tenure is of at least one projection")
        token = secrets.token_hex(8)
        await check_owner(connection, self._where, partition.generation)
        number = await self.number(connection, partition.generation)
        key = ([*set(projections)], number, partition.number)
        await connection.execute(_QUERIES["add_watermarks"], *key)
        await connection.execute(_QUERIES["lock_watermarks"], *key)
        rows = await connection.fetch(_QUERIES["begin"], *key, token)
        return Tenure(
            partition=partition,
            projections=tuple(projections),
            marks={
                row["projection"]: Mark(row["reflected"], row["restart"])
                for row in rows
                if row["reflected"] is not None
            },
            token=token,
            version=rows[0]["version"] if rows else 0,
        )

    async def begin_marks(
        self, connection: Connection, log_id: str, starts: Mapping[Partition, Mapping[str, int]]
    ) -> None:
        """Say where projections without a mark begin, in a transaction that is open."""
        for generation, rows in begin_rows(starts).items():
            number = await self.number(connection, generation)
            await connection.execute(LOG_QUERIES["begin_marks"], *rows, number, log_id)

    async def take_sessions(self, connection: Connection, generation: str) -> None:
        """Let the sessions of earlier internal logs go on, in a transaction that is open."""
        number = await self.number(connection, generation)
        await connection.execute(_QUERIES["take_sessions"], number)

    async def number(self, connection: Connection, generation: str) -> int:
        """Return the number of a generation, in a transaction that is open; added if it is new."""
        number: int | None = await connection.fetchval(_QUERIES["find_generation"], generation)
        if number is None:
            await connection.execute(_QUERIES["lock_generations"])
            number = await connection.fetchval(_QUERIES["find_generation"], generation)
        if number is None:
            number = await connection.fetchval(_QUERIES["add_generation"], generation)
        assert number is not None
        return number

    async def claim(self, connection: Connection, tenure: Tenure, commit: Commit) -> bool:
        """Move the marks, in a transaction that is open, on condition that the tenure is not over.

        Returns:
            False if the condition does not hold: ``earlier`` tells why.
        """
        restart = commit.upto if commit.restart is None else commit.restart
        status = await connection.execute(
            _QUERIES["claim"],
            *await self._key(connection, tenure),
            *(tenure.token, tenure.version, commit.upto, restart),
            *columns_of(commit.log),
        )
        return changed_rows(status) == len(set(tenure.projections))

    async def earlier(self, connection: Connection, tenure: Tenure) -> tuple[Commit, CommitResult]:
        """Return the commit of unknown outcome that took effect, so that a claim failed.

        In a transaction that is open. Its COMMIT waits, as that of any change, for the standby
        that must have all commits before it; once that has succeeded the commit is settled.

        Raises:
            StoreConflict: There is none: the tenure is over, or the server has lost commits.
        """
        key = await self._key(connection, tenure)
        rows = await connection.fetch(_QUERIES["versions"], *key)
        versions = {row["version"] for row in rows}
        tokens = {row["token"] for row in rows}
        if len(rows) < len(set(tenure.projections)) or min(versions) < tenure.version:
            raise StoreConflict(
                f"PostgreSQL at {self._where}: the server has lost what it had committed, so rows "
                "are missing that were acknowledged. A standby that was not synchronous has taken "
                "over, or a backup was restored while the broker was running. Bring back the "
                "server that has them, or start the broker again to go on without them"
            )
        uncertain = self._uncertain.get((tenure.partition, tenure.projections))
        ours = tokens == {tenure.token} and versions == {tenure.version + 1}
        if "" in tokens <= {tenure.token, ""}:
            raise TenureEnded(
                f"PostgreSQL at {self._where}: a command (rebuild, db adopt) has changed what this "
                f"process commits ({', '.join(tenure.projections)})"
            )
        if not ours or uncertain is None or uncertain.token != tenure.token:
            raise StoreConflict(
                f"PostgreSQL at {self._where}: another process has begun to commit what this one "
                f"does ({', '.join(tenure.projections)}); this one stops"
            )
        await connection.execute(_QUERIES["touch"], *key)
        return uncertain.commit, uncertain.result

    def suspect(self, tenure: Tenure, commit: Commit, result: CommitResult) -> None:
        """Remember a commit whose COMMIT is on its way, until it is settled."""
        key = (tenure.partition, tenure.projections)
        self._uncertain[key] = _Uncertain(tenure.token, commit, result)

    def settle(self, tenure: Tenure) -> None:
        """Take note that the suspected commit has taken effect."""
        del self._uncertain[tenure.partition, tenure.projections]
        tenure.version += 1

    async def _key(self, connection: Connection, tenure: Tenure) -> tuple[list[str], int, int]:
        """Return what the rows of a tenure have in common, as statements take it."""
        place = await self.find_place(connection, tenure.partition)
        if place is None:
            # The rows went with it.
            place = Place(-1, tenure.partition.number)
        return [*set(tenure.projections)], *place
