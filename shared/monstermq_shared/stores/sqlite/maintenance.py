"""Work on the writer's thread that can wait: in slices, so that no commit waits for long."""

import sqlite3
import time

from monstermq_shared.stores.sqlite.ownership import Ownership
from monstermq_shared.stores.sqlite.writer import Writer

_SLICE_ROWS = 500
_SLICE_S = 0.02
_FREE_PAGES_KEPT = 256


class Maintenance:
    """Deletes what is too old and gives the space back to the file system.

    Every call is one job on the writer's thread, and whoever calls waits for it, so commits come in
    between.

    Args:
        writer: The thread.
        ownership: What makes its transactions conditional.
    """

    slice_rows = _SLICE_ROWS
    """How many rows one job should delete: some milliseconds."""

    def __init__(self, writer: Writer, ownership: Ownership) -> None:
        self._writer = writer
        self._ownership = ownership

    async def delete(self, query: str, parameters: tuple[object, ...]) -> int:
        """Execute one DELETE; return how many rows it deleted."""

        def run(connection: sqlite3.Connection) -> int:
            with self._ownership.transaction(connection):
                return connection.execute(query, parameters).rowcount

        return await self._writer.submit(run)

    async def give_space_back(self) -> None:
        """Return free pages at the end of the file, as many as fit into one short job.

        Some are kept for the rows that come next; the rest follows with the next purges.
        """

        def run(connection: sqlite3.Connection) -> None:
            ((free,),) = connection.execute("PRAGMA freelist_count").fetchall()
            deadline = time.monotonic() + _SLICE_S
            with self._ownership.transaction(connection):
                # One at a time, as the driver executes only the first step of this statement.
                for _ in range(free - _FREE_PAGES_KEPT):
                    connection.execute("PRAGMA incremental_vacuum(1)")
                    if time.monotonic() > deadline:
                        break

        await self._writer.submit(run)
