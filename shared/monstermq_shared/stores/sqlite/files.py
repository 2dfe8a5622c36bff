"""A database as files: what lies beside it, and reading it without changing a byte of it."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from monstermq_shared.errors import ConfigError, StartupError, StoreDamaged
from monstermq_shared.exit_codes import ExitCode

LOG, INDEX, JOURNAL, LOCK, PARTIAL = "-wal", "-shm", "-journal", ".lock", ".partial"
"""What SQLite and we append to a database's name: for the write-ahead log, its index, the rollback
journal, the lock of the broker that runs on it, and for a file that is not complete yet."""

MEMORY = ":memory:"
"""The path of a database that is in memory."""

PRIVATE = 0o600
"""The mode of every file we make: what is in it is for its owner, whatever the umask."""

_HEADER = b"SQLite format 3\x00"


def place_of(path: Path) -> Path:
    """Return where a file really is, links followed as SQLite follows them.

    Raises:
        ConfigError: The links lead nowhere.
    """
    loop = ConfigError(
        f"{path} is a symbolic link that leads back to itself; make it lead to a file"
    )
    try:
        place = path.resolve()
    except RuntimeError as exc:  # a loop, to Python before 3.13
        raise loop from exc
    if place.is_symlink():  # a loop, to Python from 3.13 on
        raise loop
    return place


def beside(database: Path, suffix: str) -> Path:
    """Return the path of a file beside a database, links followed as SQLite follows them."""
    place = place_of(database)
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
    place = place_of(path)
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

    It is there already, empty, and only its owner can read it. What an earlier, interrupted call
    left goes first: a journal of that one would be played back into this one.

    Raises:
        OSError: The folder cannot be written, the disk is full, or see ``put_in_place``.
    """
    partial = beside(target, PARTIAL)
    try:
        _remove(partial)
        _create_private(partial)
        yield partial
        put_in_place(partial, place_of(target))
    finally:
        with suppress(OSError):  # what went wrong is on its way already
            _remove(partial)


def _remove(partial: Path) -> None:
    for suffix in ("", LOG, INDEX, JOURNAL):
        partial.with_name(partial.name + suffix).unlink(missing_ok=True)


def _create_private(path: Path) -> None:
    """Make an empty file of mode 0600; SQLite gives the files it makes beside it the same mode."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(path, flags, PRIVATE)
    try:
        os.fchmod(descriptor, PRIVATE)  # whatever the umask has taken from it
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def foreign_companion(place: Path) -> Path | None:
    """Return a write-ahead log or rollback journal of a name that would be read into the database.

    Whoever opens a database plays back what lies beside it under its name, whosever it is.
    """
    for companion in (beside(place, LOG), beside(place, JOURNAL)):
        if os.path.lexists(companion) and not _is_empty(companion):
            return companion
    return None


def check_no_companion(target: Path) -> None:
    """Refuse a new name beside which something lies that would be read into whatever gets it.

    Raises:
        ConfigError: There is; the message names it.
    """
    companion = foreign_companion(target)
    if companion is not None:
        raise ConfigError(
            f"{companion} is there without its database, and would be read into {target}; move it "
            "away, or choose another name"
        )


def _is_empty(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size == 0


def put_in_place(partial: Path, place: Path) -> None:
    """Give a complete file its name, so that a crash leaves either the old one or the new one.

    It gets the name without companions of whatever had it before. Those with content are for the
    caller to move; what is empty, and the index of a log that is not there, goes.

    Raises:
        FileExistsError: There is one with content.
        OSError: The folder cannot be written.
    """
    companion = foreign_companion(place)
    if companion is not None:
        raise FileExistsError(f"{companion} is there and would be read into it; move it away")
    for suffix in (LOG, INDEX, JOURNAL):
        beside(place, suffix).unlink(missing_ok=True)
    sync(partial)
    partial.replace(place)
    sync(place.parent)
