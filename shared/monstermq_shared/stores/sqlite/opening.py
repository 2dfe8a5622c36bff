"""Opening a database file: whose it is, whether it is sound, and what a process must know of it."""

import logging
import shlex
import sqlite3
import stat
import uuid
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from monstermq_shared.errors import StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.stores.sql import load_queries
from monstermq_shared.stores.sqlite.errors import damaged, translated_at_start, unwritable
from monstermq_shared.stores.sqlite.files import (
    INDEX,
    LOG,
    MEMORY,
    beside,
    check_header,
    complete_or_absent,
    foreign_companion,
    lost_content,
    place_of,
    reading,
)
from monstermq_shared.stores.sqlite.lock import DatabaseLock, check_only_name
from monstermq_shared.stores.sqlite.migrations import SCHEMA_VERSION, check_version, migrate
from monstermq_shared.stores.sqlite.rescue import Guard
from monstermq_shared.stores.sqlite.tables import holds_one_partition, tables_in
from monstermq_shared.stores.sqlite.tenures import transaction
from monstermq_shared.stores.sqlite.watch import FileWatch

logger = logging.getLogger(__name__)

META_TABLES = ("monstermq_meta", "generations", "watermarks")
_SMALL_TABLES = (*META_TABLES, "sessions", "subscriptions", "open_ids", "inflight")

_LIBRARY_VERSION_MIN = (3, 38, 0)  # the first with JSON built in, ->> and unixepoch()
_CHECKED_SIZE_MAX = 64 * 1024 * 1024
_BUSY_TIMEOUT_S = 5.0
_STATEMENTS_MAX = 512
_OTHERS = stat.S_IRWXO
_QUERIES = load_queries(__package__, "database.sql")
_ORIGINAL_TABLES = {"sessions", "subscriptions", "queuedmessages", "retainedmessages"}

_PAGE_SIZE = 2048
"""Bytes of a page of a new database; older ones have 4096.

A small commit writes every page it touches as a whole, some ten of them. Half the usual size
halves that and is no slower in bulk; with 1024 most rows of message tables would not fit on a page.
"""

_LOG_SIZE = 64 * 1024 * 1024
"""How large the write-ahead log becomes before SQLite moves it into the database.

Every page that changed between two checkpoints is written back once, so a log of 64 MiB instead of
the usual 4 writes a fraction of them: measured, 1.5 times the rows a second and no longer pause.
"""

_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    # What is acknowledged survives a power loss, not only a killed process.
    "PRAGMA synchronous = FULL",
    "PRAGMA cache_size = -65536",
    "PRAGMA temp_store = MEMORY",
    f"PRAGMA journal_size_limit = {_LOG_SIZE}",
)

_NEEDED: tuple[tuple[str, str | int, str], ...] = (
    (
        "journal_mode",
        "wal",
        "its file system cannot do that, as those over a network cannot: set SQLite.Path to a "
        "local disk",
    ),
    (
        "synchronous",
        2,
        "the SQLite library was built without it: install another one",
    ),
    (
        "auto_vacuum",
        2,
        "without it the file never becomes smaller. Change it once, while no broker runs, with: "
        "sqlite3 {file} 'PRAGMA auto_vacuum = 2; VACUUM'",
    ),
)
"""Setting, its value, and what to do where it has another one."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A database that is ours now.

    Attributes:
        connection: The writing connection, in autocommit mode.
        lock: None for ``:memory:``; closing it gives the database free.
        guard: What sees to it that the files are not taken away; None for ``:memory:``.
        ended_cleanly: Whether whoever had it open last has closed it; True for a new one.
        one_partition: Whether its tables have room for the rows of one partition only.
    """

    connection: sqlite3.Connection
    lock: DatabaseLock | None = None
    guard: Guard | None = None
    ended_cleanly: bool = True
    one_partition: bool = False


def open_database(path: str, schema: Iterable[str]) -> Opened:
    """Open or make a database, and create what is missing in it.

    Args:
        path: The file, or ``:memory:``.
        schema: Statements that create tables and indexes unless they exist.

    Raises:
        StartupError: The file is in use, cannot be written, or is not ours; the disk is full; or
            the SQLite library is too old. The message names the fix.
        StoreDamaged: The file is corrupt, or of a schema this release does not know.
    """
    _check_library()
    writer = str(uuid.uuid4())
    if path == MEMORY:
        with translated_at_start(path):
            connection = _connect(path)
            create_meta(connection)
            _set_pragmas(connection)
            _take_over(connection, schema, writer)
            return Opened(connection)
    file = Path(path)
    _check_before(file)
    lock = DatabaseLock.acquire(file)
    try:
        _warn_of_new_folder(file, lock)
        if not file.exists():
            _create(file)
        descriptor = lock.hold(file)
        with translated_at_start(path):
            connection = _connect(path)
            try:
                _check_integrity(connection, path)
                _set_pragmas(connection)
                _check_settings(connection, path)
                migrate(connection, file)
                _take_over(connection, schema, writer)
                one_partition = holds_one_partition(connection)
                _warn_of_open_mode(file)
                guard = Guard(FileWatch(file, descriptor), file, writer)
            except BaseException:
                connection.close()
                raise
    except BaseException:
        lock.abandon()
        raise
    return Opened(connection, lock, guard, lock.ended_cleanly, one_partition)


def check_ours(connection: sqlite3.Connection, path: str) -> None:
    """Refuse a database that this release cannot use as its own.

    Raises:
        StartupError: Another program has made it, or it has no tables at all.
        StoreDamaged: Its schema is of a version this release does not know.
        sqlite3.Error: It cannot be read.
    """
    tables = tables_in(connection)
    if not tables:
        raise lost_content(Path(path), "is a database without any table")
    check_origin(tables, path)
    check_version(connection, path)


def create_meta(connection: sqlite3.Connection) -> None:
    """Make an empty file, or ``:memory:``, a database of the current schema without stores."""
    # Both only before the first table is made, and in this order.
    connection.execute(f"PRAGMA page_size = {_PAGE_SIZE}")
    # Lets a purge give its space back in small steps.
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(_QUERIES["meta_table"])
    connection.execute(_QUERIES["first_meta"])
    connection.execute(_QUERIES["generations_table"])
    connection.execute(_QUERIES["watermarks_table"])
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")


def _check_before(file: Path) -> None:
    """Refuse a file that is not ours before anything is made beside it."""
    try:
        exists = file.exists()
        if not exists and (companion := foreign_companion(file)) is not None:
            raise StartupError(
                f"{file} is missing, but its log {companion} is there, with messages that are "
                "nowhere else; put the database back beside it, or go back to a backup, which "
                "keeps the log under another name (monstermq db restore BACKUP), or remove the log "
                "to begin with nothing",
                exit_code=ExitCode.STORE_DAMAGED,
            )
        if exists:
            check_only_name(file)
            check_header(file)
    except OSError as exc:
        raise unwritable(file, exc) from exc
    if exists:
        with translated_at_start(str(file)), reading(file) as connection:
            check_ours(connection, str(file))


def _warn_of_new_folder(file: Path, lock: DatabaseLock) -> None:
    folder = place_of(file).parent
    if lock.made_folder and not folder.is_relative_to(Path.cwd()):
        logger.warning(
            "the folder %s did not exist and was made; if the database should be elsewhere, or on "
            "a disk that is not mounted, correct SQLite.Path",
            folder,
        )


def _warn_of_open_mode(file: Path) -> None:
    """A group may be meant to read it, so its mode is left; everybody is hardly ever meant."""
    parts = [part for suffix in ("", LOG, INDEX) if (part := beside(file, suffix)).exists()]
    if any(part.stat().st_mode & _OTHERS for part in parts):
        logger.warning(
            "every user of this machine can read or write %s, with all messages in it; if that is "
            "not meant: chmod o-rwx %s",
            file,
            " ".join(shlex.quote(str(part)) for part in parts),
        )


def _create(file: Path) -> None:
    """Make a new database; it appears only when it is complete.

    So a file without tables is never one that was about to be made.
    """
    try:
        with (
            complete_or_absent(file) as partial,
            translated_at_start(str(file)),
            closing(_connect(str(partial))) as connection,
        ):
            create_meta(connection)
    except OSError as exc:
        raise unwritable(file, exc) from exc


def _connect(path: str) -> sqlite3.Connection:
    return sqlite3.connect(
        path,
        timeout=_BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_STATEMENTS_MAX,
    )


def _set_pragmas(connection: sqlite3.Connection) -> None:
    for pragma in _PRAGMAS:
        connection.execute(pragma).fetchall()
    ((page_size,),) = connection.execute("PRAGMA page_size").fetchall()
    connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_SIZE // page_size}").fetchall()


def _take_over(connection: sqlite3.Connection, schema: Iterable[str], writer: str) -> None:
    """Make what is missing, and leave a token by which the rescue knows the database again."""
    with transaction(connection):
        for statement in schema:
            connection.execute(statement)
        connection.execute(_QUERIES["take_over"], (writer,))


def _check_settings(connection: sqlite3.Connection, path: str) -> None:
    """Refuse to run where SQLite has not taken a setting that promises of ours rest on.

    It does not raise then, but goes on as it was.
    """
    for setting, wanted, fix in _NEEDED:
        ((found,),) = connection.execute(f"PRAGMA {setting}").fetchall()
        if found != wanted:
            raise StartupError(
                f"{path}: SQLite's {setting} is {found!r} and must be {wanted!r}; "
                f"{fix.format(file=shlex.quote(path))}",
                exit_code=ExitCode.STORE_UNWRITABLE,
            )


def _check_library() -> None:
    if sqlite3.sqlite_version_info < _LIBRARY_VERSION_MIN:
        needed = ".".join(map(str, _LIBRARY_VERSION_MIN))
        raise StartupError(
            f"Python uses SQLite {sqlite3.sqlite_version}, and {needed} or newer is needed; "
            "install a newer SQLite library, or use another store type"
        )


def check_origin(tables: set[str], path: str) -> None:
    """Refuse the tables of another program, or of the original MonsterMQ.

    Raises:
        StartupError: They are.
    """
    if "monstermq_meta" in tables:
        return
    maker = "another program"
    if tables & _ORIGINAL_TABLES or any(name.endswith(("lastval", "archive")) for name in tables):
        maker = "the original MonsterMQ, whose tables are laid out differently,"
    raise StartupError(
        f"{path} was made by {maker} and is left as it is; set SQLite.Path to a new file",
        exit_code=ExitCode.STORE_DAMAGED,
    )


def _check_integrity(connection: sqlite3.Connection, path: str) -> None:
    """Look for damage; of a file so large that it would take long, only in the small tables.

    Those are what a start reads. Damage elsewhere is met when somebody reads or writes there.
    """
    ((pages,),) = connection.execute("PRAGMA page_count").fetchall()
    ((page_size,),) = connection.execute("PRAGMA page_size").fetchall()
    checks = ["quick_check(1)"]
    if pages * page_size > _CHECKED_SIZE_MAX:
        tables = tables_in(connection)
        checks = [f"quick_check({name})" for name in _SMALL_TABLES if name in tables]
    for check in checks:
        finding = connection.execute(f"PRAGMA {check}").fetchone()[0]
        if finding != "ok":
            raise damaged(path, finding)
