"""Bringing a file of an older schema to the current one, in one transaction."""

import logging
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from monstermq_shared.errors import StartupError, StoreDamaged
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.stores.sql import fill_in, load_queries
from monstermq_shared.stores.sqlite.errors import unwritable
from monstermq_shared.stores.sqlite.tables import message_tables_in, tables_in
from monstermq_shared.stores.sqlite.tenures import transaction

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 2

_OLDEST_VERSION = 1
_QUERIES = load_queries(__package__, "migrations.sql")
_ROOM_MIN = 1024 * 1024
_ROWS_WRITTEN = 2  # once into the log, once into the database

_PLACE = ("generation INTEGER NOT NULL DEFAULT 1", "partition INTEGER NOT NULL DEFAULT 0")
_RECORD = (*_PLACE, "properties TEXT", "expires_at TEXT")
_V2_COLUMNS = {
    "sessions": ("expiry_s INTEGER",),
    "subscriptions": ("options INTEGER NOT NULL DEFAULT 0", "subscription_id INTEGER"),
    "queuedmessages": _RECORD,
    "queuedmessagesclients": _PLACE,
    "open_ids": _PLACE,
    "inflight": _PLACE,
}


def check_version(connection: sqlite3.Connection, path: str) -> None:
    """Refuse a schema that this release does not know.

    Raises:
        StoreDamaged: It is of a later version, or of none.
    """
    version = _version(connection)
    if not _OLDEST_VERSION <= version <= SCHEMA_VERSION:
        raise StoreDamaged(
            f"{path} has schema version {version}, and this release knows {SCHEMA_VERSION}; "
            "start the release that wrote it, or set SQLite.Path to a new file. Nothing was changed"
        )


def migrate(connection: sqlite3.Connection, file: Path) -> None:
    """Bring a database to the current schema; if that is interrupted, it is as it was.

    Tables get columns with defaults and are not rewritten: what takes time is one look at each
    queue.

    Args:
        connection: The writing connection, in autocommit mode.
        file: The database; it has passed ``check_version``.

    Raises:
        StartupError: There is no room for it; the message has the figure.
        sqlite3.Error: It cannot be written. Nothing was changed.
    """
    version = _version(connection)
    if version == SCHEMA_VERSION:
        return
    needed = _ROOM_MIN + _ROWS_WRITTEN * _written_size(connection)
    _check_room(file, needed)
    logger.info(
        "%s: migrating from schema version %d to %d; older releases cannot open it afterwards",
        file,
        version,
        SCHEMA_VERSION,
    )
    started_s = time.monotonic()
    with transaction(connection):
        for step in range(version, SCHEMA_VERSION):
            _STEPS[step](connection)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    logger.info(
        "%s: has schema version %d now, after %.1f s",
        file,
        SCHEMA_VERSION,
        time.monotonic() - started_s,
    )


def _to_version_2(connection: sqlite3.Connection) -> None:
    """Positions of many partitions, tenures, counted queues, and columns for MQTT 5."""
    tables = tables_in(connection)
    columns = {table: added for table, added in _V2_COLUMNS.items() if table in tables}
    columns.update((table, _RECORD) for table in message_tables_in(connection))
    for table, added in columns.items():
        for column in added:
            query = fill_in(_QUERIES, {"table": table, "column": column})["add_column"]
            connection.execute(query)
    steps = ["generations", "first_generation", "meta", "copy_meta", "drop_meta", "rename_meta"]
    steps += ["watermarks", "copy_watermarks"]
    if "sessions" in tables:
        steps += ["mark_of_sessions", "queues", "count_queues"]
    for step in (*steps, "drop_watermarks", "rename_watermarks"):
        connection.execute(_QUERIES[f"v2_{step}"])


_STEPS: dict[int, Callable[[sqlite3.Connection], None]] = {1: _to_version_2}
"""Version -> what leads from it to the next one."""


def _version(connection: sqlite3.Connection) -> int:
    ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    return int(version)


def _written_size(connection: sqlite3.Connection) -> int:
    if "sessions" not in tables_in(connection):
        return 0
    ((size,),) = connection.execute(_QUERIES["written_size"]).fetchall()
    return int(size)


def _check_room(file: Path, needed: int) -> None:
    try:
        free = shutil.disk_usage(file).free
    except OSError as exc:
        raise unwritable(file, exc) from exc
    if free < needed:
        raise StartupError(
            f"{file} is of an older schema, and its migration needs {needed} bytes on its disk, "
            f"where {free} are free; free {needed - free} more. Nothing was changed",
            exit_code=ExitCode.STORE_FULL,
        )
