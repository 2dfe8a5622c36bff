"""The views that do not live in the session store's database: a follower for each database."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial

from monstermq_edge.engines.local.databases import Databases
from monstermq_shared.bus.backlog import Backlog, BacklogReader
from monstermq_shared.bus.internal import BOOT_SHIFT, first_offset, run_of
from monstermq_shared.config import KIB, StoreType
from monstermq_shared.counters import Counters
from monstermq_shared.errors import StartupError, StoreError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.positions import Partition
from monstermq_shared.stores.changes import Commit, Tenure
from monstermq_shared.stores.outages import Outage
from monstermq_shared.stores.ports import Database
from monstermq_shared.views.catalogue import Catalogue
from monstermq_shared.views.follower import Follower
from monstermq_shared.views.view_set import ViewSet

logger = logging.getLogger(__name__)

SETTLE_S = 2.0
"""How long a stop waits for each database to take the last marks."""

_COUNTER = (1 << BOOT_SHIFT) - 1


class FollowedViews:
    """The views in one database, and the follower that keeps them up to date.

    Attributes:
        store_type: The database's.
        views: Its views.
        backlog: What they do not show yet.
        follower: Set by ``begin``.
    """

    def __init__(self, store_type: StoreType, views: ViewSet, size_max: int) -> None:
        self.store_type = store_type
        self.views = views
        self.backlog = Backlog(str(store_type), size_max, views.select)
        self.follower: Follower | None = None
        self.shown: list[Callable[[int], None]] = [self.backlog.committed, self._look]
        self._tenure: Tenure | None = None
        self._database: Database | None = None
        self._idle = asyncio.Event()
        self._has_ended = False
        self._outage = Outage(str(store_type))

    async def begin(self, databases: Databases, partition: Partition, writer: bytes) -> Tenure:
        """Begin the tenure; return it.

        Raises:
            StoreError: See ``Database.begin``.
        """
        database = databases.of(self.store_type)
        tenure = await database.begin(partition, self.views.names)
        self._database, self._tenure = database, tenure
        self._outage = databases.outages[self.store_type]
        self.follower = Follower(
            f"the views in {self.store_type}",
            database,
            tenure,
            self.views,
            BacklogReader(self.backlog, 0, writer),
            self._committed,
        )
        self.follower.outage = self._outage
        return tenure

    def _committed(self, upto: int) -> None:
        for shown in self.shown:
            shown(upto)

    def _look(self, _: int) -> None:
        if not self.backlog.count:
            self._idle.set()

    def ended(self) -> None:
        """The follower has ended: whoever waits for a commit need not."""
        self._has_ended = True
        self._idle.set()

    async def drained(self) -> bool:
        """Return when everything is committed, or nothing more will be; return whether it is."""
        assert self._database is not None
        while self.backlog.count and not self._has_ended and self._database.lost is None:
            self._idle.clear()
            await self._idle.wait()
        return not self.backlog.count

    async def settle(self, upto: int) -> None:
        """Bring the marks up to there, unless something below is not committed.

        Not while the follower runs: there is one commit at a time.

        Raises:
            StoreError: See ``Database.commit``.
        """
        assert self._database is not None
        assert self._tenure is not None
        if not self.backlog.count:
            await self._database.commit(self._tenure, Commit(upto=upto))

    def lags(self) -> str | None:
        """Return how far the views are behind and why, None if that is nothing to speak of."""
        backlog = self.backlog
        failing = self._outage.reason
        if failing is None and not backlog.is_full:
            return None
        if not backlog.count:
            return self._outage.told
        names = ", ".join(self.views.names)
        held = "; publishers that they want are held" if backlog.holds else ""
        why = "more comes than the database takes" if failing is None else failing
        return (
            f"the views in {self.store_type} ({names}) are {backlog.count} records "
            f"({-(-backlog.size // KIB):,} KiB) behind{held}: {why}"
        )


class Followers:
    """The followed views of all databases.

    Attributes:
        followed: One for each database beside the session store's.

    Args:
        catalogue: Which views there are.
        size_max: Bytes that each may be behind, before publishers are held.
    """

    def __init__(self, catalogue: Catalogue, size_max: int) -> None:
        others = [at for at in catalogue.store_types if at is not catalogue.session_store_type]
        self.followed = [
            FollowedViews(store_type, ViewSet.of(catalogue, store_type), size_max)
            for store_type in others
        ]
        retained = catalogue.messages[0].store_type
        self._retained = next((at for at in self.followed if at.store_type is retained), None)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def retained(self) -> Backlog | None:
        """The backlog of the retained view, if it is one of the followed."""
        return None if self._retained is None else self._retained.backlog

    async def begin(self, databases: Databases, partition: Partition) -> None:
        """Begin the tenures, and tell in the log what the end of the last run may have cost.

        A run that is stopped leaves the marks where the next one begins, see ``stop``. From here
        on they are at the beginning of this one, also those of a view that is new.

        Args:
            databases: Where they are.
            partition: The log.

        Raises:
            StartupError: A view is ahead of this run.
            StoreError: See ``Database.begin``.
        """
        boot = databases.log.boot
        writer = run_of(boot)
        for followed in self.followed:
            tenure = await followed.begin(databases, partition, writer)
            _refuse_later_marks(followed, tenure, boot)
            for name, mark in tenure.marks.items():
                if mark.reflected < first_offset(boot):
                    logger.warning(
                        "view %s in %s: what came between the positions %s and %s may be missing "
                        "there, because the broker ended before it was committed, or ran without "
                        "following it",
                        name,
                        followed.store_type,
                        _position(mark.reflected),
                        _position(first_offset(boot)),
                    )
            await followed.settle(first_offset(boot))

    def start(self, shown: Callable[[int], None], fail: Callable[[StoreError], None]) -> None:
        """Begin to follow.

        Args:
            shown: Told up to where the retained view shows everything.
            fail: Told of an error after which the process must stop.
        """
        if self._retained is not None:
            self._retained.shown.append(shown)
        for followed in self.followed:
            assert followed.follower is not None
            task = asyncio.create_task(followed.follower.run(), name=followed.follower.name)
            task.add_done_callback(partial(_ended, followed, fail))
            self._tasks.append(task)

    async def drain(self, *, within_s: float) -> bool:
        """Commit what is there, for at most so long; return whether that was enough."""
        try:
            async with asyncio.timeout(within_s):
                drained = [await followed.drained() for followed in self.followed]
        except TimeoutError:
            return False
        return all(drained)

    async def stop(self, next_boot: int | None) -> None:
        """Follow no more.

        Args:
            next_boot: The number of the run that follows, if nothing that views want is left in
                the log: then the marks of those that show everything go to where it begins.
        """
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if next_boot is not None:
            for followed in self.followed:
                await _settle(followed, first_offset(next_boot))

    def readiness(self) -> list[str]:
        """Return which views are far behind, by how much and why."""
        return [lag for followed in self.followed if (lag := followed.lags()) is not None]

    def count(self, counters: Counters) -> None:
        """Take what the followers did since the last call into the counters."""
        for followed in self.followed:
            follower = followed.follower
            if follower is not None:
                counters.rows_written += follower.rows
                counters.view_commit_failures += follower.failures
                counters.records_unreadable += follower.unreadable
                follower.rows = follower.failures = follower.unreadable = 0

    def backlogs(self) -> Mapping[str, float]:
        """Return database -> bytes that its views have not committed."""
        return {at.backlog.name: float(at.backlog.size) for at in self.followed}


def _refuse_later_marks(followed: FollowedViews, tenure: Tenure, boot: int) -> None:
    """Refuse to give out positions again that a view has: it would take new records for old ones.

    Raises:
        StartupError: A view is ahead of this run.
    """
    highest = max((mark.reflected for mark in tenure.marks.values()), default=0)
    if highest > first_offset(boot):
        raise StartupError(
            f"the views in {followed.store_type} reflect the log up to {_position(highest)}, and "
            f"this run begins at {_position(first_offset(boot))}: the session store is an older "
            "copy. Put a newer copy in its place, or use another database or schema for the views",
            exit_code=ExitCode.STORE_DAMAGED,
        )


async def _settle(followed: FollowedViews, upto: int) -> None:
    try:
        async with asyncio.timeout(SETTLE_S):
            await followed.settle(upto)
    except (StoreError, TimeoutError) as exc:
        logger.warning(
            "the marks of the views in %s stay behind, so the next start will say that something "
            "may be missing, and nothing is: %s",
            followed.store_type,
            str(exc) or "the database does not answer",
        )


def _ended(
    followed: FollowedViews, fail: Callable[[StoreError], None], task: asyncio.Task[None]
) -> None:
    """Without its follower a database would fall behind in silence, so the process ends."""
    followed.ended()
    error = None if task.cancelled() else task.exception()
    if isinstance(error, StoreError):
        fail(error)
    elif error is not None:
        logger.critical("%s failed", task.get_name(), exc_info=error)
        fail(StoreError(f"a fault in the broker ended the follower of {task.get_name()}"))


def _position(offset: int) -> str:
    """Write an offset as its boot and the number within it."""
    return f"{offset >> BOOT_SHIFT}:{offset & _COUNTER}"
