"""Keeps the database from filling its disk: when little is left, the oldest history goes."""

import asyncio
import logging
from collections.abc import Sequence

from monstermq_shared.clock import Clock
from monstermq_shared.counters import Counters
from monstermq_shared.operation.limited_log import LimitedLog
from monstermq_shared.stores.ports import OnDisk, Shrinkable

PAUSE_S = 0.02
"""Seconds for the commits between two deletions."""

_ROWS_MIN = 2_000
_ROWS_MAX = 64_000
_LOG_INTERVAL_S = 60.0
_MIB = 1024 * 1024


class DiskReserve:
    """A number of bytes that stays free for the messages to come.

    Args:
        database: Whose disk it is.
        archives: Whose oldest records are deleted.
        counters: Where the rows that went are counted.
        clock: For the limit on log lines.
        size: The reserve in bytes.
    """

    def __init__(
        self,
        database: OnDisk,
        archives: Sequence[Shrinkable],
        counters: Counters,
        clock: Clock,
        size: int,
    ) -> None:
        self._database = database
        self._archives = archives
        self._counters = counters
        self._clock = clock
        self._size = size
        self._log = LimitedLog(logging.getLogger(__name__), interval_s=_LOG_INTERVAL_S)

    async def keep(self) -> str | None:
        """Delete the oldest records until the reserve is free again; return why it cannot be.

        As long as more is written than deleted, more is deleted at a time.

        Raises:
            StoreError: The database refuses.
        """
        rows = _ROWS_MIN
        free = await self._database.free_size()
        while free is not None and free < self._size:
            self._warn(free)
            deleted = await self._delete_oldest(rows)
            if not deleted:
                return f"{free // _MIB} MB are free, and no history is left to delete"
            self._counters.rows_purged += deleted
            before, free = free, await self._database.free_size()
            if free is not None and free <= before:
                rows = min(2 * rows, _ROWS_MAX)
            await asyncio.sleep(PAUSE_S)
        return None

    async def _delete_oldest(self, rows: int) -> int:
        """Delete from the archive with the oldest record; return how many went."""
        ages = [(await archive.oldest_ms(), archive) for archive in self._archives]
        known = [(oldest_ms, archive) for oldest_ms, archive in ages if oldest_ms is not None]
        if not known:
            return 0
        _, archive = min(known, key=lambda item: item[0])
        return await archive.purge_oldest(limit=rows)

    def _warn(self, free: int) -> None:
        self._log.log(
            "disk",
            self._clock.monotonic(),
            logging.WARNING,
            "the database's disk is nearly full, the oldest history is deleted; "
            "make room, shorten ArchiveRetention, or lower SQLite.MinFreeMb",
            {"free_mb": free // _MIB, "reserve_mb": self._size // _MIB},
        )
