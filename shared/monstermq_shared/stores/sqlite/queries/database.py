"""All questions to one database file."""

from collections.abc import Mapping

from monstermq_shared.config import StoreType
from monstermq_shared.queries.cursors import Cursors
from monstermq_shared.queries.sql import TableKind
from monstermq_shared.stores.sql import table_name
from monstermq_shared.stores.sqlite.queries.archive import SqliteArchiveQueries
from monstermq_shared.stores.sqlite.queries.connections import Connections
from monstermq_shared.stores.sqlite.queries.statement import SqliteStatements
from monstermq_shared.stores.sqlite.queries.topics import MessageTables, SqliteTopicQueries


class SqliteQueries:
    """A ``DatabaseQueries`` on a file that a broker may be writing to.

    Args:
        path: The database file, as the configuration has it.
        cursors: What seals where pages end.
        readable: The tables that SQL of others may read, and what each keeps.
        timeout_s: Seconds after which a question is given up.
    """

    store_type = StoreType.SQLITE.value

    def __init__(
        self, path: str, cursors: Cursors, *, readable: Mapping[str, TableKind], timeout_s: float
    ) -> None:
        self._cursors = cursors
        self._connections = Connections(path, timeout_s=timeout_s)
        self._statements = SqliteStatements(path, readable, self._connections, timeout_s=timeout_s)

    def archive(self, store: str) -> SqliteArchiveQueries:
        """Return the questions to an archive, by its logical name."""
        return SqliteArchiveQueries(table_name(store), self._connections, self._cursors)

    def topics(self, *, retained: str | None, last_values: str | None) -> SqliteTopicQueries:
        """Return the questions about the topics of one or two message stores."""
        tables = MessageTables(
            retained=None if retained is None else table_name(retained),
            last_values=None if last_values is None else table_name(last_values),
        )
        return SqliteTopicQueries(tables, self._connections, self._cursors)

    @property
    def sql(self) -> SqliteStatements:
        """The questions in SQL."""
        return self._statements

    async def close(self) -> None:
        """End all questions, and close what was opened. A second call does nothing."""
        await self._statements.close()
        await self._connections.close()
