"""A follower of a log that others write: it loads, folds and commits, whatever goes wrong."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import fields
from random import Random

import pytest
from tests.support.followed_log import Reader, running
from tests.support.followed_views import PLACE, Stage, fill, turns, until, views_of

from monstermq_shared import retries
from monstermq_shared.bus.control import encode_facts
from monstermq_shared.positions import Partition
from monstermq_shared.records import CONTROL_TOPIC, ControlRecord
from monstermq_shared.stores.changes import Commit, Tenure
from monstermq_shared.stores.memory import MemoryDatabase
from monstermq_shared.testing.builders import NOON_MS, make_record
from monstermq_shared.views import log_fold, log_follower
from monstermq_shared.views.log_follower import Phase
from monstermq_shared.views.log_lanes import Lanes


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "PAUSES_S", (0.0, 0.0))
    monkeypatch.setattr(log_follower, "MARKS_S", 0.0)
    monkeypatch.setattr(log_follower, "REREAD_S", 0.0)
    monkeypatch.setattr(log_follower, "LOOK_S", 0.0)


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


async def test_what_comes_during_a_commit_is_committed_together_behind_it() -> None:
    stage = Stage()
    await stage.begun()
    async with stage.following() as follower:
        await stage.loaded(follower)
        stage.database.takes.clear()
        for delivered in range(1, 6):
            fill(stage.log, 1)
            await turns(30)
            assert follower.delivered == delivered
        stage.database.takes.set()
        await stage.caught_up()
    assert [commit.upto for commit in stage.database.commits] == [1, 5]


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


class Told(Lanes):
    """The work of views, and one more that waits for time to pass."""

    def __init__(self, lanes: Lanes, at_end: Callable[[float], Awaitable[None]]) -> None:
        super().__init__(**{field.name: getattr(lanes, field.name) for field in fields(lanes)})
        self._told = at_end

    async def at_end(self, elapsed_s: float) -> None:
        await self._told(elapsed_s)
