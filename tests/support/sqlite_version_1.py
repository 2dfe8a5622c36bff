"""A database file as releases of schema version 1 have left it."""

import sqlite3
from contextlib import closing
from pathlib import Path

SCRIPT = Path(__file__).with_suffix(".sql")

BEGIN = 3 << 40
"""Below the positions in it: those of the third boot."""


def make_version_1(path: Path) -> None:
    """Make the file."""
    path.touch(mode=0o600)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(SCRIPT.read_text(encoding="utf-8"))
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
