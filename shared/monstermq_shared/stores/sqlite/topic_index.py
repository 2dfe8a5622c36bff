"""The index that finds topics by parts of their names, and by parts of their descriptions.

It follows the message tables: commits note which topics have come or gone (triggers do, so nobody
can forget it), and what is noted is taken into the index later, in slices between commits. While
there are commits, that takes a twentieth of the writer's time at most; while there are none, all of
it. Whoever searches looks through what is noted as well.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress

from monstermq_shared.errors import StoreError
from monstermq_shared.stores.sql import fill_in, load_queries
from monstermq_shared.stores.sqlite.rows import FRAGMENTS
from monstermq_shared.stores.sqlite.tenures import transaction
from monstermq_shared.stores.sqlite.writer import Writer

logger = logging.getLogger(__name__)

NAMES = "topic_names"
TABLES = (
    *("topic_changes", NAMES),
    *(
        f"{index}{part}"
        for index in ("topic_index", "description_index")
        for part in ("", "_config", "_data", "_idx")
    ),
)
"""All tables of the index, those that SQLite makes for it included."""

_QUERIES = load_queries(__package__, "topic_index.sql")
_RETAINED = "retainedmessages"

_SLICE_ROWS = 128
_SLICE_BYTES = 16 * 1024
"""How much one slice does: some milliseconds."""

_REST = 19
"""While there are commits, a slice is followed by so many times its duration without one."""

_BEHIND_MAX = 100_000
"""Of more changes than that, the index takes half of the writer's time.

That is more than others can note in the other half, so it is a bound. Publishers are held back as
they are by any other work of the writer.
"""

_PAUSE_S = 0.2
"""How long nobody looks again where nothing was noted."""

_RETRY_S = 5.0
"""How long to wait after an error; commits report the same trouble, and say what to do."""


class TopicIndex:
    """The statements of an index over some message tables.

    Args:
        tables: Their names.
    """

    def __init__(self, tables: Sequence[str]) -> None:
        self._tables = tables
        there = [fill_in(_QUERIES, {"table": table})["there_in"] for table in tables]
        now = _QUERIES["described_now"] if _RETAINED in tables else "NULL"
        self._queries = fill_in(
            _QUERIES,
            {
                "there": " OR ".join(there),
                "described_now": now,
                "changed": _QUERIES["changed"],
                "description": FRAGMENTS["description"],
                "retained": _RETAINED,
            },
        )

    def schema(self) -> list[str]:
        """Return the statements that create what is missing."""
        names = ("changes_table", "names_table", "name_index_table", "description_index_table")
        statements = [self._queries[name] for name in names]
        for table in self._tables:
            queries = fill_in(self._queries, {"table": table})
            statements += [queries["first_changes"], queries["added_trigger"]]
            statements.append(queries["removed_trigger"])
            if table == _RETAINED:
                statements.append(queries["described_trigger"])
        return statements

    def behind(self, connection: sqlite3.Connection) -> int:
        """Return about how many changes are noted."""
        ((behind,),) = connection.execute(self._queries["behind"]).fetchall()
        return int(behind)

    def take_slice(self, connection: sqlite3.Connection) -> int:
        """Take some of what is noted into the index; return how much is left.

        It is one transaction, on the writer's thread.
        """
        queries = self._queries
        bounds = (_SLICE_ROWS, _SLICE_BYTES)
        ((upto,),) = connection.execute(queries["upto"], bounds).fetchall()
        if upto is None:
            return 0
        with transaction(connection):
            ((last,),) = connection.execute(queries["last_name"]).fetchall()
            parameters = {"upto": upto, "last": last}
            for name in (
                *("add_names", "add_to_index", "remove_descriptions", "add_descriptions"),
                *("describe", "remove_from_index", "remove_names", "done"),
            ):
                connection.execute(queries[name], parameters)
        return self.behind(connection)


class Indexing:
    """Takes what is noted into the index, slice by slice.

    Args:
        index: The index.
        writer: The thread that writes.
        behind: How much an earlier run has left.

    Attributes:
        behind: About how many changes are noted, as of the last slice.
    """

    def __init__(self, index: TopicIndex, writer: Writer, *, behind: int) -> None:
        self.behind = behind
        self._index = index
        self._writer = writer
        self._noted = asyncio.Event()
        if behind:
            self._noted.set()
        self._busy = False
        self._failed = False
        self._task = asyncio.get_running_loop().create_task(self._run())

    def note(self, *, changed: bool) -> None:
        """Say that there was a commit.

        Args:
            changed: Whether it changed message stores, so that something may be noted.
        """
        self._busy = True
        if changed:
            self._noted.set()

    async def close(self) -> None:
        """Stop; what is noted waits for the next start."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        while True:
            await self._noted.wait()
            self._noted.clear()
            self._busy = False
            try:
                self.behind, duration_s = await self._writer.submit(self._timed)
            except StoreError as exc:
                self._tell(exc)
                await asyncio.sleep(_RETRY_S)
                self._noted.set()
                continue
            self._failed = False
            if self._busy:
                rest = _REST if self.behind <= _BEHIND_MAX else 1
                await asyncio.sleep(max(rest * duration_s, 0 if self.behind else _PAUSE_S))
            if self.behind:
                self._noted.set()

    def _tell(self, error: StoreError) -> None:
        if not self._failed:
            self._failed = True
            logger.warning(
                "the index that finds topics by their names is behind, which makes searches "
                "slower, and is tried again every %g s: %s",
                _RETRY_S,
                error,
            )

    def _timed(self, connection: sqlite3.Connection) -> tuple[int, float]:
        begun = time.perf_counter()
        behind = self._index.take_slice(connection)
        return behind, time.perf_counter() - begun


def can_index() -> bool:
    """Tell whether the SQLite library has what the index needs."""
    connection = sqlite3.connect(":memory:")
    try:
        ((able,),) = connection.execute("SELECT sqlite_compileoption_used('ENABLE_FTS5')")
        return bool(able)
    finally:
        connection.close()
