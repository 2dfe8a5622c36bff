"""SQLite: one file, one writer thread, readers beside it."""

from monstermq_shared.stores.sqlite.database import SqliteDatabase

__all__ = ["SqliteDatabase"]
