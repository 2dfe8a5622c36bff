"""A follower of a log that others write: it loads, folds and commits, whatever goes wrong."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields
from random import Random

import pytest
from tests.support.followed_log import (
    LATENESS_MS,
    FollowedLog,
    LogEntry,
    Reader,
    describe,
    running,
)

from monstermq_shared import retries
from monstermq_shared.bus.control import encode_facts
from monstermq_shared.config import BrokerConfig, StoreType
from monstermq_shared.errors import MonsterError, StoreConflict, StoreError, StoreUnavailable
from monstermq_shared.positions import Partition
from monstermq_shared.records import CONTROL_TOPIC, ControlRecord
from monstermq_shared.stores.changes import Commit, CommitResult, Tenure
from monstermq_shared.stores.memory import MemoryDatabase
from monstermq_shared.stores.outages import Outage
from monstermq_shared.testing.builders import NOON_MS, make_record
from monstermq_shared.views import log_fold, log_follower
from monstermq_shared.views.catalogue import Catalogue
from monstermq_shared.views.log_fold import Batch, FoldCounts, LogSettings
from monstermq_shared.views.log_follower import LogFollower, Phase
from monstermq_shared.views.log_lanes import CommitCounts, Lanes
from monstermq_shared.views.log_work import Desk
from monstermq_shared.views.view_set import ViewSet

PATIENCE_S = 10.0
PLACE = Partition("kafka:cluster:monster", 3)
SETTINGS = LogSettings(log_id=PLACE.generation, lateness_ms=LATENESS_MS, describe=describe)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "PAUSES_S", (0.0, 0.0))
    monkeypatch.setattr(log_follower, "MARKS_S", 0.0)
    monkeypatch.setattr(log_follower, "REREAD_S", 0.0)
    monkeypatch.setattr(log_follower, "LOOK_S", 0.0)


class Unsteady(MemoryDatabase):
    """A database whose commits fail now and then, before or after they are applied.

    Attributes:
        refused: Payload of a record that an archive does not take.
    """

    def __init__(self, prng: Random | None = None) -> None:
        super().__init__()
        self.prng = prng
        self.refused: bytes | None = None
        self.conflicts = 0
        self.commits: list[Commit] = []

    async def commit(self, tenure: Tenure, commit: Commit) -> CommitResult:
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


async def test_views_begin_at_the_end_and_have_everything_from_there_on() -> None:
    stage = Stage()
    fill(stage.log, 5)
    async with stage.following() as follower:
        await stage.loaded(follower)
        fill(stage.log, 7)
        await stage.caught_up()
    assert await stage.archived() == list(range(5, 12))
    retained = await stage.database.message_store("RetainedMessages").get("a")
    assert retained is not None
    assert retained.offset == 11


async def test_a_new_view_begins_at_the_end_while_the_others_are_behind() -> None:
    stage = Stage()
    await stage.begun()
    fill(stage.log, 4)
    stage.views = views_of("G", "H")
    async with stage.following() as follower:
        await stage.loaded(follower)
        fill(stage.log, 2)
        await stage.caught_up()
    assert await stage.archived("G") == [0, 1, 2, 3, 4, 5]
    assert await stage.archived("H") == [4, 5]


@pytest.mark.parametrize("seed", range(40))
async def test_after_any_deaths_the_rows_are_a_fold_of_the_log(seed: int) -> None:
    """Random reads, doubles, lost answers, conflicts and kills: every record is there once."""
    prng = Random(seed)
    stage = Stage(prng)
    await stage.begun()
    sequences = {b"writer-1": 0, b"writer-2": 0}
    expected = []
    for _ in range(8):
        async with stage.following():
            for _ in range(prng.randint(0, 30)):
                writer = prng.choice([*sequences])
                fresh = prng.random() < 0.7 or not sequences[writer]
                number = sequences[writer] if fresh else prng.randrange(sequences[writer])
                sequences[writer] += fresh
                entry = stage.log.append(make_record(0, "a"), writer, number)
                expected += [entry.offset] if fresh else []
                await asyncio.sleep(0)
            stage.database.conflicts = prng.randrange(2)
            for _ in range(prng.randint(0, 40)):
                await asyncio.sleep(0)
    async with stage.following():
        await stage.caught_up()
    assert await stage.archived() == expected
    assert not stage.failed


async def test_rows_of_one_delivery_are_committed_together_and_marks_follow() -> None:
    stage = Stage()
    await stage.begun()
    async with stage.following() as follower:
        await stage.loaded(follower)
        fill(stage.log, 3)
        await stage.caught_up()
        stage.log.append(make_record(0, "$SYS/x"))
        await stage.caught_up()
    assert [(commit.upto, commit.is_empty) for commit in stage.database.commits] == [
        (3, False),
        (4, True),
    ]


async def test_a_database_that_is_away_is_told_and_nothing_is_missing() -> None:
    stage = Stage(Random(1))
    fill(stage.log, 1)
    async with stage.following() as follower:
        await stage.loaded(follower)
        fill(stage.log, 50)
        await stage.caught_up()
    assert await stage.archived() == list(range(1, 51))
    assert stage.lanes.counts.failures > 0
    assert stage.desk.outage.reason is None


async def test_retention_that_overtook_it_is_counted_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage()
    fill(stage.log, 5)
    await stage.begun()
    fill(stage.log, 10)
    stage.log.first = 9
    async with stage.following():
        await stage.caught_up()
    assert await stage.archived() == list(range(9, 15))
    assert (stage.desk.gaps.gaps, stage.desk.gaps.missed) == (1, 4)
    assert "at most 4 records from 5 to 8 are missing in retained, GArchive" in caplog.text


async def test_retention_that_overtakes_it_while_it_reads_is_told_too() -> None:
    stage = Stage()
    await stage.begun()
    async with stage.following() as follower:
        await stage.loaded(follower)
        fill(stage.log, 10)
        stage.log.first = 6
        await stage.caught_up()
    assert await stage.archived() == [6, 7, 8, 9]
    assert stage.desk.gaps.missed == 6


async def test_a_log_that_is_shorter_than_the_rows_say_is_refused() -> None:
    stage = Stage()
    fill(stage.log, 5)
    await stage.begun()
    del stage.log.entries[3:]
    async with stage.following():
        await until(lambda: stage.failed)
    assert "it ends at 3, and the views reflect it up to 5" in str(stage.failed[0])
    assert "Kafka.Bus.Topic" in str(stage.failed[0])


async def test_another_record_below_the_mark_is_another_log() -> None:
    stage = Stage()
    await stage.begun()
    fill(stage.log, 5)
    async with stage.following():
        await stage.caught_up()
    stage.log.entries.clear()
    for _ in range(9):
        stage.log.append(make_record(0, "a"), b"writer-9")
    async with stage.following():
        await until(lambda: stage.failed)
    assert "at 4 stands" in str(stage.failed[0])
    assert await stage.archived() == [0, 1, 2, 3, 4]


async def test_what_was_not_delivered_is_read_again() -> None:
    stage = Stage()
    await stage.begun()
    async with stage.following() as follower:
        await stage.loaded(follower)
        fill(stage.log, 10)
        await follower.deliver(stage.log.entries[4:6])
        await stage.caught_up()
    assert await stage.archived() == list(range(10))


async def test_a_hole_that_is_none_of_ours_does_not_hold_the_log_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage()
    await stage.begun()
    fill(stage.log, 6)
    pieces = [*stage.log.entries[:2], *stage.log.entries[3:]]

    class Holey(Reader):
        def next_piece(self) -> Sequence[LogEntry]:
            return [entry for entry in pieces if entry.offset >= self.at]

    follower = stage.new_follower()
    async with running(follower.run, Holey(stage.log, follower).run):
        await stage.caught_up()
    assert await stage.archived() == [0, 1, 3, 4, 5]
    assert "nothing stands at the positions 2 to 2" in caplog.text


async def test_a_hole_at_the_end_of_a_quiet_log_does_not_hold_it_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing comes any more that could remind us."""
    monkeypatch.setattr(log_follower, "REREAD_S", 0.02)
    stage = Stage()
    await stage.begun()
    fill(stage.log, 6)
    pieces = [*stage.log.entries[:4], *stage.log.entries[5:]]

    class Holey(Reader):
        def next_piece(self) -> Sequence[LogEntry]:
            return [entry for entry in pieces if entry.offset >= self.at]

    follower = stage.new_follower()
    async with running(follower.run, Holey(stage.log, follower).run):
        await stage.caught_up()
    assert await stage.archived() == [0, 1, 2, 3, 5]


async def test_what_was_on_its_way_long_before_is_not_taken_for_a_hole() -> None:
    """However long it takes: behind each of these is another one, so they are no hole's end."""
    stage = Stage()
    await stage.begun()
    fill(stage.log, 30)
    stale = [stage.log.entries[at : at + 2] for at in range(4, 28, 2)]

    class Late(Reader):
        def next_piece(self) -> Sequence[LogEntry]:
            return stale.pop(0) if stale else super().next_piece()

    follower = stage.new_follower()
    reader = Late(stage.log, follower)

    async def read_from(partition: int, offset: int) -> None:
        sought.append(offset)

    sought: list[int] = []
    stage.log.read_from = read_from  # type: ignore[method-assign]

    async def seek_at_last() -> None:
        await until(lambda: not stale)
        reader.at = 0

    async with running(follower.run, reader.run, seek_at_last):
        await stage.caught_up()
    assert set(sought) == {0}
    assert await stage.archived() == list(range(30))


async def test_the_record_below_the_mark_is_looked_at_whenever_it_comes() -> None:
    stage = Stage()
    await stage.begun()
    fill(stage.log, 5)
    async with stage.following():
        await stage.caught_up()
    stage.log.entries.clear()
    for _ in range(9):
        stage.log.append(make_record(0, "a"), b"writer-9")
    follower = stage.new_follower()
    async with running(follower.run):
        await stage.loaded(follower)
        reader = Reader(stage.log, follower)
        # What was on its way already does not have it; what comes then begins below.
        await follower.deliver(stage.log.entries[7:])
        await until(lambda: stage.log.seeks)
        assert reader.at == 4
        await follower.deliver(stage.log.entries[2:])
        await until(lambda: stage.failed)
    assert "at 4 stands" in str(stage.failed[0])


async def test_a_control_record_of_a_later_release_stops_it_loudly() -> None:
    stage = Stage()
    await stage.begun()
    fill(stage.log, 2)
    text = encode_facts([]).replace('"v":1', '"v":2').encode()
    stage.log.append(ControlRecord(CONTROL_TOPIC, text, NOON_MS, 0))
    fill(stage.log, 2)
    async with stage.following() as follower:
        await until(lambda: follower.phase is Phase.STOPPED)
        assert follower.stopped == [
            "views is stopped at position 3:2: control text of version 2; this release knows 1"
        ]
        assert stage.log.held
    assert await stage.archived() == [0, 1]
    assert not stage.failed


async def test_a_view_whose_record_is_refused_stops_and_the_others_go_on() -> None:
    stage = Stage(None, "G", "H")
    await stage.begun()
    stage.database.refused = b"bad"
    fill(stage.log, 3)
    stage.log.append(make_record(0, "a", b"bad"))
    fill(stage.log, 3)
    async with stage.following() as follower:
        await until(lambda: len(follower.stopped) == 2)
        fill(stage.log, 2)
        await until(lambda: stage.lanes.reflected()["retained"] == 9)
        assert "GArchive is stopped: the database refuses position 3:3 (topic 'a')" in str(
            follower.stopped
        )
    assert await stage.archived("G") == [0, 1, 2]
    assert await stage.archived("H") == [0, 1, 2]
    stage.database.refused = None
    async with stage.following():
        await stage.caught_up()
    assert await stage.archived("G") == list(range(9))
    assert await stage.archived("H") == list(range(9))


async def test_what_is_committed_below_a_refused_record_is_the_same_log_and_knows_doubles() -> None:
    """The first batch after a start is the one that is refused, and something in it was doubled."""
    stage = Stage()
    await stage.begun()
    fill(stage.log, 4)
    async with stage.following():
        await stage.caught_up()
    stage.database.refused = b"bad"
    fill(stage.log, 6)
    stage.log.append(None)
    doubled = make_record(0, "a", b"twice")
    stage.log.append(doubled, b"writer-2", 7)
    stage.log.append(make_record(0, "a", b"bad"))
    stage.log.append(make_record(0, "a", b"twice"), b"writer-2", 7)
    async with stage.following() as follower:
        await until(lambda: len(follower.stopped) == 1)
        await until(lambda: stage.lanes.reflected()["retained"] == 14)
    assert await stage.archived() == [*range(10), 11]
    assert await stage.database.quarantine_counts() == (1, 0)
    stage.database.refused = None
    async with stage.following():
        await stage.caught_up()
    assert not stage.failed
    assert await stage.archived() == [*range(10), 11, 12]


async def test_views_are_not_parted_where_another_one_has_gone_on() -> None:
    stage = Stage()
    await stage.begun()
    stage.database.refused = b"bad"
    taken_over: list[Tenure] = []

    async def begin(partition: Partition, projections: Sequence[str]) -> Tenure:
        if len(projections) == 1 and not taken_over:
            # Another process, which has no trouble with the record.
            other = await MemoryDatabase.begin(stage.database, PLACE, stage.views.names)
            await MemoryDatabase.commit(stage.database, other, Commit(upto=1))
            taken_over.append(other)
        return await MemoryDatabase.begin(stage.database, partition, projections)

    stage.database.begin = begin  # type: ignore[method-assign]
    stage.log.append(make_record(0, "a", b"bad"))
    fill(stage.log, 2)
    async with stage.following():
        await stage.caught_up()
    assert taken_over
    assert not stage.lanes.stopped
    assert await stage.archived() == [1, 2]


async def test_what_another_one_commits_is_given_up_and_loaded_again() -> None:
    stage = Stage()
    await stage.begun()
    async with stage.following() as follower:
        await stage.loaded(follower)
        await stage.database.begin(PLACE, stage.views.names)
        fill(stage.log, 3)
        await stage.caught_up()
    assert await stage.archived() == [0, 1, 2]


async def test_a_worker_that_has_nothing_to_commit_finds_out_too() -> None:
    """P5: and then it loads, and is the one that commits again."""
    stage = Stage()
    fill(stage.log, 3)
    await stage.begun()
    async with stage.following() as follower:
        await stage.loaded(follower)
        other = await stage.database.begin(PLACE, stage.views.names)
        assert stage.lanes.tenures[0].token != other.token
        given_up = stage.lanes.tenures[0].token

        async def ask() -> None:
            while True:
                asked_s = asyncio.get_running_loop().time()
                stage.desk.held(await stage.database.versions(PLACE.generation), asked_s)
                await asyncio.sleep(0)

        async with running(ask):
            await until(lambda: stage.lanes.tenures[0].token != given_up)
        await turns(20)
        assert follower.phase is Phase.FOLLOWING


async def test_a_log_that_does_not_answer_is_asked_again() -> None:
    stage = Stage()
    stage.log.away = 3
    fill(stage.log, 2)
    async with stage.following() as follower:
        await stage.loaded(follower)
    assert stage.log.asked == 5
    assert stage.desk.log_outage.reason is None


async def test_large_deliveries_are_committed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_fold, "RECORDS_MAX", 10)
    stage = Stage()
    await stage.begun()
    fill(stage.log, 35)
    async with stage.following():
        await stage.caught_up()
    assert [commit.upto for commit in stage.database.commits] == [10, 20, 30, 35]


async def test_the_work_is_told_how_long_nothing_has_come() -> None:
    stage = Stage()
    told: list[float] = []

    async def at_end(elapsed_s: float) -> None:
        told.append(elapsed_s)

    follower = stage.new_follower()
    follower._work = Told(stage.lanes, at_end)
    async with running(follower.run, Reader(stage.log, follower).run):
        await stage.loaded(follower)
        for answered_s in (1.0, 1.5, 100.0):
            stage.desk.answered({3: 0}, answered_s)
            await turns(20)
        # Nobody knows what it was like for most of the time before the third answer.
        assert told == [0.5, log_follower.ANSWER_S]
        stage.desk.ends.clear()
        await turns(20)
        stage.desk.answered({3: 0}, 100.5)
        await turns(20)
        assert told == [0.5, log_follower.ANSWER_S]


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Told(Lanes):
    """The work of views, and one more that waits for time to pass."""

    def __init__(self, lanes: Lanes, at_end: Callable[[float], Awaitable[None]]) -> None:
        super().__init__(**{field.name: getattr(lanes, field.name) for field in fields(lanes)})
        self._told = at_end

    async def at_end(self, elapsed_s: float) -> None:
        await self._told(elapsed_s)
