"""Views that follow a partition of a log in memory, with a database that fails now and then."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random

from tests.support.followed_log import LATENESS_MS, FollowedLog, Reader, describe, running

from monstermq_shared.config import BrokerConfig, StoreType
from monstermq_shared.errors import MonsterError, StoreConflict, StoreError, StoreUnavailable
from monstermq_shared.positions import Partition
from monstermq_shared.stores.changes import Commit, CommitResult, Tenure
from monstermq_shared.stores.memory import MemoryDatabase
from monstermq_shared.stores.outages import Outage
from monstermq_shared.testing.builders import make_record
from monstermq_shared.views.catalogue import Catalogue
from monstermq_shared.views.log_fold import Batch, FoldCounts, LogSettings
from monstermq_shared.views.log_follower import LogFollower
from monstermq_shared.views.log_lanes import CommitCounts, Lanes
from monstermq_shared.views.log_work import Desk
from monstermq_shared.views.view_set import ViewSet

PATIENCE_S = 30.0
PLACE = Partition("kafka:cluster:monster", 3)
SETTINGS = LogSettings(log_id=PLACE.generation, lateness_ms=LATENESS_MS, describe=describe)


class Unsteady(MemoryDatabase):
    """A database whose commits fail now and then, before or after they are applied.

    Attributes:
        refused: Payload of a record that an archive does not take.
        takes: Unset while commits are under way and do not end.
    """

    def __init__(self, prng: Random | None = None) -> None:
        super().__init__()
        self.prng = prng
        self.refused: bytes | None = None
        self.takes = asyncio.Event()
        self.takes.set()
        self.conflicts = 0
        self.commits: list[Commit] = []

    async def commit(self, tenure: Tenure, commit: Commit) -> CommitResult:
        await self.takes.wait()
        if self.conflicts:
            self.conflicts -= 1
            raise StoreConflict("another began")
        if any(at.payload == self.refused for rows in commit.archives.values() for at in rows):
            raise StoreError("the server refuses a value")
        fate = 9 if self.prng is None else self.prng.randrange(10)
        if fate == 0:
            raise StoreUnavailable("away")
        result = await super().commit(tenure, commit)
        if fate == 1:
            raise StoreUnavailable("no answer")
        self.commits.append(commit)
        return result


class Stage:
    """A log, a database, and views: what is retained, and all of a group."""

    def __init__(self, prng: Random | None = None, *groups: str) -> None:
        self.log = FollowedLog()
        self.database = Unsteady(prng)
        self.prng = prng
        self.failed: list[MonsterError] = []
        self.views = views_of(*(groups or ("G",)))
        self.desk = self.new_desk()

    def new_desk(self) -> Desk:
        return Desk(
            name="views",
            log_id=SETTINGS.log_id,
            database=self.database,
            source=self.log,
            fail=self.failed.append,
            outage=Outage("database"),
            log_outage=Outage("log", MonsterError),
            retry_s=0.0,
        )

    def new_follower(self) -> LogFollower[Batch]:
        self.lanes = Lanes(
            views=self.views,
            log=SETTINGS,
            database=self.database,
            partition=PLACE,
            outage=self.desk.outage,
            counts=CommitCounts(),
            folds=FoldCounts(),
        )
        return LogFollower(self.desk, PLACE, self.lanes)

    @asynccontextmanager
    async def following(self) -> AsyncIterator[LogFollower[Batch]]:
        follower = self.new_follower()
        async with running(follower.run, Reader(self.log, follower, self.prng).run):
            yield follower
        follower.close()

    async def loaded(self, follower: LogFollower[Batch]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await follower.loaded.wait()

    async def caught_up(self) -> None:
        await until(lambda: set(self.lanes.reflected().values()) == {len(self.log.entries)})

    async def begun(self) -> None:
        """Begin the marks, at the log's end."""
        async with self.following() as follower:
            await self.loaded(follower)

    async def archived(self, group: str = "G") -> list[int]:
        rows = await self.database.archive_store(f"{group}Archive").history("a", limit=100_000)
        return [row.offset for row in reversed(rows)]


def views_of(*groups: str) -> ViewSet:
    sections = [{"Name": name, "ArchiveType": "POSTGRES"} for name in groups]
    config = BrokerConfig.from_layers(
        {
            "SessionStoreType": "POSTGRES",
            "RetainedStoreType": "POSTGRES",
            "ArchiveGroups": sections,
        }
    )
    return ViewSet.of(Catalogue(config), StoreType.POSTGRES)


async def until(holds: Callable[[], object]) -> None:
    """Let the loop turn until something holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - every turn is looked at, not an event of the product
            await asyncio.sleep(0)


def fill(log: FollowedLog, count: int) -> None:
    for _ in range(count):
        log.append(make_record(0, "a"))


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
