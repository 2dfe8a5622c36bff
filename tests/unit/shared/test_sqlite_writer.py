"""When the write-ahead log is moved into the database."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from monstermq_shared.stores.sqlite import writer as writer_module
from monstermq_shared.stores.sqlite.writer import Writer

DEADLINE_S = 20.0


async def test_a_pause_moves_the_log_only_if_it_is_worth_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, moved = asyncio.get_running_loop(), asyncio.Event()
    said: list[str] = []

    class Noted(Writer):
        def _checkpoint(self) -> None:
            super()._checkpoint()
            said.append("moved")
            loop.call_soon_threadsafe(moved.set)

    monkeypatch.setattr(writer_module, "_CHECKPOINT_IDLE_S", 0)
    monkeypatch.setattr(writer_module, "_CHECKPOINT_ROWS", 10)
    connection = sqlite3.connect(tmp_path / "x.db", isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE rows (x)")
    writer = Noted(connection, "x.db")

    def write(connection: sqlite3.Connection) -> None:
        said.append("wrote")
        connection.executemany("INSERT INTO rows VALUES (?)", [(n,) for n in range(5)])

    await writer.submit(write)
    await writer.submit(write)
    async with asyncio.timeout(DEADLINE_S):
        await moved.wait()
    assert said == ["wrote", "wrote", "moved"]
    await writer.close()
