"""Queues beside views: whatever goes wrong, the rows of a partition are a fold of the log."""

import asyncio
from random import Random

import pytest
from tests.support.followed_log import LATENESS_MS
from tests.support.followed_queues import QueueStage, Writer
from tests.support.followed_views import PLACE, fill, until, views_of

from monstermq_projector import queues as projector_queues
from monstermq_projector.queues import PartitionQueues
from monstermq_shared import retries
from monstermq_shared.bus.facts import Ack, Marker
from monstermq_shared.errors import StoreConflict
from monstermq_shared.positions import Mark
from monstermq_shared.sessions.distributed.queues import counting, empties, fold
from monstermq_shared.stores.queue_changes import QueueCount
from monstermq_shared.testing.builders import NOON_MS, make_record
from monstermq_shared.views import log_fold, log_follower

FOR_EVER_S = 1e9


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "PAUSES_S", (0.0, 0.0))
    for name in ("MARKS_S", "REREAD_S", "LOOK_S"):
        monkeypatch.setattr(log_follower, name, 0.0)
    monkeypatch.setattr(fold, "AGE_S", 0.0)
    monkeypatch.setattr(counting, "NOTE_S", 0.0)


@pytest.mark.parametrize("seed", range(60))
async def test_after_any_deaths_the_rows_are_a_fold_of_the_log(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kills, conflicts, lost answers, refused records, windows that stay and such that age."""
    prng = Random(seed)
    stage = QueueStage(prng)
    writer = Writer(stage, prng)
    for _ in range(8):
        monkeypatch.setattr(fold, "AGE_S", prng.choice((0.0, FOR_EVER_S)))
        monkeypatch.setattr(fold, "ROWS_MAX", prng.choice((1, 3, 5_000)))
        monkeypatch.setattr(log_fold, "RECORDS_MAX", prng.choice((1, 5_000)))
        stage.database.refused = prng.choice((None, None, b"23.5"))
        if prng.randrange(2):
            stage.new_queues()
        async with stage.following():
            for _ in range(prng.randint(0, 30)):
                writer.act()
                await asyncio.sleep(0)
            stage.database.conflicts = prng.randrange(2)
            for _ in range(prng.randint(0, 40)):
                await asyncio.sleep(0)
    monkeypatch.setattr(fold, "AGE_S", 0.0)
    stage.database.refused = None
    async with stage.following():
        await stage.caught_up()
        expected = {name: rows for name, rows in writer.rows.items() if rows}
        await until(lambda: stage.rows() == expected)
        assert stage.database.queues_of(PLACE).open_ids == writer.open_ids
    assert not stage.failed


def subscribe(stage: QueueStage, topic_filter: str = "#") -> int:
    whole = ((topic_filter, 1, 0),)
    return stage.say(Marker(client_id="c", epoch=1, incarnation=1, whole=whole))


async def test_queues_begin_where_the_log_does_and_views_at_its_end() -> None:
    stage = QueueStage()
    subscribe(stage)
    fill(stage.log, 3)
    async with stage.following() as follower:
        await stage.loaded(follower)
        fill(stage.log, 1)
        await until(lambda: stage.rows() == {"c": {1: 1, 2: 1, 3: 1, 4: 1}})
        await until(lambda: set(stage.lanes.reflected().values()) == {5})
    assert await stage.archived() == [4]


async def test_what_the_window_holds_is_read_again_and_not_for_views(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fold, "AGE_S", FOR_EVER_S)
    stage = QueueStage()
    await stage.begun()
    subscribe(stage)
    fill(stage.log, 2)
    async with stage.following():
        await stage.caught_up()
    states = await stage.database.log_states(PLACE)
    assert (states["queues"].mark.reflected, states["queues"].mark.restart) == (3, 1)
    monkeypatch.setattr(fold, "AGE_S", 0.0)
    stage.new_queues()
    async with stage.following():
        await until(lambda: stage.rows() == {"c": {1: 1, 2: 1}})
    assert await stage.archived() == [1, 2]


async def test_a_refused_record_of_a_view_does_not_stop_the_queues() -> None:
    stage = QueueStage()
    await stage.begun()
    subscribe(stage)
    stage.database.refused = b"no"
    async with stage.following():
        stage.log.append(make_record(0, "a", b"no"))
        await until(lambda: stage.rows() == {"c": {1: 1}})
        assert stage.lanes.stopped
        stage.say(Ack(client_id="c", offsets=(1,)))
        await until(lambda: not stage.rows())
    # Now they are ahead of the view.
    stage.database.refused = None
    async with stage.following():
        await until(lambda: set(stage.lanes.reflected().values()) == {3})
    assert await stage.archived() == [1]
    assert not stage.rows()


async def test_a_gap_is_told_before_it_is_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    """P7: empty window, no open ids, and never below the old N."""
    monkeypatch.setattr(fold, "AGE_S", FOR_EVER_S)
    stage = QueueStage()
    await stage.begun()
    subscribe(stage)
    fill(stage.log, 4)
    async with stage.following():
        await stage.caught_up()
    fill(stage.log, 2)
    # Retention takes a part of what has to be read again, and nothing new.
    stage.log.first = 3
    async with stage.following():
        await stage.caught_up()
        await until(lambda: stage.gaps == [(PLACE.number, 5)])
    mark = (await stage.database.log_states(PLACE))["queues"].mark
    assert (mark.reflected, mark.restart) == (7, 5)
    fill(stage.log, 2)
    stage.log.first = 8
    async with stage.following():
        await stage.caught_up()
    assert stage.gaps == [(PLACE.number, 5), (PLACE.number, 8)]
    assert (await stage.database.log_states(PLACE))["queues"].mark.restart == 8
    assert not stage.rows()


async def test_a_gap_below_views_takes_no_mark_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retention takes what queues, which are ahead, would read again; views begin above it."""
    monkeypatch.setattr(fold, "AGE_S", FOR_EVER_S)
    stage = QueueStage()
    await stage.begun()
    subscribe(stage)
    fill(stage.log, 4)
    async with stage.following():
        await stage.caught_up()
        stage.database.refused = b"no"
        stage.log.append(make_record(0, "a", b"no"))
        fill(stage.log, 1)
        await until(lambda: stage.lanes.stopped and stage.lanes.reflected()["queues"] == 7)
    stage.database.refused = None
    stage.database.commits.clear()
    stage.log.first = 3
    async with stage.following():
        await until(lambda: stage.gaps)
        await stage.caught_up()
    assert stage.gaps == [(PLACE.number, 7)]
    assert min(commit.upto for commit in stage.database.commits) > 5
    assert await stage.archived() == [1, 2, 3, 4, 5, 6]


async def test_what_waits_near_the_limit_is_noted_and_once_when_it_no_longer_does() -> None:
    """S5: from half of its share, which is four messages here."""
    stage = QueueStage()
    await stage.begun()
    subscribe(stage)
    fill(stage.log, 4)
    counts = stage.database.queues_of(PLACE).counts
    async with stage.following():
        await until(lambda: len(stage.rows().get("c", ())) == 4)
        assert not counts
        fill(stage.log, 2)
        await until(lambda: counts.get("c", QueueCount(0, 0, 0)).messages == 6)
        assert counts["c"].oldest_ms == stage.log.entries[1].time_ms
        stage.say(Ack(client_id="c", offsets=(1, 2, 3)))
        await until(lambda: counts["c"].messages == 0)


async def test_payloads_that_no_row_needs_are_swept_while_there_is_traffic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(projector_queues, "SWEEP_S", 0.0)
    monkeypatch.setattr(projector_queues, "SWEEP_ROWS", 2)
    stage = QueueStage()
    await stage.begun()
    subscribe(stage)
    fill(stage.log, 7)
    payloads = stage.database.queues_of(PLACE).payloads
    async with stage.following():
        await until(lambda: len(payloads) == 7)
        stage.say(Ack(client_id="c", offsets=(1, 2, 3, 4, 5)))
        fill(stage.log, 1)
        await until(lambda: [*payloads] == [6, 7, 9])
    assert stage.queues.swept == 5


async def test_a_new_view_begins_while_queues_go_on() -> None:
    stage = QueueStage()
    subscribe(stage)
    async with stage.following():
        await stage.caught_up()
    fill(stage.log, 2)
    stage.views = views_of("G", "H")
    async with stage.following():
        await stage.caught_up()
        await until(lambda: stage.rows() == {"c": {1: 1, 2: 1}})


async def test_another_deal_of_partitions_begins_with_no_cuts() -> None:
    stage = QueueStage()
    subscribe(stage)
    async with stage.following():
        await stage.caught_up()
    assert stage.queues.table.clients
    stage.queues.forget()
    assert not stage.queues.table.clients


async def test_rows_that_reflect_another_offset_than_the_mark_are_not_begun_with() -> None:
    """P1: else what was acknowledged long ago would come again."""
    stage = QueueStage()
    await stage.begun()
    with pytest.raises(StoreConflict):
        await PartitionQueues(stage.queues).begin(PLACE, Mark(99, 99))


async def test_what_another_worker_has_changed_is_loaded_anew() -> None:
    stage = QueueStage()
    subscribe(stage)
    async with stage.following():
        await stage.caught_up()
        assert stage.queues.table.clients
        del stage.database.queues_of(PLACE).cuts["c"]
        stage.database.conflicts = 1
        fill(stage.log, 1)
        await until(lambda: not stage.queues.table.clients)
        await stage.caught_up()
    assert not stage.rows()


@pytest.mark.parametrize("waits", [True, False])
async def test_an_empty_cut_goes_after_2_l_unless_rows_wait(
    waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S4, R7: of rows that wait nothing else says to which incarnation they belong."""
    monkeypatch.setattr(empties, "REST_S", 0.0)
    stage = QueueStage()
    subscribe(stage)
    fill(stage.log, 1)
    stage.say(Marker(client_id="c", epoch=1, incarnation=1, whole=()))
    stage.say(Ack(client_id="c", offsets=(9 if waits else 1,)))
    cuts = stage.database.queues_of(PLACE).cuts
    async with stage.following():
        await until(lambda: stage.rows() == ({"c": {1: 1}} if waits else {}))
        await stage.caught_up()
        stage.say_at(NOON_MS + 2 * LATENESS_MS, Ack(client_id="d", offsets=(1,)))
        await stage.caught_up()
        await until(lambda: ("c" in cuts) == waits)
        assert stage.rows() == ({"c": {1: 1}} if waits else {})
        if waits:
            stage.say(Ack(client_id="c", offsets=(1,)))
            await until(lambda: not stage.rows())
            await stage.caught_up()
            stage.say_at(NOON_MS + 4 * LATENESS_MS, Ack(client_id="d", offsets=(1,)))
            await until(lambda: "c" not in cuts)
