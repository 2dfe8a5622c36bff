"""What stands in a broker's tables, read beside it: by psql, or from the SQLite file."""

import sqlite3
from abc import ABC, abstractmethod
from contextlib import closing
from pathlib import Path

from tests.support.postgres import PostgresServer

_MESSAGES = "SELECT topic, payload FROM {table} WHERE topic LIKE 'load/%'"
_ARCHIVE = "SELECT position, payload FROM {table} WHERE topic LIKE 'load/%' ORDER BY position"
_QUEUE = """
SELECT message.position, {text} FROM queuedmessagesclients AS link
JOIN queuedmessages AS message USING (generation, partition, position)
JOIN sessions USING ({client})
WHERE sessions.client_id = '{client_id}' ORDER BY message.position
"""


class Tables(ABC):
    """The tables of one database, as far as the load of the tests has written them."""

    _queue: str

    def retained(self, table: str = "retainedmessages") -> dict[str, bytes]:
        """Return topic -> payload of a table with one row per topic."""
        return dict(self._rows(_MESSAGES.format(table=table)))

    def archived(self, table: str) -> list[tuple[int, bytes]]:
        """Return position and payload of an archive's rows, in order of position."""
        rows = self._rows(_ARCHIVE.format(table=table))
        return [(int(position), payload) for position, payload in rows]

    def queued(self, client_id: str) -> list[bytes]:
        """Return the payloads that wait for a client, in order of position."""
        rows = self._rows(self._queue.format(client_id=client_id))
        return [payload for _, payload in rows]

    @abstractmethod
    def _rows(self, query: str) -> list[tuple[str, bytes]]:
        """Return rows of a text and a payload, which is ASCII."""


class SqliteTables(Tables):
    """Those of a file, which a broker may have open."""

    _queue = _QUEUE.format(
        text="CAST(message.payload AS TEXT)",
        client="client_id",
        client_id="{client_id}",
    )

    def __init__(self, path: Path) -> None:
        self._path = path

    def _rows(self, query: str) -> list[tuple[str, bytes]]:
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)) as database:
            rows = database.execute(query).fetchall()
        return [(str(first), payload.encode()) for first, payload in rows]


class PostgresTables(Tables):
    """Those of a database on a server, as its superuser sees them."""

    _queue = _QUEUE.format(
        text="convert_from(message.payload, 'UTF8')",
        client="client_digest",
        client_id="{client_id}",
    )

    def __init__(self, server: PostgresServer, database: str) -> None:
        self._server = server
        self._database = database

    def _rows(self, query: str) -> list[tuple[str, bytes]]:
        rows = self._server.psql(query, database=self._database).splitlines()
        parts = [row.partition("|") for row in rows]
        return [(first, payload.encode()) for first, _, payload in parts]
