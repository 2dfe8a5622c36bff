"""What is done now and then: delete what is past its retention, end sessions past their expiry."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from monstermq_edge.engines.local.databases import Databases
from monstermq_edge.engines.local.disk_reserve import DiskReserve
from monstermq_edge.engines.ports import Fail
from monstermq_edge.faults import Faults
from monstermq_shared.clock import Clock, WallHistory
from monstermq_shared.config import ArchiveGroup, StoreType
from monstermq_shared.counters import Counters
from monstermq_shared.errors import MonsterError, StoreError, StoreUnavailable
from monstermq_shared.sessions.local import LocalEngine
from monstermq_shared.stores.outages import Outage
from monstermq_shared.stores.ports import (
    Database,
    IndexesTopics,
    Measured,
    OnDisk,
    Purgeable,
    Shrinkable,
)
from monstermq_shared.views.catalogue import ArchiveView, Catalogue, MessageView
from monstermq_shared.views.purging import PURGE_PAUSE_S, purge_in_slices

logger = logging.getLogger(__name__)

MEASURE_S = 10.0
"""How often the database's size and the retained messages are counted."""

RESERVE_CHECK_S = 2.0
"""How often the free space of the disk is looked at: before a fast writer has used the reserve."""

EXPIRY_CHECK_S = 30.0
"""How often expired sessions are ended, if they expire at all; no such session is resumed."""

EXPIRY_PAUSE_S = 0.02
"""Seconds for everybody else, while many sessions are ended, after each batch of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Something done again and again.

    Attributes:
        name: What it is, for logs and ``/ready``.
        run: Does it once.
        interval_s: Seconds from the end of one run to the next.
        delay_s: Seconds before the first run.
        outage: What fails of its database; while something does, it does not say so as well.
    """

    name: str
    run: Callable[[], Awaitable[None]]
    interval_s: float
    delay_s: float = 0.0
    outage: Outage | None = None

    @property
    def is_explained(self) -> bool:
        """Whether it is known already that its database is in trouble."""
        return self.outage is not None and self.outage.reason is not None


class Upkeep:
    """What there is to look after: the stores of all databases, and what they take.

    Attributes:
        retained_count: Topics with a retained message, as of the last ``count``.
        database_size: Bytes the session store's database takes, as of the last ``measure``.
    """

    def __init__(self, catalogue: Catalogue, databases: Databases) -> None:
        self._catalogue = catalogue
        self._databases = databases
        self._retained = databases.message_store(catalogue.messages[0])
        self.retained_count = 0
        self.database_size = 0

    async def count(self) -> None:
        """Bring ``retained_count`` up to date, and notice a database that is away.

        Raises:
            StoreError: It refuses for good.
        """
        with self._noticing(self._catalogue.messages[0].store_type, "counts"):
            self.retained_count = await self._retained.count()

    async def measure(self) -> None:
        """Bring ``database_size`` up to date, and notice a database that is away.

        Raises:
            StoreError: It refuses for good.
        """
        database = self._databases.primary
        if isinstance(database, Measured):
            with self._noticing(self._databases.primary_type, "measurements"):
                self.database_size = await database.size()

    @property
    def topics_noted(self) -> int:
        """About how many changes of topics the indexes of topics do not show yet."""
        databases = self._databases.by_type.values()
        return sum(at.topics_noted for at in databases if isinstance(at, IndexesTopics))

    @contextmanager
    def _noticing(self, store_type: StoreType, what: str) -> Iterator[None]:
        outage = self._databases.outages[store_type]
        try:
            yield
        except StoreUnavailable as exc:
            outage.failed(what, exc)
            # It is tried again in a while, when others have long succeeded.
            outage.given_up(what)
        else:
            outage.passed(what)

    def outage_of(self, view: MessageView | ArchiveView) -> Outage:
        """Return what fails of the database that a view is in."""
        return self._databases.outages[view.store_type]

    def views_of(self, group: ArchiveGroup) -> Iterator[MessageView | ArchiveView]:
        """Yield the views of an archive group."""
        for view in self._catalogue.views:
            if view.group is group:
                yield view

    def store_of(self, view: MessageView | ArchiveView) -> tuple[Purgeable, Database]:
        """Return where the rows of a view are."""
        databases = self._databases
        if isinstance(view, ArchiveView):
            return databases.archive_store(view), databases.of(view.store_type)
        return databases.message_store(view), databases.of(view.store_type)

    def files(self) -> Iterator[tuple[OnDisk, list[Shrinkable]]]:
        """Yield each database that is a file, with the archives in it that can make room.

        One database's history is never deleted to free another one's disk.
        """
        for store_type, database in self._databases.by_type.items():
            if isinstance(database, OnDisk):
                stores = [
                    self._databases.archive_store(view)
                    for view in self._catalogue.archives
                    if view.store_type is store_type
                ]
                yield database, [store for store in stores if isinstance(store, Shrinkable)]


class Maintenance:
    """One task per group and kind, and one for the sessions. A job that fails ends no other.

    Attributes:
        failing: Job -> the fault that ended its last run, or why it cannot do what it is for.
    """

    def __init__(
        self,
        upkeep: Upkeep,
        engine: LocalEngine,
        clock: Clock,
        history: WallHistory,
        counters: Counters,
        faults: Faults,
    ) -> None:
        self._upkeep = upkeep
        self._engine = engine
        self._clock = clock
        self._history = history
        self._counters = counters
        self._faults = faults
        self._tasks: list[asyncio.Task[None]] = []
        self.failing: dict[str, str] = {}

    def start(self, groups: tuple[ArchiveGroup, ...], *, min_free_size: int, failed: Fail) -> None:
        """Begin the jobs.

        Args:
            groups: Whose records have a retention.
            min_free_size: Bytes of a file's disk to keep free; 0: none.
            failed: Told if a task ends that should go on for ever.
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
            jobs += [
                self.reserve(database, archives, min_free_size)
                for database, archives in self._upkeep.files()
            ]
        # Apart, because they may ask different databases.
        jobs += [
            Job(name="counting what is retained", run=self._upkeep.count, interval_s=MEASURE_S),
            Job(name="measuring the database", run=self._upkeep.measure, interval_s=MEASURE_S),
        ]
        self._tasks = [asyncio.create_task(self.repeat(job), name=job.name) for job in jobs]
        for task in self._tasks:
            task.add_done_callback(partial(_ended, failed))

    async def stop(self) -> None:
        """Begin no more jobs, and end those that run."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def repeat(self, job: Job) -> None:
        """Do a job for ever, whatever comes up in one run of it; tell the same reason once."""
        told: str | None = None
        await asyncio.sleep(job.delay_s)
        while True:
            try:
                await job.run()
            except StoreError as exc:
                if told != str(exc) and not job.is_explained:
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
        for view in self._upkeep.views_of(group):
            what = "archive" if isinstance(view, ArchiveView) else "last values"
            retention = view.retention
            if retention is not None:
                store, database = self._upkeep.store_of(view)
                yield Job(
                    name=f"the purge of {group.name}'s {what}",
                    run=partial(self.purge, store, database, retention.total_seconds()),
                    interval_s=group.purge_interval.total_seconds(),
                    outage=self._upkeep.outage_of(view),
                )

    async def purge(self, store: Purgeable, database: Database, retention_s: float) -> None:
        """Delete what is past its retention, in slices, and give its space to the disk.

        Also if nothing was to be deleted: there may be space of an earlier run.
        """
        before_ms = self._history.before_ms(retention_s)
        await purge_in_slices(store, before_ms=before_ms, count=self._count_purged)
        if isinstance(database, OnDisk):
            await _give_space_back(database)

    def _count_purged(self, rows: int) -> None:
        self._counters.rows_purged += rows

    def reserve(self, database: OnDisk, archives: list[Shrinkable], size: int) -> Job:
        """Return the job that keeps so many bytes of a file's disk free."""
        reserve = DiskReserve(database, archives, self._counters, self._clock, size)
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


async def _give_space_back(database: OnDisk) -> None:
    more = True
    while more:
        more = await database.give_space_back()
        await asyncio.sleep(PURGE_PAUSE_S)


def _ended(failed: Fail, task: asyncio.Task[None]) -> None:
    """A job is repeated whatever comes up in it, so this is a fault of the repetition itself."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        logger.critical("%s failed", task.get_name(), exc_info=error)
        failed(MonsterError(f"a fault in the broker ended its {task.get_name()}"))
