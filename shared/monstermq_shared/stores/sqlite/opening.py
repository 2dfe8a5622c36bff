"""Opening a database file: whose it is, whether it is sound, and what a process must know of it."""

import errno
import fcntl
import os
import sqlite3
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from monstermq_shared.errors import StartupError, StoreDamaged
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.stores.sql import load_queries
from monstermq_shared.stores.sqlite.errors import damaged, translated_at_start
from monstermq_shared.stores.sqlite.ownership import Ownership

MEMORY = ":memory:"
SCHEMA_VERSION = 1
META_TABLES = ("monstermq_meta", "watermarks")

_LIBRARY_VERSION_MIN = (3, 38, 0)  # the first with JSON built in, ->> and unixepoch()
_CHECKED_SIZE_MAX = 64 * 1024 * 1024
_BUSY_TIMEOUT_S = 5.0
_STATEMENTS_MAX = 512
_QUERIES = load_queries(__package__, "database.sql")
_ORIGINAL_TABLES = {"sessions", "subscriptions", "queuedmessages", "retainedmessages"}

_PRAGMAS = (
    # Only before the first table is made: lets a purge give its space back in small steps.
    "PRAGMA auto_vacuum = INCREMENTAL",
    "PRAGMA journal_mode = WAL",
    # What is acknowledged survives a power loss, not only a killed process.
    "PRAGMA synchronous = FULL",
    "PRAGMA cache_size = -65536",
    "PRAGMA temp_store = MEMORY",
    # Every page that changed between two checkpoints is written back once, so a log of 64 MiB
    # instead of the usual 4 writes a fraction of them: measured, 1.5 times the rows a second and
    # no longer pause. The log is moved earlier when nothing else is to be done, see ``writer``.
    "PRAGMA wal_autocheckpoint = 16384",
    "PRAGMA journal_size_limit = 67108864",
)


@dataclass(frozen=True, slots=True)
class Opened:
    """A database that is ours now.

    Attributes:
        connection: The writing connection, in autocommit mode.
        lock: The lock file, None for ``:memory:``; closing it gives the database free.
        ownership: The claim that every transaction checks.
        generation: Of which log the positions are.
        boot: How often the database has been opened.
    """

    connection: sqlite3.Connection
    lock: TextIO | None
    ownership: Ownership
    generation: str
    boot: int


def open_database(path: str, schema: Iterable[str]) -> Opened:
    """Open or make a database, create what is missing in it, and count the boot.

    Args:
        path: The file, or ``:memory:``.
        schema: Statements that create tables and indexes unless they exist.

    Raises:
        StartupError: The file is in use, cannot be written, or is not ours; the disk is full; or
            the SQLite library is too old. The message names the fix.
        StoreDamaged: The file is corrupt, or of a schema this release does not know.
    """
    _check_library()
    lock = None if path == MEMORY else _lock_file(Path(path))
    try:
        with translated_at_start(path):
            connection = sqlite3.connect(
                path,
                timeout=_BUSY_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=_STATEMENTS_MAX,
            )
            try:
                return _take_over(connection, path, schema, lock)
            except BaseException:
                connection.close()
                raise
    except BaseException:
        if lock is not None:
            lock.close()
        raise


def _take_over(
    connection: sqlite3.Connection, path: str, schema: Iterable[str], lock: TextIO | None
) -> Opened:
    tables = {name for (name,) in connection.execute(_QUERIES["tables"])}
    _check_origin(tables, path)
    _check_schema_version(connection, tables, path)
    _check_integrity(connection, path)
    for pragma in _PRAGMAS:
        connection.execute(pragma).fetchall()
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not tables:
            connection.execute(_QUERIES["meta_table"])
            connection.execute(_QUERIES["first_meta"], (str(uuid.uuid4()),))
            connection.execute(_QUERIES["watermarks_table"])
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        for statement in schema:
            connection.execute(statement)
        writer = str(uuid.uuid4())
        begun = connection.execute(_QUERIES["begin_boot"], (writer,)).fetchall()
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    ((generation, boot, version),) = begun
    return Opened(connection, lock, Ownership(writer, version), generation, boot)


def _check_library() -> None:
    if sqlite3.sqlite_version_info < _LIBRARY_VERSION_MIN:
        needed = ".".join(map(str, _LIBRARY_VERSION_MIN))
        raise StartupError(
            f"Python uses SQLite {sqlite3.sqlite_version}, and {needed} or newer is needed; "
            "install a newer SQLite library, or use another store type"
        )


def _lock_file(path: Path) -> TextIO:
    """Lock a file beside the database, for as long as it is held open.

    The database's own locks are taken per transaction, so they do not keep a second broker out.
    """
    name = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The lock is what the file is for: it is kept open, and closed with the database.
        lock = name.open("a+", encoding="utf-8")
    except OSError as exc:
        raise _unwritable(name, exc) from exc
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
    except BlockingIOError as exc:
        lock.seek(0)
        holder = lock.read(20).strip() or "unknown"
        lock.close()
        raise StartupError(
            f"{path} is in use by another broker (process {holder}); end that one, or set "
            "SQLite.Path to another file",
            exit_code=ExitCode.STORE_IN_USE,
        ) from exc
    except OSError as exc:
        with suppress(OSError):  # closing tries to write what could not be written
            lock.close()
        raise _unwritable(name, exc) from exc
    return lock


def _unwritable(path: Path, exc: OSError) -> StartupError:
    if exc.errno == errno.ENOSPC:
        return StartupError(
            f"{path}: the disk is full; free some space, or set SQLite.Path to another disk",
            exit_code=ExitCode.STORE_FULL,
        )
    return StartupError(
        f"{path} cannot be written ({exc.strerror}); make the folder writable for this user, or "
        "set SQLite.Path to another place",
        exit_code=ExitCode.STORE_UNWRITABLE,
    )


def _check_origin(tables: set[str], path: str) -> None:
    if not tables or "monstermq_meta" in tables:
        return
    maker = "another program"
    if tables & _ORIGINAL_TABLES or any(name.endswith(("lastval", "archive")) for name in tables):
        maker = "the original MonsterMQ, whose tables are laid out differently,"
    raise StartupError(
        f"{path} was made by {maker} and is left as it is; set SQLite.Path to a new file",
        exit_code=ExitCode.STORE_DAMAGED,
    )


def _check_schema_version(connection: sqlite3.Connection, tables: set[str], path: str) -> None:
    ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    if tables and version != SCHEMA_VERSION:
        raise StoreDamaged(
            f"{path} has schema version {version}, and this release knows {SCHEMA_VERSION}; "
            "start the release that wrote it, or set SQLite.Path to a new file. Nothing was changed"
        )


def _check_integrity(connection: sqlite3.Connection, path: str) -> None:
    """Look for damage, unless the file is so large that the start would take seconds."""
    ((pages,),) = connection.execute("PRAGMA page_count").fetchall()
    ((page_size,),) = connection.execute("PRAGMA page_size").fetchall()
    if pages * page_size > _CHECKED_SIZE_MAX:
        return
    ((finding,),) = connection.execute("PRAGMA quick_check(1)").fetchall()
    if finding != "ok":
        raise damaged(path, finding)
