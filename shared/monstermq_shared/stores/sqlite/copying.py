"""What a connection sees of a database, written into another file."""

import sqlite3
from pathlib import Path

from monstermq_shared.errors import StoreUnavailable
from monstermq_shared.stores.sqlite.errors import translated
from monstermq_shared.stores.sqlite.files import complete_or_absent


def copy_to(source: sqlite3.Connection, target: Path, *, read: str) -> None:
    """Copy what the connection sees; the target appears only when it is complete and on the disk.

    Args:
        source: Where to read; in autocommit mode.
        target: The copy; what is there is replaced.
        read: The name of what is read, for errors.

    Raises:
        StoreUnavailable: The target cannot be written, or the disk is full.
        StoreDamaged: What is read is corrupt.
    """
    try:
        with complete_or_absent(target) as partial:
            write_copy(source, partial, read=read)
    except OSError as exc:
        raise StoreUnavailable(f"{target} cannot be written: {exc}") from exc


def write_copy(source: sqlite3.Connection, partial: Path, *, read: str) -> None:
    """Copy what the connection sees into an empty file; see ``copy_to``."""
    with translated(f"the copy {partial}", read=read):
        # Not the backup API: it begins anew whenever another connection writes.
        source.execute("VACUUM INTO ?", (str(partial),))
