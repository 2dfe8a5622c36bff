"""A database in SQLite for one test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.sqlite_database import open_database

from monstermq_shared.stores.sqlite import SqliteDatabase


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where ``database`` is."""
    return tmp_path / "monstermq.db"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[SqliteDatabase]:
    """A database with a store of every kind, empty and open."""
    database = await open_database(path)
    yield database
    await database.close()
