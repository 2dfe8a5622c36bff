"""Copies of a database that is in use."""

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from monstermq_shared.errors import ConfigError, StoreUnavailable
from monstermq_shared.stores.sqlite.errors import translated


def backup_file(source: Path, target: Path) -> int:
    """Copy a database on a connection of its own, also while a broker is using it.

    Returns:
        The bytes of the copy.

    Raises:
        ConfigError: The target is the database itself.
        StoreUnavailable: There is no such database, or the target cannot be written.
        StoreDamaged: The source is not a database, or is corrupt.
    """
    if not source.is_file():
        raise StoreUnavailable(f"{source}: there is no such database file")
    if target.resolve() == source.resolve():
        raise ConfigError(f"{target} is the database itself; choose another file")
    with translated(str(source)):
        connection = sqlite3.connect(f"file:{quote(str(source))}?mode=rw", uri=True)
    try:
        copy_to(connection, target)
    finally:
        connection.close()
    return target.stat().st_size


def copy_to(source: sqlite3.Connection, target: Path) -> None:
    """Copy what the connection sees; the target appears only when it is complete and on the disk.

    Raises:
        StoreUnavailable: The target cannot be written, or the disk is full.
    """
    partial = target.with_name(target.name + ".partial")
    try:
        partial.unlink(missing_ok=True)
        with translated(f"the copy {partial}"):
            # Not the backup API: it begins anew whenever another connection writes.
            source.execute("VACUUM INTO ?", (str(partial),))
        _sync(partial)
        partial.replace(target)
        _sync(target.parent)
    except OSError as exc:
        raise StoreUnavailable(f"{target} cannot be written: {exc}") from exc
    finally:
        with suppress(OSError):  # what went wrong is on its way already
            partial.unlink()


def _sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
