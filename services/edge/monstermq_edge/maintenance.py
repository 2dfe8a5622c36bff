"""What is done now and then: delete what is past its retention, end sessions past their expiry."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Protocol

from monstermq_edge.disk_reserve import DiskReserve
from monstermq_edge.faults import Faults
from monstermq_edge.views import Views
from monstermq_shared.clock import Clock, WallHistory
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

RESERVE_CHECK_S = 2.0
"""How often the free space of the disk is looked at: before a fast writer has used the reserve."""

EXPIRY_CHECK_S = 30.0
"""How often expired sessions are ended, if they expire at all; no such session is resumed."""

EXPIRY_PAUSE_S = 0.02
"""Left to everybody else between the ends of many."""


class Purgeable(Protocol):
    """A store with a retention."""

    async def purge(self, *, before_ms: int, limit: int) -> int:
        """See ``MessageStore.purge``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Something done again and again.

    Attributes:
        name: What it is, for logs and ``/ready``.
        run: Does it once.
        interval_s: Seconds from the end of one run to the next.
        delay_s: Seconds before the first run.
    """

    name: str
    run: Callable[[], Awaitable[None]]
    interval_s: float
    delay_s: float = 0.0


class Maintenance:
    """One task per group and kind, and one for the sessions. A job that fails ends no other.

    Attributes:
        failing: Job -> the fault that ended its last run, or why it cannot do what it is for.
    """

    def __init__(
        self,
        views: Views,
        engine: LocalEngine,
        clock: Clock,
        history: WallHistory,
        counters: Counters,
        faults: Faults,
    ) -> None:
        self._views = views
        self._engine = engine
        self._clock = clock
        self._history = history
        self._counters = counters
        self._faults = faults
        self.failing: dict[str, str] = {}

    def start(
        self, groups: tuple[ArchiveGroup, ...], *, min_free_size: int = 0
    ) -> list[asyncio.Task[None]]:
        """Begin; return the tasks, for the caller to cancel.

        Args:
            groups: Whose records have a retention.
            min_free_size: Bytes of the database's disk to keep free, 0 for as it comes.
        """
        jobs = [job for group in groups if group.enabled for job in self._purges(group)]
        if self._engine.settings.session_expiry_s is not None:
            every_s = EXPIRY_CHECK_S
            jobs.append(
                Job(
                    name="session expiry",
                    run=self._expire_sessions,
                    interval_s=every_s,
                    delay_s=every_s,
                )
            )
        if min_free_size:
            jobs.append(self._reserve(min_free_size))
        jobs.append(Job(name="measuring", run=self._views.measure, interval_s=MEASURE_S))
        return [asyncio.create_task(self.repeat(job), name=job.name) for job in jobs]

    async def repeat(self, job: Job) -> None:
        """Do a job for ever, whatever comes up in one run of it; tell the same reason once."""
        told: str | None = None
        await asyncio.sleep(job.delay_s)
        while True:
            try:
                await job.run()
            except StoreError as exc:
                if told != str(exc):
                    told = str(exc)
                    logger.warning(
                        "%s failed, again every %.0f s: %s", job.name, job.interval_s, told
                    )
            except Exception as exc:  # noqa: BLE001 - a bug can be any exception, and is noted
                self._faults.note(job.name, exc)
                self.failing[job.name] = repr(exc)
            else:
                told = None
                self.failing.pop(job.name, None)
            await asyncio.sleep(job.interval_s)

    def _purges(self, group: ArchiveGroup) -> Iterator[Job]:
        stores: list[tuple[str, Purgeable | None, timedelta | None]] = [
            ("last values", self._views.last_values.get(group.name), group.last_val_retention),
            ("archive", self._views.archives.get(group.name), group.archive_retention),
        ]
        for what, store, retention in stores:
            if store is not None and retention is not None:
                yield Job(
                    name=f"the purge of {group.name}'s {what}",
                    run=partial(self._purge, store, retention.total_seconds()),
                    interval_s=group.purge_interval.total_seconds(),
                )

    async def _purge(self, store: Purgeable, retention_s: float) -> None:
        """Delete what is past its retention, in slices, and give its space to the disk.

        Also if nothing was to be deleted: there may be space of an earlier run.
        """
        before_ms = self._history.before_ms(retention_s)
        while purged := await store.purge(before_ms=before_ms, limit=PURGE_ROWS):
            self._counters.rows_purged += purged
            await asyncio.sleep(PURGE_PAUSE_S)
        more = True
        while more:
            more = await self._views.database.give_space_back()
            await asyncio.sleep(PURGE_PAUSE_S)

    def _reserve(self, size: int) -> Job:
        views = self._views
        reserve = DiskReserve(views.database, views.archives, self._counters, self._clock, size)
        what = f"keeping {size // 1024**2} MB of the disk free"

        async def run() -> None:
            reason = await reserve.keep()
            if reason is None:
                self.failing.pop(what, None)
            else:
                self.failing[what] = reason

        return Job(name="the disk reserve", run=run, interval_s=RESERVE_CHECK_S)

    async def _expire_sessions(self) -> None:
        expired = 0
        while ended := self._engine.expire_sessions():
            expired += ended
            await asyncio.sleep(EXPIRY_PAUSE_S)
        if expired:
            logger.info("%d sessions expired", expired)
