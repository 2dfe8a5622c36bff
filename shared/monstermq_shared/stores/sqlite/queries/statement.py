"""SQL of others, each statement in a process of its own: see ``statement_child``."""

import asyncio
import base64
import json
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from monstermq_shared.config import StoreType
from monstermq_shared.errors import QueryRefused, QueryTimedOut, StoreError, StoreUnavailable
from monstermq_shared.queries.bounds import CELL_SIZE_MAX
from monstermq_shared.queries.sql import (
    Cell,
    Column,
    CutValue,
    SqlAnswer,
    SqlQuery,
    Table,
    TableKind,
)
from monstermq_shared.stores.sqlite.queries import statement_child
from monstermq_shared.stores.sqlite.queries.connections import Connections
from monstermq_shared.stores.sqlite.queries.statement_child import Request, written
from monstermq_shared.stores.sqlite.tables import tables_in

_PROGRAM = (sys.executable, "-I", "-S", str(Path(statement_child.__file__)))
"""Without site packages, which it does not need, and which would take longer to load."""

_WRONG_TIME = re.compile(r"\btime\s*(?:[<>]=?|between\b)\s*datetime\s*\(", re.IGNORECASE)
"""What everybody writes who knows SQLite: it would be answered, with the messages of all day."""

_WAITING_MAX = 16
"""Statements that may wait for the one that runs; more are refused."""

_LATE_S = 0.25
"""How long after its time a statement is killed that has not ended by itself."""


class SqliteStatements:
    """Runs statements of others, one at a time.

    Args:
        path: The database file, as the configuration has it.
        readable: The tables that may be read, and what each keeps.
        connections: Where to look for the tables.
        timeout_s: Seconds after which a statement is given up, its waiting included.
    """

    store_type = StoreType.SQLITE.value

    def __init__(
        self,
        path: str,
        readable: Mapping[str, TableKind],
        connections: Connections,
        *,
        timeout_s: float,
    ) -> None:
        self._path = path
        self._readable = readable
        self._connections = connections
        self._timeout_s = timeout_s
        self._thread: ThreadPoolExecutor | None = None
        self._asked: set[_Child] = set()
        self._closed = False

    async def run(self, query: SqlQuery) -> SqlAnswer:
        """Run one statement that reads the tables of ``tables``, and nothing else."""
        if _WRONG_TIME.search(query.text):
            raise QueryRefused(
                "time is text such as 2026-01-15T10:30:00.000Z, and datetime() writes a space "
                "where that has a T, so the comparison would be wrong; compare it with "
                "strftime('%Y-%m-%dT%H:%M:%fZ', ...) and the same arguments"
            )
        deadline = time.monotonic() + self._timeout_s
        names = await self._connections.run(self._there)
        if self._closed:
            raise StoreError(f"{self._path} has been closed")
        if len(self._asked) > _WAITING_MAX:
            raise StoreUnavailable(f"{self._path}: too many statements at a time; ask again later")
        request: Request = {
            "path": self._path,
            "text": query.text,
            "tables": names,
            "rows_max": query.limit,
            "size_max": query.size_max,
            "cell_max": CELL_SIZE_MAX,
            "within_s": 0.0,
        }
        found = await self._in_child(_Child(request, deadline))
        if found is None or "late" in found:
            raise QueryTimedOut(
                f"the SQLite database {self._path} has not answered within {self._timeout_s:g} "
                "seconds; ask for less: fewer rows, a shorter stretch of time"
            )
        if "refused" in found:
            raise QueryRefused(found["refused"])
        if "unavailable" in found:
            raise StoreUnavailable(f"{self._path}: {found['unavailable']}")
        rows = [[_cell(value) for value in row] for row in found["rows"]]
        return SqlAnswer(columns=found["columns"], rows=rows, more=found["more"])

    async def tables(self) -> Sequence[Table]:
        """Return what may be read."""
        return await self._connections.run(self._describe)

    async def close(self) -> None:
        """End what is running. A second call does nothing."""
        self._closed = True
        for child in self._asked:
            child.end()
        if self._thread is not None:
            thread, self._thread = self._thread, None
            await asyncio.to_thread(thread.shutdown)

    def _there(self, connection: sqlite3.Connection) -> list[str]:
        """Return which of the tables there are; a broker makes them when it starts."""
        return sorted(self._readable.keys() & tables_in(connection))

    def _describe(self, connection: sqlite3.Connection) -> list[Table]:
        tables = []
        for name in self._there(connection):
            found = connection.execute("SELECT name, type FROM pragma_table_xinfo(?)", (name,))
            columns = [Column(name=column, type=type_.split(" ")[0]) for column, type_ in found]
            tables.append(Table(name=written(name), kind=self._readable[name], columns=columns))
        return tables

    async def _in_child(self, child: "_Child") -> dict[str, Any] | None:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite-statement")
        self._asked.add(child)
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._thread, child.answer)
        future.add_done_callback(lambda _: self._asked.discard(child))
        try:
            return await asyncio.shield(future)
        finally:
            # Nobody waits for it any more, whatever has ended this.
            child.end()


class _Child:
    """A process that answers one request, or is killed.

    Args:
        request: The request.
        deadline: Until when, as ``time.monotonic`` counts.
    """

    def __init__(self, request: Request, deadline: float) -> None:
        self._request = request
        self._deadline = deadline
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = False

    def end(self) -> None:
        """Kill it, or let it not begin."""
        with self._lock:
            self._ended = True
            if self._process is not None:
                self._process.kill()

    def answer(self) -> dict[str, Any] | None:
        """Start it, and return what it answers; None if it was ended, or was too late."""
        self._request["within_s"] = self._deadline - time.monotonic()
        if self._request["within_s"] <= 0:
            return None
        with self._lock:
            if self._ended:
                return None
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                _PROGRAM, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        with self._process as process:
            try:
                written_out, _ = process.communicate(
                    json.dumps(self._request).encode(), self._request["within_s"] + _LATE_S
                )
            except subprocess.TimeoutExpired:
                process.kill()
                return None
            finally:
                with self._lock:
                    self._process = None
        return self._read(written_out, process.returncode)

    def _read(self, text: bytes, code: int) -> dict[str, Any] | None:
        """Return what it has written; it may have met a limit of the system, and died."""
        if code == 0:
            found: dict[str, Any] = json.loads(text)
            return found
        if self._ended or time.monotonic() >= self._deadline:
            return None
        return {
            "refused": "the statement takes too much memory or time; ask for less: fewer rows, a "
            "shorter stretch of time"
        }


_DECODED: dict[str, Callable[[str], str | bytes]] = {"bytes": base64.b64decode, "text": str}


def _cell(value: int | float | str | dict[str, Any] | None) -> Cell:
    """Return a value that ``statement_child`` has written."""
    if not isinstance(value, dict):
        return value
    kind = "bytes" if "bytes" in value else "text"
    start = _DECODED[kind](value[kind])
    return start if len(start) == value["size"] else CutValue(start, value["size"])
