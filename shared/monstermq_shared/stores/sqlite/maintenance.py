"""Work on the writer's thread that can wait: in slices, so that no commit waits for long."""

import sqlite3
import time

from monstermq_shared.stores.sqlite.tenures import transaction
from monstermq_shared.stores.sqlite.writer import Writer

_SLICE_ROWS = 500
_SLICE_S = 0.02
_FREE_PAGES_KEPT = 256
_FREE_SHARE_KEPT = 64


class Maintenance:
    """Deletes what is too old and gives the space back to the file system.

    Every call is one job on the writer's thread, and whoever calls waits for it, so commits come in
    between. It needs no tenure: what is too old is so for whoever writes, and doing it twice is the
    same as once.

    Args:
        writer: The thread.
    """

    slice_rows = _SLICE_ROWS
    """How many rows one job should delete: some milliseconds."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def delete(self, query: str, parameters: tuple[object, ...]) -> int:
        """Execute one DELETE; return how many rows it deleted."""

        def run(connection: sqlite3.Connection) -> int:
            with transaction(connection):
                return connection.execute(query, parameters).rowcount

        return await self._writer.submit(run)

    async def give_space_back(self) -> bool:
        """Return free pages at the end of the file, as many as fit into one short job.

        A 64th of the file, at least 1 MiB, is kept for the rows that come next.

        Returns:
            Whether there is more to give back, by another call.
        """
        return await self._writer.submit(self._vacuum)

    def _vacuum(self, connection: sqlite3.Connection) -> bool:
        ((free,),) = connection.execute("PRAGMA freelist_count").fetchall()
        ((pages,),) = connection.execute("PRAGMA page_count").fetchall()
        surplus: int = free - max(_FREE_PAGES_KEPT, pages // _FREE_SHARE_KEPT)
        if surplus <= 0 or not _can_shrink(connection):
            return False
        deadline = time.monotonic() + _SLICE_S
        with transaction(connection):
            # One at a time, as the driver executes only the first step of this statement.
            while surplus > 0 and time.monotonic() < deadline:
                connection.execute("PRAGMA incremental_vacuum(1)")
                surplus -= 1
        return surplus > 0


def _can_shrink(connection: sqlite3.Connection) -> bool:
    """Tell whether the file was made so that pages can be given back; see ``opening``."""
    ((mode,),) = connection.execute("PRAGMA auto_vacuum").fetchall()
    return bool(mode)
