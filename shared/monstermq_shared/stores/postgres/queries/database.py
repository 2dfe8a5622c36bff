"""A read-only opening of a PostgreSQL database."""

from collections.abc import Mapping

from monstermq_shared.config import StoreType
from monstermq_shared.config.postgres_urls import ConnectionSettings
from monstermq_shared.errors import NotSupported
from monstermq_shared.queries.cursors import Cursors
from monstermq_shared.queries.sql import Column, Table, TableKind
from monstermq_shared.stores.postgres import archives, messages
from monstermq_shared.stores.postgres.queries.archive import PostgresArchiveQueries
from monstermq_shared.stores.postgres.queries.asking import IN_ORDER, SEARCHING, Asking
from monstermq_shared.stores.postgres.queries.message_tables import MessageTables
from monstermq_shared.stores.postgres.queries.statements import PostgresSqlQueries
from monstermq_shared.stores.postgres.queries.topics import PostgresTopicQueries
from monstermq_shared.stores.sql import table_name

_NO_READER = (
    "SQL is not supported by POSTGRES here: it needs a role that can only read; set "
    "Postgres.ReadUser and Postgres.ReadPass, then make it with: monstermq db init"
)


class PostgresQueries:
    """The questions to one database; its connections are made when they are needed.

    Args:
        settings: How our own statements connect.
        reader: How the role that runs SQL of others logs in; None: there is no such SQL.
        readable: Table -> what it keeps, of those that SQL of others may read.
        cursors: What seals where pages end.
        timeout_s: Seconds after which a question is given up.
    """

    store_type = StoreType.POSTGRES.value

    def __init__(
        self,
        settings: ConnectionSettings,
        *,
        reader: ConnectionSettings | None,
        readable: Mapping[str, TableKind],
        cursors: Cursors,
        timeout_s: float,
    ) -> None:
        self._in_order = Asking(settings, timeout_s=timeout_s, session=IN_ORDER)
        self._searching = Asking(settings, timeout_s=timeout_s, session=SEARCHING)
        self._cursors = cursors
        tables = {name: _table(name, kind) for name, kind in readable.items()}
        self._sql = (
            None if reader is None else PostgresSqlQueries(reader, tables, timeout_s=timeout_s)
        )

    def archive(self, store: str) -> PostgresArchiveQueries:
        """Return the questions to an archive, by its logical name, such as ``MCPArchive``."""
        return PostgresArchiveQueries(table_name(store), self._in_order, self._cursors)

    def topics(self, *, retained: str | None, last_values: str | None) -> PostgresTopicQueries:
        """Return the questions about the topics of one or two message stores.

        Args:
            retained: The logical name of the retained store, if it is here.
            last_values: That of the last values of a group, such as ``MCPLastval``, if they are.
        """
        tables = MessageTables(
            retained=None if retained is None else table_name(retained),
            last_values=None if last_values is None else table_name(last_values),
        )
        return PostgresTopicQueries(tables, self._in_order, self._searching, self._cursors)

    @property
    def sql(self) -> PostgresSqlQueries:
        """The questions in SQL.

        Raises:
            NotSupported: No role that only reads is named.
        """
        if self._sql is None:
            raise NotSupported(_NO_READER)
        return self._sql

    async def close(self) -> None:
        """End all questions, and close all connections. A second call does nothing."""
        if self._sql is not None:
            await self._sql.close()
        await self._in_order.close()
        await self._searching.close()


def _table(name: str, kind: TableKind) -> Table:
    columns = (archives if kind is TableKind.ARCHIVE else messages).KIND.columns
    return Table(
        name=name if name.isidentifier() else f'"{name}"',
        kind=kind,
        columns=[Column(name=column, type=of) for column, of in columns.items()],
    )
