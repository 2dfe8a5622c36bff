"""What is done now and then: delete what is past its retention, end sessions past their expiry."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Protocol

from monstermq_edge.views import Views
from monstermq_shared.clock import Clock
from monstermq_shared.config import ArchiveGroup
from monstermq_shared.counters import Counters
from monstermq_shared.errors import StoreError
from monstermq_shared.sessions.local import LocalEngine

logger = logging.getLogger(__name__)

PURGE_ROWS = 2_000
"""Rows deleted at once; commits go between two slices."""

PURGE_PAUSE_S = 0.02
"""Left to the commits after each slice."""

MEASURE_S = 10.0
"""How often the database's size and the retained messages are counted."""

EXPIRY_CHECK_S = 30.0
"""How often sessions are looked at, if they expire at all."""


class Purgeable(Protocol):
    """A store with a retention."""

    async def purge(self, *, before_us: int, limit: int) -> int:
        """See ``MessageStore.purge``."""
        ...


class Maintenance:
    """One task per group and kind, and one for the sessions."""

    def __init__(self, views: Views, engine: LocalEngine, clock: Clock, counters: Counters) -> None:
        self._views = views
        self._engine = engine
        self._clock = clock
        self._counters = counters

    def start(self, groups: tuple[ArchiveGroup, ...]) -> list[asyncio.Task[None]]:
        """Begin; return the tasks, for the caller to cancel."""
        work: list[Coroutine[None, None, None]] = []
        for group in groups:
            if not group.enabled:
                continue
            last_values = self._views.last_values.get(group.name)
            archive = self._views.archives.get(group.name)
            interval_s = group.purge_interval.total_seconds()
            if last_values is not None and group.last_val_retention is not None:
                retention_s = group.last_val_retention.total_seconds()
                work.append(self._purge(last_values, retention_s, interval_s))
            if archive is not None and group.archive_retention is not None:
                retention_s = group.archive_retention.total_seconds()
                work.append(self._purge(archive, retention_s, interval_s))
        if self._engine.settings.session_expiry_us is not None:
            work.append(_every(EXPIRY_CHECK_S, self._expire_sessions))
        work.append(self._measure())
        return [asyncio.create_task(job) for job in work]

    async def _measure(self) -> None:
        """Count what costs a query to count, for metrics and ``$SYS``."""
        while True:
            try:
                await self._views.measure()
            except StoreError as exc:
                logger.warning("could not measure the database: %s", exc)
            await asyncio.sleep(MEASURE_S)

    async def _purge(self, store: Purgeable, retention_s: float, interval_s: float) -> None:
        """Delete what is past its retention, in slices, for ever."""
        while True:
            before_us = self._clock.wall_us() - int(retention_s * 1_000_000)
            try:
                while purged := await store.purge(before_us=before_us, limit=PURGE_ROWS):
                    self._counters.rows_purged += purged
                    await asyncio.sleep(PURGE_PAUSE_S)
            except StoreError as exc:
                logger.warning("purge failed, tried again in %.0f s: %s", interval_s, exc)
            await asyncio.sleep(interval_s)

    def _expire_sessions(self) -> None:
        expired = self._engine.expire_sessions(self._clock.wall_us())
        if expired:
            logger.info("%d sessions expired", expired)


async def _every(interval_s: float, job: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(interval_s)
        job()
