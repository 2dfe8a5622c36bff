"""What can be read of a damaged database, copied into a new one."""

import sqlite3
import uuid
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from monstermq_shared.errors import ConfigError, StoreDamaged, StoreUnavailable
from monstermq_shared.stores.sql import fill_in
from monstermq_shared.stores.sqlite import sessions as session_tables
from monstermq_shared.stores.sqlite.archives import SqliteArchiveStore
from monstermq_shared.stores.sqlite.errors import translated
from monstermq_shared.stores.sqlite.files import (
    check_header,
    check_no_companion,
    complete_or_absent,
    family,
    reading,
)
from monstermq_shared.stores.sqlite.lock import check_not_in_use, check_only_name
from monstermq_shared.stores.sqlite.messages import SqliteMessageStore
from monstermq_shared.stores.sqlite.opening import META_TABLES, check_origin, create_meta
from monstermq_shared.stores.sqlite.recovery_table import (
    POSITION_MAX,
    QUERIES,
    RecoveredTable,
    TableCopy,
)
from monstermq_shared.stores.sqlite.tables import is_table_name
from monstermq_shared.stores.sqlite.topic_index import TABLES as INDEX_TABLES

_BOOT_BITS = 40
"""A position is ``boot << 40 | counter``: each boot's positions lie close together."""
_BOOT_END = 1 << 22
_BOOTS_MAX = 4096
"""How many boots are read one by one; those beyond are read as one."""
_CLIENT_TABLES = {
    "subscriptions": ("topic", "of_client_by_text"),
    "queuedmessagesclients": ("position", "of_client_and_partition"),
    "open_ids": ("packet_id", "of_client_by_number"),
    "inflight": ("packet_id", "of_client_by_number"),
}
"""Tables whose rows belong to a session, what orders the rows of one client, and their query."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """A database that was made of a damaged one.

    Attributes:
        size: Its bytes.
        tables: Its tables.
        left_out: Tables of the damaged database that are not MonsterMQ's.
        dropped: Queue rows that were read, but of which the message or the client was lost.
    """

    size: int
    tables: Sequence[RecoveredTable]
    left_out: Sequence[str]
    dropped: int

    @property
    def complete(self) -> bool:
        """Whether everything could be read."""
        return not self.dropped and all(table.lost == 0 for table in self.tables)


def recover_file(source: Path, target: Path) -> Recovered:
    """Copy what can be read of a damaged database, its write-ahead log included, into a new one.

    The damaged database is not changed. The new one appears only when it is complete, and never
    without rows.

    Raises:
        ConfigError: There is something under the new name already.
        StartupError: A broker runs on the damaged database; or it is empty, or not ours.
        StoreDamaged: Nothing can be read.
        StoreUnavailable: There is no such database, or the new one cannot be written.
    """
    _check_names(source, target)
    try:
        with complete_or_absent(target) as partial:
            with (
                reading(source) as damaged,
                closing(sqlite3.connect(partial, isolation_level=None)) as new,
            ):
                recovery = _Recovery(source, damaged, new)
                with translated(f"the new database {partial}"):
                    tables = recovery.run()
            if not any(table.rows for table in tables if table.name not in META_TABLES):
                raise _nothing(source, "not a single row of its tables can be read")
    except OSError as exc:
        raise StoreUnavailable(f"{target} cannot be written: {exc}") from exc
    return Recovered(
        size=target.stat().st_size,
        tables=tables,
        left_out=recovery.left_out,
        dropped=recovery.dropped,
    )


def _check_names(source: Path, target: Path) -> None:
    try:
        if not source.is_file():
            raise StoreUnavailable(f"{source}: there is no such database file")
        check_header(source)
        check_only_name(source)
        check_not_in_use(source)
    except OSError as exc:
        raise StoreUnavailable(f"{source} cannot be read: {exc}") from exc
    if not family(source).isdisjoint(family(target)):
        raise ConfigError(f"{target} belongs to the database {source}; choose another name")
    if target.exists() or target.is_symlink():
        raise ConfigError(f"{target} exists already; choose another name")
    check_no_companion(target)


def _nothing(source: Path, finding: str) -> StoreDamaged:
    return StoreDamaged(
        f"{source}: nothing can be recovered, {finding}. Nothing was changed; go back to a backup "
        "with: monstermq db restore BACKUP"
    )


class _Recovery:
    """Copies table by table, in one transaction of the new database.

    Args:
        source: The damaged database, as messages name it.
        damaged: Where to read.
        new: An empty database.
    """

    def __init__(self, source: Path, damaged: sqlite3.Connection, new: sqlite3.Connection) -> None:
        self._source = source
        self._damaged = damaged
        self._new = new
        self.left_out: list[str] = []
        self.dropped = 0

    def run(self) -> list[RecoveredTable]:
        """Copy everything; return what became of each table."""
        names = self._names()
        messages, archives = self._stores(names)
        # It has no name yet: a crash now leaves nothing that could be taken for a database.
        self._new.execute("PRAGMA journal_mode = OFF")
        self._new.execute("PRAGMA synchronous = OFF")
        create_meta(self._new)
        self._new.execute("BEGIN")
        for statement in self._schema(messages, archives):
            self._new.execute(statement)
        generation, boot = self._meta()
        boots = range(min(boot or _BOOTS_MAX, _BOOTS_MAX))
        tables = [self._copy_topics(table, "topic") for table in messages]
        tables += [self._copy_rows(table, boots) for table in archives]
        tables.append(self._copy_topics("sessions", "client_id"))
        tables.append(self._copy_rows("queuedmessages", boots))
        clients = [client_id for (client_id,) in self._new.execute(QUERIES["clients"])]
        tables += [self._copy_of_clients(table, clients) for table in _CLIENT_TABLES]
        self.dropped = sum(
            self._new.execute(QUERIES[name]).rowcount for name in ("drop_links", "drop_messages")
        )
        self._new.execute(QUERIES["count_queues"])
        self._copy_generations(generation)
        self._copy_watermarks()
        self._set_meta(generation, boot or 0, ["queuedmessages", *messages, *archives])
        self._new.execute("COMMIT")
        return tables

    def _names(self) -> set[str]:
        """Return the tables that the damaged database is known to have."""
        try:
            # Opens also where an entry of the schema, or the size of the file, makes no sense.
            self._damaged.execute("PRAGMA writable_schema = ON")
            found = [name for (name,) in self._damaged.execute(QUERIES["tables"])]
        except sqlite3.Error as exc:
            raise _nothing(self._source, f"its list of tables is damaged ({exc})") from exc
        names = {name for name in found if isinstance(name, str)}
        if not names:
            raise _nothing(self._source, "it has no tables")
        check_origin(names, str(self._source))
        return names

    def _stores(self, names: set[str]) -> tuple[list[str], list[str]]:
        """Return the tables of message stores and of archives among them."""
        messages, archives = [], []
        for name in sorted(names.difference(META_TABLES, session_tables.TABLES, INDEX_TABLES)):
            if not is_table_name(name):
                self.left_out.append(name)
            elif name == "retainedmessages" or name.endswith("lastval"):
                messages.append(name)
            elif name.endswith("archive"):
                archives.append(name)
            else:
                self.left_out.append(name)
        return messages, archives

    def _schema(self, messages: Iterable[str], archives: Iterable[str]) -> list[str]:
        statements = [*session_tables.SCHEMA]
        for table in messages:
            statements += SqliteMessageStore.schema(table)
        for table in archives:
            statements += SqliteArchiveStore.schema(table)
        return statements

    # -- tables ----------------------------------------------------------------------------------

    def _copy_topics(self, name: str, key: str) -> RecoveredTable:
        """Copy a table that is ordered by a text."""
        table = TableCopy(self._damaged, self._new, name, key)
        return table.outcome(table.salvage("by_text"))

    def _copy_rows(self, name: str, boots: range) -> RecoveredTable:
        """Copy a table that is ordered by row number, which in schema version 1 is the position."""
        table = TableCopy(self._damaged, self._new, name, "rowid")
        starts = [*(boot << _BOOT_BITS for boot in boots), boots.stop << _BOOT_BITS, POSITION_MAX]
        stretches = sum(
            table.salvage("by_row", end, start=start, end=end) for start, end in pairwise(starts)
        )
        return table.outcome(stretches)

    def _copy_of_clients(self, name: str, clients: Iterable[str]) -> RecoveredTable:
        """Copy the rows of clients whose session was read; others would belong to nobody.

        Queue rows are those of the partitions of which messages were read.
        """
        key, query = _CLIENT_TABLES[name]
        parts: list[tuple[int, ...]] = [()]
        if query == "of_client_and_partition":
            parts = self._new.execute(QUERIES["partitions"]).fetchall()
        table = TableCopy(self._damaged, self._new, name, key)
        return table.outcome(
            sum(table.salvage(query, client_id, *part) for client_id in clients for part in parts)
        )

    # -- the log's positions ---------------------------------------------------------------------

    def _meta(self) -> tuple[str | None, int | None]:
        """Return generation and boot, None where they cannot be read."""
        with suppress(sqlite3.Error, ValueError):
            ((generation, boot),) = self._damaged.execute(QUERIES["meta"]).fetchall()
            if isinstance(generation, str) and isinstance(boot, int) and 0 < boot < _BOOT_END:
                return generation, boot
        return None, None

    def _set_meta(self, generation: str | None, boot: int, tables: Iterable[str]) -> None:
        """See to it that the next boot's positions lie beyond all that were copied."""
        highest = [self._new.execute(QUERIES["highest_watermark"]).fetchone()[0]]
        for table in tables:
            query = fill_in(QUERIES, {"table": table})["highest_position"]
            highest.append(self._new.execute(query).fetchone()[0])
        parameters = (generation, max(boot, max(highest) >> _BOOT_BITS))
        self._new.execute(QUERIES["set_meta"], parameters)

    def _copy_generations(self, newest: str | None) -> None:
        """Copy what the numbers stand for; where that cannot be read, the newest is the log's."""
        with suppress(sqlite3.Error):
            for number, generation in self._damaged.execute(QUERIES["generations"]).fetchall():
                if isinstance(number, int) and isinstance(generation, str):
                    self._new.execute(QUERIES["put_generation"], (number, generation))
        ((number,),) = self._new.execute(QUERIES["newest_generation"]).fetchall()
        self._new.execute(QUERIES["put_generation"], (number, newest or str(uuid.uuid4())))

    def _copy_watermarks(self) -> None:
        for name in ("watermarks", "watermarks_of_version_1"):
            with suppress(sqlite3.Error):
                for *key, reflected, restart in self._damaged.execute(QUERIES[name]).fetchall():
                    if isinstance(reflected, int) and isinstance(restart, int):
                        self._new.execute(QUERIES["put_watermark"], (*key, reflected, restart))
