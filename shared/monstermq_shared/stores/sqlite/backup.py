"""Copies of a database that is in use."""

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from monstermq_shared.errors import ConfigError, StoreUnavailable
from monstermq_shared.stores.sqlite.errors import translated


def backup_file(path: Path, target: Path) -> int:
    """Copy a database file on a connection of its own, so that nobody waits for it.

    Also while a broker, in this process or another, is using it.

    Returns:
        The bytes of the copy.

    Raises:
        ConfigError: The target is the database itself.
        StoreUnavailable: The target cannot be written, or the disk is full.
    """
    if target.resolve() == path.resolve():
        raise ConfigError(f"{target} is the database itself; choose another file")
    with translated(str(path)):
        source = sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True)
    try:
        copy_to(source, target)
    finally:
        source.close()
    return target.stat().st_size


def backup_file(source: Path, target: Path) -> int:
    """Copy a database that another process may be using; return the copy's size in bytes.

    Raises:
        ConfigError: The target is the database itself.
        StoreUnavailable: There is no such database, or the target cannot be written.
        StoreDamaged: The source is not a database, or is corrupt.
    """
    if not source.is_file():
        raise StoreUnavailable(f"{source}: there is no such database file")
    copy_file(source, target)
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
