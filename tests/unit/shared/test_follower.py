"""A follower folds what it reads into its database, again and again until that has it."""

import asyncio
from contextlib import suppress

import pytest

from monstermq_shared import retries
from monstermq_shared.bus.backlog import Backlog, BacklogReader
from monstermq_shared.config import BrokerConfig, StoreType
from monstermq_shared.errors import StoreConflict, StoreUnavailable
from monstermq_shared.stores.changes import Commit, CommitResult, Tenure
from monstermq_shared.stores.memory import MemoryDatabase
from monstermq_shared.testing.builders import PARTITION, make_record
from monstermq_shared.views.catalogue import Catalogue
from monstermq_shared.views.follower import Follower
from monstermq_shared.views.view_set import ViewSet

PATIENCE_S = 30.0


class Flaky(MemoryDatabase):
    """A database that takes no commit for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = 0
        self.commits = 0
        self.asked = asyncio.Event()
        self.answers = asyncio.Event()
        self.answers.set()

    async def commit(self, tenure: Tenure, commit: Commit) -> CommitResult:
        self.asked.set()
        await self.answers.wait()
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("restarting")
        self.commits += 1
        return await super().commit(tenure, commit)


class Stage:
    """A follower of one archive group, of messages below ``a``."""

    def __init__(self) -> None:
        group = {
            "Name": "G",
            "TopicFilter": ["a/#"],
            "ArchiveType": "POSTGRES",
            "LastValType": "POSTGRES",
        }
        config = BrokerConfig.from_layers({"SessionStoreType": "SQLITE", "ArchiveGroups": [group]})
        self.views = ViewSet.of(Catalogue(config), StoreType.POSTGRES)
        self.database = Flaky()
        self.backlog = Backlog("X", 100_000, self.views.select)
        self.idle = asyncio.Event()

    async def begin(self) -> None:
        tenure = await self.database.begin(PARTITION, self.views.names)
        reader = BacklogReader(self.backlog, 0, b"the run.")
        self.follower = Follower("X", self.database, tenure, self.views, reader, self._committed)
        self.task = asyncio.create_task(self.follower.run())

    def _committed(self, upto: int) -> None:
        self.backlog.committed(upto)
        if not self.backlog.count:
            self.idle.set()

    async def caught_up(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self.idle.wait()
        self.idle.clear()

    async def end(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


async def test_it_commits_what_its_views_want_and_their_marks() -> None:
    stage = Stage()
    await stage.begin()
    stage.backlog.show([make_record(1, "a/1"), make_record(2, "b"), make_record(3, "a/1")], 9)
    await stage.caught_up()
    history = await stage.database.archive_store("GArchive").history("a/1", newest_first=False)
    assert [record.offset for record in history] == [1, 3]
    last = await stage.database.message_store("GLastval").get("a/1")
    assert last is not None
    assert last.offset == 3
    again = await stage.database.begin(PARTITION, stage.views.names)
    assert {mark.reflected for mark in again.marks.values()} == {9}
    assert stage.follower.rows == 3
    await stage.end()


async def test_a_database_that_is_away_loses_nothing_and_says_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retries, "PAUSES_S", (0.0, 0.0))
    stage = Stage()
    stage.database.failures = 5
    await stage.begin()
    for offset in range(1, 50):
        stage.backlog.show([make_record(offset, "a")], offset + 1)
    await stage.caught_up()
    assert len(await stage.database.archive_store("GArchive").history("a")) == 49
    assert stage.follower.outage.reason is None
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        "X: commits fail, and are repeated: restarting",
        "X: works again, after 5 failures",
    ]
    await stage.end()


async def test_a_database_that_hangs_is_told_before_any_time_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retries, "LATE_S", 0.0)
    stage = Stage()
    stage.database.answers.clear()
    await stage.begin()
    stage.backlog.show([make_record(1, "a")], 2)
    async with asyncio.timeout(PATIENCE_S):
        await stage.database.asked.wait()
    for _ in range(5):
        await asyncio.sleep(0)
    reasons = [stage.follower.outage.reason]
    stage.database.answers.set()
    await stage.caught_up()
    reasons.append(stage.follower.outage.reason)
    assert reasons == ["no answer for more than 0 s", None]
    assert stage.follower.failures == 0
    assert [record.getMessage() for record in caplog.records] == [
        "X: commits hang: no answer for more than 0 s",
        "X: works again",
    ]
    await stage.end()


async def test_records_nobody_wants_are_passed_over_without_a_commit() -> None:
    stage = Stage()
    await stage.begin()
    stage.backlog.show([make_record(1, "b")], 2)
    stage.backlog.show([make_record(2, "a")], 3)
    await stage.caught_up()
    assert stage.database.commits == 1
    await stage.end()


async def test_a_tenure_that_is_over_ends_it() -> None:
    stage = Stage()
    await stage.begin()
    await stage.database.begin(PARTITION, stage.views.names)
    stage.backlog.show([make_record(1, "a")], 2)
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(StoreConflict):
            await stage.task
