"""What services ask of databases, of the log and of the broker.

All calls are safe to make while the broker works at full speed: nothing runs on its event loop for
longer than microseconds. Every call answers within the time that the object was made with, or
raises; a database that is away is tried again by the next call.

What all of them raise:

``QueryRefused``: the question is wrong, its cursor for example.
``NotSupported``: this kind of store cannot answer such a question.
``QueryTimedOut``: the database has not answered in time.
``StoreUnavailable``: it cannot be reached now; the message names it.
``StoreError``: it refuses for another reason; the message is for the operator.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from monstermq_shared.queries.aggregates import AggregatePage, AggregateQuery
from monstermq_shared.queries.history import HistoryPage, HistoryQuery, Message
from monstermq_shared.queries.live import LogPage, LogQuery, Publication
from monstermq_shared.queries.sql import SqlAnswer, SqlQuery, Table
from monstermq_shared.queries.topics import (
    ChildrenPage,
    ChildrenQuery,
    DescriptionSearch,
    FoundPage,
    NameSearch,
    ValuesPage,
    ValuesQuery,
)


class ArchiveQueries(Protocol):
    """Questions to the archive of one group."""

    @property
    def store_type(self) -> str:
        """What keeps it, such as ``SQLITE``."""
        ...

    async def history(self, query: HistoryQuery) -> HistoryPage:
        """Return past messages."""
        ...

    async def aggregate(self, query: AggregateQuery) -> AggregatePage:
        """Return numbers of past messages in buckets of time, computed by the database."""
        ...


class TopicQueries(Protocol):
    """Questions about topics, their current values and their descriptions."""

    @property
    def store_type(self) -> str:
        """What answers, such as ``SQLITE`` or ``SQLITE and MEMORY``."""
        ...

    async def values(self, query: ValuesQuery) -> ValuesPage:
        """Return the values of topics.

        Of a topic that is retained and has a last value it is the newer of the two.
        """
        ...

    async def find_by_name(self, query: NameSearch) -> FoundPage:
        """Return the topics with a value whose names match."""
        ...

    async def find_by_description(self, query: DescriptionSearch) -> FoundPage:
        """Return the topics whose description matches."""
        ...

    async def children(self, query: ChildrenQuery) -> ChildrenPage:
        """Return one level of the tree of the topics with a value."""
        ...

    async def similar(self, topic: str, *, limit: int) -> Sequence[str]:
        """Return topics with a value whose names are near that of one that has none.

        They are a help for whoever mistyped it: the nearest first, perhaps none, and not
        necessarily the nearest there are.
        """
        ...


class SqlQueries(Protocol):
    """Questions in the database's own SQL. They can change nothing, whatever they say.

    Attributes:
        store_type: Whose SQL it is, such as ``SQLITE``.
    """

    store_type: str

    async def run(self, query: SqlQuery) -> SqlAnswer:
        """Run one statement that reads the tables of ``tables``, and nothing else."""
        ...

    async def tables(self) -> Sequence[Table]:
        """Return what may be read."""
        ...


class DatabaseQueries(Protocol):
    """A read-only opening of one database. It is opened by its first question, not before.

    Attributes:
        store_type: What it is, such as ``SQLITE``.
    """

    store_type: str

    def archive(self, store: str) -> ArchiveQueries:
        """Return the questions to an archive, by its logical name, such as ``MCPArchive``."""
        ...

    def topics(self, *, retained: str | None, last_values: str | None) -> TopicQueries:
        """Return the questions about the topics of one or two message stores of this database.

        Args:
            retained: The logical name of the retained store, if it is here: values and
                descriptions are found in it.
            last_values: That of the last values of a group, such as ``MCPLastval``, if they are.
        """
        ...

    @property
    def sql(self) -> SqlQueries:
        """The questions in SQL.

        Raises:
            NotSupported: It has no SQL that can be given to others.
        """
        ...

    async def close(self) -> None:
        """End all questions, and close what was opened. A second call does nothing."""
        ...


class LogQueries(Protocol):
    """Questions to the log itself."""

    async def read(self, query: LogQuery) -> LogPage:
        """Return messages from a place on; at once, also if there are none."""
        ...


class Watch(Protocol):
    """Messages as they come, from the moment it was entered.

    Attributes:
        dropped: How many messages came and were dropped, because too many were waiting.
    """

    dropped: int

    async def next(self, timeout_s: float) -> Message | None:
        """Return the next message, None if none comes within that many seconds.

        Raises:
            BusUnavailable: The watch has ended before its time: nothing more comes.
        """
        ...


class LiveFeed(Protocol):
    """The messages of the broker as they are published."""

    def watch(
        self, filters: Sequence[str], *, payload_limit: int
    ) -> AbstractAsyncContextManager[Watch]:
        """Return a watch on topics and filters; it waits on a bounded number of messages.

        Raises:
            QueryRefused: A filter is none.
            BusUnavailable: The log cannot be reached, or there are too many watches already.
        """
        ...


class Publisher(Protocol):
    """Publishes as a client would."""

    async def publish(self, publication: Publication) -> None:
        """Publish a message; return once the broker answers for it.

        Raises:
            QueryRefused: The topic is not a name, or the message too large.
            BusUnavailable: The broker cannot take it now. Whether it was taken may be unknown.
        """
        ...
