"""A consistent copy of an SQLite database, taken by another process while the broker runs."""

import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from monstermq_shared.errors import StoreDamaged, StoreError, StoreUnavailable

# How long to wait for a lock; in WAL mode a reader waits only while the log is being reset.
_BUSY_TIMEOUT_S = 30.0


def backup_file(source: Path, target: Path) -> int:
    """Copy the database at ``source`` into one file at ``target``; return the copy's bytes.

    The copy is what was committed at one moment. It appears under its name only when it is
    complete and on the disk; an older file of that name is replaced then, and not before. The
    source is opened for reading only and its writer is never held up.

    Raises:
        StoreUnavailable: The source is missing or locked, or the target cannot be written.
        StoreDamaged: The source is not a database, or is corrupt.
        StoreError: Source and target are the same file.
    """
    if not source.is_file():
        raise StoreUnavailable(f"{source}: there is no such database file")
    if target.exists() and target.samefile(source):
        raise StoreError(f"{target} is the database itself; name another file")
    try:
        return _write(source, target)
    except sqlite3.OperationalError as exc:
        raise StoreUnavailable(f"cannot copy {source} to {target}: {exc}") from exc
    except sqlite3.DatabaseError as exc:
        raise StoreDamaged(f"cannot copy {source}: {exc}") from exc
    except OSError as exc:
        raise StoreUnavailable(f"cannot write {target}: {exc.strerror or exc}") from exc


def _write(source: Path, target: Path) -> int:
    # Made here and not by SQLite, so that only we may read it and a failure is an OSError.
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.close(descriptor)
    partial = Path(name)
    try:
        _copy(source, partial)
        size = partial.stat().st_size
        partial.replace(target)
        _sync(target.parent)
    finally:
        partial.unlink(missing_ok=True)
    return size


def _copy(source: Path, partial: Path) -> None:
    address = f"{source.resolve().as_uri()}?mode=ro"
    with (
        closing(sqlite3.connect(address, uri=True, timeout=_BUSY_TIMEOUT_S)) as reader,
        closing(sqlite3.connect(partial)) as writer,
    ):
        reader.backup(writer)
        # One file without a log beside it, whatever mode the source is in.
        writer.execute("PRAGMA journal_mode = DELETE")
    _sync(partial)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
