"""Deletes what is past its retention, in the views of one database."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import time

from monstermq_shared.config import StoreType
from monstermq_shared.errors import StoreError
from monstermq_shared.stores.ports import Database, Purgeable
from monstermq_shared.views.catalogue import ArchiveView, Catalogue
from monstermq_shared.views.purging import purge_in_slices

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Purge:
    """What is deleted again and again.

    Attributes:
        name: Whose rows, as the log names them.
        store: Where they are.
        retention_s: How old they become.
        interval_s: Seconds from the end of one run to the next.
    """

    name: str
    store: Purgeable
    retention_s: float
    interval_s: float


class Retention:
    """Purges the views of one database, in one of all workers that write to it.

    Args:
        purges: What is to be purged.
        is_mine: Whether it is this worker that does it.

    Attributes:
        rows: Rows deleted so far.
    """

    def __init__(self, purges: Iterator[Purge], is_mine: Callable[[], bool]) -> None:
        self.rows = 0
        self._purges = list(purges)
        self._is_mine = is_mine

    async def run(self) -> None:
        """Purge until cancelled."""
        await asyncio.gather(*(self._repeat(purge) for purge in self._purges))

    async def _repeat(self, purge: Purge) -> None:
        told: str | None = None
        while True:
            try:
                await self._purge(purge)
            except StoreError as exc:
                if told != str(exc):
                    told = str(exc)
                    logger.warning(
                        "the purge of %s failed, again every %.0f s: %s",
                        *(purge.name, purge.interval_s, told),
                    )
            else:
                told = None
            await asyncio.sleep(purge.interval_s)

    async def _purge(self, purge: Purge) -> None:
        before_ms = int((time() - purge.retention_s) * 1000)
        await purge_in_slices(
            purge.store, before_ms=before_ms, count=self._count, goes_on=self._is_mine
        )

    def _count(self, rows: int) -> None:
        self.rows += rows


def purges_of(catalogue: Catalogue, database: Database, store_type: StoreType) -> Iterator[Purge]:
    """Yield what is to be purged in a database: the views of groups that have a retention."""
    for view in catalogue.views:
        group = view.group
        retention = view.retention
        if group is None or retention is None or view.store_type is not store_type:
            continue
        is_archive = isinstance(view, ArchiveView)
        store: Purgeable = (
            database.archive_store(view.store) if is_archive else database.message_store(view.store)
        )
        yield Purge(
            name=view.store,
            store=store,
            retention_s=retention.total_seconds(),
            interval_s=group.purge_interval.total_seconds(),
        )
