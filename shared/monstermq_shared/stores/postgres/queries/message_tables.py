"""Statements on one or two tables of topics: what is retained, and last values."""

from collections.abc import Mapping
from dataclasses import dataclass

from monstermq_shared.queries.topics import ValueSource
from monstermq_shared.stores.postgres.rows import FRAGMENTS
from monstermq_shared.stores.sql import fill_in, load_queries

RAW = fill_in(load_queries(__package__, "topics.sql"), FRAGMENTS)

SOURCES = (ValueSource.RETAINED, ValueSource.LAST_VALUE)
"""By the number that statements return as ``rank``; of two equal values the first is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageTables:
    """The tables that a question is about.

    Attributes:
        retained: That of what is retained, if it is here.
        last_values: That of last values, if it is here.
    """

    retained: str | None
    last_values: str | None

    @property
    def numbered(self) -> list[tuple[int, str]]:
        """Each table, with the number of its source."""
        return [
            (rank, table)
            for rank, table in enumerate((self.retained, self.last_values))
            if table is not None
        ]

    def each(self, name: str, between: str, values: Mapping[str, str] | None = None) -> str:
        """Return a fragment of ``topics.sql`` for each table, with something between the two."""
        return between.join(
            fill_in({name: RAW[name]}, {**(values or {}), "table": table, "rank": str(rank)})[name]
            for rank, table in self.numbered
        )
