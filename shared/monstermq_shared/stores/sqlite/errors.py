"""SQLite's errors in our words: the one place that names the driver's codes."""

import errno
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from monstermq_shared.errors import StartupError, StoreDamaged, StoreError, StoreUnavailable
from monstermq_shared.exit_codes import ExitCode

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_CHANGED_CODES = {sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH}
_CHANGED_TEXTS = ("no such table", "no such column", "has no column named")
_UNAVAILABLE = {
    sqlite3.SQLITE_BUSY: "another program holds its lock",
    sqlite3.SQLITE_LOCKED: "another program holds its lock",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk reports an error",
    sqlite3.SQLITE_READONLY: "it cannot be written",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_PERM: "it may not be written",
    sqlite3.SQLITE_PROTOCOL: "its locks do not work on this file system",
}


@contextmanager
def translated(where: str, *, read: str | None = None) -> Iterator[None]:
    """Raise the driver's errors as ours; the driver's own is the ``__cause__``.

    Args:
        where: The database, as messages name it.
        read: If it is only written to: the database that is read, which alone can be damaged.
    """
    try:
        yield
    except sqlite3.Error as exc:
        if _primary_code(exc) in _DAMAGED:
            raise damaged(where if read is None else read, str(exc)) from exc
        raise _store_error(exc, where) from exc


@contextmanager
def translated_at_start(where: str) -> Iterator[None]:
    """Like ``translated``, but what may pass later is a ``StartupError`` with its exit code.

    All else is damage: so SQLite answers to a header that makes no sense.
    """
    try:
        yield
    except sqlite3.Error as exc:
        if _primary_code(exc) in _UNAVAILABLE:
            raise _startup_error(exc, where) from exc
        raise damaged(where, str(exc)) from exc


def _store_error(exc: sqlite3.Error, where: str) -> StoreError:
    code = _primary_code(exc)
    if code in _UNAVAILABLE:
        return StoreUnavailable(f"{where}: {_UNAVAILABLE[code]} ({exc})")
    if code in _CHANGED_CODES or any(text in str(exc) for text in _CHANGED_TEXTS):
        return StoreDamaged(
            f"{where}: somebody has changed its tables ({exc}). Undo that, or go back to a backup "
            "with: monstermq db restore BACKUP"
        )
    return StoreError(f"{where}: {exc}")


def damaged(where: str, finding: str) -> StoreDamaged:
    """Return the error for a corrupt file, naming the way out of it."""
    source, target = shlex.quote(where), shlex.quote(f"{where}.recovered")
    return StoreDamaged(
        f"{where} is damaged ({finding}). Nothing was changed. Save what can be read with: "
        f"monstermq db recover {source} {target}; or go back to a backup with: "
        "monstermq db restore BACKUP"
    )


def unwritable(path: Path, exc: OSError) -> StartupError:
    """Return the error for a file or folder that cannot be written at start."""
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


def _startup_error(exc: sqlite3.Error, where: str) -> StartupError:
    code = _primary_code(exc)
    if code == sqlite3.SQLITE_FULL:
        fix, exit_code = "free some space", ExitCode.STORE_FULL
    elif code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        fix, exit_code = "end that program", ExitCode.STORE_IN_USE
    else:
        fix, exit_code = "make file and folder writable", ExitCode.STORE_UNWRITABLE
    return StartupError(
        f"{where}: {_UNAVAILABLE[code]} ({exc}); {fix}, or set SQLite.Path to another place",
        exit_code=exit_code,
    )


def _primary_code(exc: sqlite3.Error) -> int:
    """Return the code without its extension; errors of the Python module itself have none."""
    code: int = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    if code == sqlite3.SQLITE_IOERR_SHMSIZE:
        # Every other file that finds no space says so; the WAL's index says it this way.
        return sqlite3.SQLITE_FULL
    if code == sqlite3.SQLITE_IOERR_SHORT_READ:
        # The log is shorter than SQLite left it. Of other files it takes this for an end.
        return sqlite3.SQLITE_CORRUPT
    return code & 0xFF
