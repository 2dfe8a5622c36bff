"""The views that do not live in the session store's database: a follower for each database."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from monstermq_edge.engines.local.databases import Databases
from monstermq_shared.bus.backlog import Backlog, BacklogReader
from monstermq_shared.bus.internal import BOOT_SHIFT
from monstermq_shared.config import StoreType
from monstermq_shared.counters import Counters
from monstermq_shared.errors import StoreError
from monstermq_shared.positions import Partition
from monstermq_shared.stores.changes import Commit, Tenure
from monstermq_shared.stores.ports import Database
from monstermq_shared.views.catalogue import Catalogue
from monstermq_shared.views.follower import Follower
from monstermq_shared.views.view_set import ViewSet

logger = logging.getLogger(__name__)

_MIB = 1024 * 1024
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
        self.shown: list[Callable[[int], None]] = [self.backlog.committed]
        self._tenure: Tenure | None = None
        self._database: Database | None = None
        self._idle = asyncio.Event()
        self.shown.append(self._look)

    async def begin(self, database: Database, partition: Partition, writer: str) -> Tenure:
        """Begin the tenure; return it.

        Raises:
            StoreError: See ``Database.begin``.
        """
        tenure = await database.begin(partition, self.views.names)
        self._database, self._tenure = database, tenure
        self.follower = Follower(
            f"the views in {self.store_type}",
            database,
            tenure,
            self.views,
            BacklogReader(self.backlog, 0, writer),
            self._committed,
        )
        return tenure

    def _committed(self, upto: int) -> None:
        for shown in self.shown:
            shown(upto)

    def _look(self, _: int) -> None:
        if not self.backlog.count:
            self._idle.set()

    async def drained(self) -> None:
        """Return when everything is committed."""
        while self.backlog.count:
            self._idle.clear()
            await self._idle.wait()

    async def settle(self, upto: int) -> None:
        """Bring the marks to the end of the log, where everything before is committed.

        Raises:
            StoreError: See ``Database.commit``.
        """
        assert self._database is not None
        assert self._tenure is not None
        await self._database.commit(self._tenure, Commit(upto=upto))

    def lags(self) -> str | None:
        """Return how far the views are behind and why, None if that is nothing to speak of."""
        backlog = self.backlog
        failing = self.follower.failing if self.follower is not None else None
        if failing is None and not backlog.is_full:
            return None
        names = ", ".join(self.views.names)
        held = "; publishers that they want are held" if backlog.is_full else ""
        why = "more comes than the database takes" if failing is None else failing
        return (
            f"the views in {self.store_type} ({names}) are {backlog.count} records "
            f"({backlog.size // _MIB} MiB) behind{held}: {why}"
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

    async def begin(self, databases: Databases, partition: Partition, reflected: int) -> None:
        """Begin the tenures, and tell in the log what a kill of the last run may have cost.

        Args:
            databases: Where they are.
            partition: The log.
            reflected: How far the session store has come, 0 if it is new.

        Raises:
            StoreError: See ``Database.begin``.
        """
        writer = f"{partition.generation}.{databases.log.boot}"
        for followed in self.followed:
            database = databases.of(followed.store_type)
            tenure = await followed.begin(database, partition, writer)
            for name, mark in tenure.marks.items():
                if mark.reflected < reflected:
                    logger.warning(
                        "view %s in %s: what came between the positions %s and %s may be missing "
                        "there, because the broker ended before it was committed",
                        name,
                        followed.store_type,
                        _position(mark.reflected),
                        _position(reflected),
                    )

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
            task.add_done_callback(lambda task: _ended(task, fail))
            self._tasks.append(task)

    async def drain(self, upto: int, *, within_s: float) -> bool:
        """Commit what is there, for at most so long; return whether that was enough."""
        try:
            async with asyncio.timeout(within_s):
                for followed in self.followed:
                    await followed.drained()
                    await followed.settle(upto)
        except (TimeoutError, StoreError):
            return False
        return True

    async def stop(self) -> None:
        """Follow no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def readiness(self) -> list[str]:
        """Return which views are far behind, by how much and why."""
        return [lag for followed in self.followed if (lag := followed.lags()) is not None]

    def count_rows(self, counters: Counters) -> None:
        """Take the rows written since the last call into the counters."""
        for followed in self.followed:
            if followed.follower is not None:
                counters.rows_written += followed.follower.rows
                followed.follower.rows = 0

    def backlogs(self) -> Mapping[str, float]:
        """Return database -> bytes that its views have not committed."""
        return {at.backlog.name: float(at.backlog.size) for at in self.followed}


def _ended(task: asyncio.Task[None], fail: Callable[[StoreError], None]) -> None:
    """Without its follower a database would fall behind in silence, so the process ends."""
    error = None if task.cancelled() else task.exception()
    if isinstance(error, StoreError):
        fail(error)
    elif error is not None:
        logger.critical("%s failed", task.get_name(), exc_info=error)
        fail(StoreError(f"a fault in the broker ended the follower of {task.get_name()}"))


def _position(offset: int) -> str:
    """Write an offset as its boot and the number within it."""
    return f"{offset >> BOOT_SHIFT}:{offset & _COUNTER}"
