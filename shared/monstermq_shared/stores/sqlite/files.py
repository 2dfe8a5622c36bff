"""A database as files: what lies beside it, and reading it without changing a byte of it."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from monstermq_shared.errors import StartupError, StoreDamaged
from monstermq_shared.exit_codes import ExitCode

LOG, INDEX, JOURNAL, LOCK, PARTIAL = "-wal", "-shm", "-journal", ".lock", ".partial"
"""What SQLite and we append to a database's name: for the write-ahead log, its index, the rollback
journal, the lock of the broker that runs on it, and for a file that is not complete yet."""

_HEADER = b"SQLite format 3\x00"


def beside(database: Path, suffix: str) -> Path:
    """Return the path of a file beside a database, links followed as SQLite follows them."""
    place = database.resolve()
    return place.with_name(place.name + suffix)


def family(database: Path) -> set[Path]:
    """Return the database and every file that may lie beside it, links followed."""
    return {beside(database, suffix) for suffix in ("", LOG, INDEX, JOURNAL, LOCK, PARTIAL)}


def check_header(path: Path) -> None:
    """Refuse a file that cannot be a database, by its first bytes.

    Raises:
        StartupError: It is empty, which no database of ours ever is.
        StoreDamaged: It does not begin as SQLite's files do.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        begin = file.read(len(_HEADER))
    if not begin:
        raise lost_content(path, "is empty (0 bytes)")
    if begin != _HEADER:
        raise StoreDamaged(
            f"{path} is no SQLite database, or its first page is overwritten. Nothing was changed. "
            "If it never was MonsterMQ's, set SQLite.Path to another file; if it was, restore a "
            "backup: monstermq db restore BACKUP"
        )


def lost_content(path: Path, finding: str) -> StartupError:
    """Return the error for a file that holds nothing where a database is expected."""
    return StartupError(
        f"{path} {finding}: whatever was in it is not there any more, so it is not taken for a new "
        "database. Restore a backup (monstermq db restore BACKUP), or remove the file to begin "
        "with nothing",
        exit_code=ExitCode.STORE_DAMAGED,
    )


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open an existing database so that neither it nor its write-ahead log changes.

    Raises:
        sqlite3.Error: It cannot be opened.
    """
    place = path.resolve()
    log, index = beside(place, LOG), beside(place, INDEX)
    has_log = log.is_file() and log.stat().st_size > 0
    had_index = index.exists()
    # Without a log there is nothing to coordinate, and SQLite need not make its files.
    mode = "mode=ro" if has_log else "mode=ro&immutable=1"
    connection = sqlite3.connect(f"file:{quote(str(place))}?{mode}", uri=True, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()
        if has_log and not had_index:
            index.unlink(missing_ok=True)


@contextmanager
def complete_or_absent(target: Path) -> Iterator[Path]:
    """Give the path of a file to write beside the target, whose name it gets if nothing is raised.

    Raises:
        OSError: The folder cannot be written, or the disk is full.
    """
    partial = beside(target, PARTIAL)
    try:
        partial.unlink(missing_ok=True)
        yield partial
        put_in_place(partial, target.resolve())
    finally:
        with suppress(OSError):  # what went wrong is on its way already
            partial.unlink()


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def put_in_place(partial: Path, place: Path) -> None:
    """Give a complete file its name, so that a crash leaves either the old one or the new one."""
    sync(partial)
    partial.replace(place)
    sync(place.parent)
