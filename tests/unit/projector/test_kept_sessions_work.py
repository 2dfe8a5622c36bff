"""What the worker of the sessions log appends for kept sessions, whatever goes wrong (S4 to S6)."""

import asyncio
from dataclasses import replace

import pytest
from tests.support.claims import CLEAN, EXPIRY_S, KEPT, PARTITIONS, end_of, sweep_of
from tests.support.sessions_stage import EDGE, PLACE, SETTINGS, Stage, until

from monstermq_projector import sessions_fold
from monstermq_shared.bus.facts import Claim, Detach, Drop, Gap, Lease, Marker, Subs
from monstermq_shared.errors import StoreConflict, StoreUnavailable
from monstermq_shared.positions import Partition
from monstermq_shared.sessions.distributed.sweeping import LOOK_MS
from monstermq_shared.stores.changes import Commit
from monstermq_shared.stores.queue_changes import Cut, QueueChanges, QueueCount
from monstermq_shared.testing.builders import commit_once, make_record

LONG_AGO_MS = 2 * EXPIRY_S * 1_000


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage.impatient(monkeypatch)


def detach(epoch: int, client_id: str = "a") -> Detach:
    return Detach(client_id=client_id, epoch=epoch, will=False)


def away(stage: Stage, client_id: str = "a", *, ago_ms: int = 0) -> int:
    """A kept session that subscribes, and whose connection ends; return its epoch."""
    epoch = stage.append(replace(KEPT, client_id=client_id), ago_ms=ago_ms)
    stage.append(
        Subs(client_id=client_id, epoch=epoch, add=(("x/#", 1, 0),)),
        detach(epoch, client_id),
        ago_ms=ago_ms,
    )
    return epoch


def sweeps(epoch: int, client_id: str = "a") -> list[tuple[int, Marker]]:
    return [(number, sweep_of(epoch, client_id)) for number in range(PARTITIONS)]


def bus(number: int) -> Partition:
    return Partition(SETTINGS.log_id, number)


async def with_cut(stage: Stage, number: int, cut: Cut | None, waiting: int = 0) -> None:
    """Write what a worker of the bus would of client a."""
    changes = QueueChanges(cuts={"a": cut})
    for offset in range(waiting):
        changes.queued[offset] = (make_record(offset, "t"), [("a", 1)])
    if waiting:
        changes.counts["a"] = QueueCount(waiting, waiting, 5)
    await commit_once(
        stage.database, Commit(upto=100, queues=changes), "queues", partition=bus(number)
    )


async def look(stage: Stage) -> None:
    """Let enough time pass with nothing new in the log for a look at what is left."""
    for _ in range(LOOK_MS // 2_000 + 1):
        await stage.work.at_end(2.0)


async def test_the_end_of_a_kept_session_is_on_the_bus_before_it_is_committed(
    stage: Stage,
) -> None:
    """S4."""
    stage.messages.pause()
    async with stage.working():
        away(stage)
        await until(lambda: stage.work.reflected() == {"sessions": 2})
        ended = stage.append(CLEAN)
        await until(lambda: stage.messages.control)
        assert stage.work.reflected() == {"sessions": 2}
        stage.messages.go_on()
        await stage.caught_up()
    assert stage.messages.facts() == sweeps(ended)


async def test_a_commit_that_comes_to_nothing_has_them_appended_again(stage: Stage) -> None:
    stage.database.errors = [StoreConflict("another began")]
    away(stage)
    ended = stage.append(CLEAN)
    async with stage.working():
        await stage.caught_up()
    assert stage.messages.facts() == 2 * sweeps(ended)
    assert stage.rows() == {"a": ended}


async def test_a_marker_that_is_refused_is_appended_as_another_record(stage: Stage) -> None:
    """R1: the sequence of what was refused is never used again."""
    stage.messages.refused = PARTITIONS
    away(stage)
    ended = stage.append(CLEAN)
    async with stage.working():
        await stage.caught_up()
    assert stage.messages.facts() == sweeps(ended)
    assert [stamp.sequence for _, stamp, _ in stage.messages.control] == [1, 1, 1]
    assert stage.desk.facts.counts.refused == PARTITIONS


async def test_a_marker_that_stays_refused_is_told(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.messages.refused = 3 * PARTITIONS
    away(stage)
    stage.append(CLEAN)
    async with stage.working():
        await stage.caught_up()
    assert stage.messages.facts() == []
    assert stage.desk.facts.counts.lost == PARTITIONS
    assert "facts of sessions are refused for good by partition 0 of $SYS/bus" in caplog.text


async def test_what_a_commit_depends_on_waits_for_a_clock_that_is_off(stage: Stage) -> None:
    """S4, P7: a sweep, or a gap, that nobody can read must not be behind the mark."""
    stage.messages.clock_is_off = True
    away(stage)
    ended = stage.append(CLEAN)
    async with stage.working():
        await until(lambda: stage.desk.facts.counts.refused > 10 * PARTITIONS)
        assert stage.work.reflected() == {"sessions": 0}
        assert stage.outage.reason is not None
        stage.messages.clock_is_off = False
        await stage.caught_up()
    assert stage.messages.facts() == sweeps(ended)
    assert stage.desk.facts.counts.lost == 0
    assert stage.outage.reason is None


async def test_who_gives_up_waiting_for_a_clock_says_no_more_of_it(stage: Stage) -> None:
    stage.messages.clock_is_off = True
    away(stage)
    stage.append(CLEAN)
    async with stage.working():
        await until(lambda: stage.outage.reason is not None)
    stage.outage.passed("requests")
    assert stage.outage.reason is None


async def test_after_a_gap_sessions_are_marked_before_the_commit(stage: Stage) -> None:
    """S6."""
    stage.messages.pause()
    async with stage.working():
        absent = away(stage)
        present = stage.append(replace(KEPT, client_id="b"))
        await until(lambda: stage.work.reflected() == {"sessions": 3})
        stage.append(Gap(partition=2, to=1_000))
        await until(lambda: stage.messages.control)
        assert stage.work.reflected() == {"sessions": 3}
        stage.messages.go_on()
        await stage.caught_up()
    marker = Marker(client_id="a", epoch=absent, incarnation=absent, whole=(("x/#", 1, 0),))
    assert stage.messages.facts() == [(2, marker)]
    gone = Detach(client_id="b", epoch=present, will=True, reason="gap")
    assert stage.last_facts() == [gone]


async def test_two_workers_at_once_mark_the_same(stage: Stage) -> None:
    async with stage.working(), stage.working():
        for number in range(20):
            away(stage, f"{number}")
            await asyncio.sleep(0)
        stage.append(Gap(partition=1, to=1_000))
        stage.append(replace(CLEAN, client_id="7"))
        await stage.caught_up()
    facts = stage.messages.facts()
    marked = {fact.client_id for _, fact in facts if isinstance(fact, Marker) and fact.whole}
    assert marked | {"7"} == {f"{number}" for number in range(20)}
    assert {p for p, fact in facts if isinstance(fact, Marker) and not fact.whole} == {0, 1, 2}
    assert len(stage.rows()) == 20


async def test_a_session_that_is_over_is_ended_swept_and_gone(stage: Stage) -> None:
    """S4, from the first to the last."""
    epoch = away(stage, ago_ms=LONG_AGO_MS)
    stage.append(Lease(run=EDGE, for_ms=10_000))
    async with stage.working():
        await stage.caught_up()
        await stage.work.at_end(1.0)
        (end,) = stage.last_facts()
        assert end == end_of(epoch)
        await stage.caught_up()
        ended = len(stage.log.entries) - 1
        assert stage.messages.facts() == sweeps(ended)
        # A worker of the bus is behind.
        await with_cut(stage, 1, Cut(epoch, 7, epoch, (("x/#", 1, 0),), 0))
        await look(stage)
        stage.append(Lease(run=EDGE, for_ms=10_000))
        await stage.caught_up()
        assert stage.rows() == {"a": ended}
        await with_cut(stage, 1, Cut(ended, 8, ended, (), 0))
        await look(stage)
        stage.append(Lease(run=EDGE, for_ms=10_000))
        await stage.caught_up()
    assert stage.rows() == {}
    assert stage.desk.counts.claims.expired == 1


async def test_markers_are_appended_again_where_a_cut_stays_older(stage: Stage) -> None:
    epoch = away(stage)
    ended = stage.append(CLEAN)
    async with stage.working():
        await stage.caught_up()
        await with_cut(stage, 1, Cut(epoch, 7, epoch, (("x/#", 1, 0),), 0))
        for _ in range(60_000 // LOOK_MS):
            await look(stage)
    assert stage.messages.facts() == [*sweeps(ended), (1, sweep_of(ended))]


async def test_a_queue_over_its_limit_loses_its_oldest_messages(stage: Stage) -> None:
    """S5; the limit is 10 messages."""
    epoch = away(stage)
    async with stage.working():
        await stage.caught_up()
        await with_cut(stage, 2, Cut(epoch, 7, epoch, (), 0), waiting=14)
        await stage.work.at_end(1.0)
    assert stage.messages.facts() == [(2, Drop(client_id="a", below=4, count=4))]
    assert stage.desk.counts.dropped == 4


async def test_a_queue_of_another_partition_is_left_to_its_worker(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "owner", PLACE.number + 1)
    epoch = away(stage)
    async with stage.working():
        await stage.caught_up()
        await with_cut(stage, 2, Cut(epoch, 7, epoch, (), 0), waiting=14)
        await stage.work.at_end(1.0)
    assert stage.messages.facts() == []


async def test_a_database_that_is_away_stops_no_detach(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 needs it for nothing."""

    async def refuse(*_: object, **__: object) -> None:
        raise StoreUnavailable("away")

    epoch = stage.append(KEPT)
    async with stage.working():
        await stage.caught_up()
        monkeypatch.setattr(stage.database, "queue_totals", refuse)
        for _ in range(5):
            await stage.work.at_end(2.0)
    assert stage.last_facts() == [Detach(client_id="a", epoch=epoch, will=True, reason="lease")]


async def test_clients_of_a_silent_edge_are_detached_in_pieces(stage: Stage) -> None:
    """S3; none is left out, and none comes twice."""
    names = [f"{number}" for number in range(1_200)]
    for first in range(0, len(names), 100):
        stage.append(*(replace(KEPT, client_id=name) for name in names[first : first + 100]))
    claims = len(stage.log.entries)
    async with stage.working():
        await stage.caught_up()
        for _ in range(5):
            await stage.work.at_end(2.0)
        await stage.caught_up()
    records = [stage.facts_at(at) for at in range(claims, len(stage.log.entries))]
    assert len(records) == 3
    detached = [fact.client_id for facts in records for fact in facts if isinstance(fact, Detach)]
    assert sorted(detached) == sorted(names)


async def test_filters_count_for_the_size_of_a_commit(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions_fold, "FACTS_MAX", 10)
    epoch = stage.append(KEPT)
    for number in range(3):
        added = tuple((f"{number}/{each}", 1, 0) for each in range(10))
        stage.append(Subs(client_id="a", epoch=epoch, add=added))
    async with stage.working():
        await stage.caught_up()
        assert stage.work.counts.commits == 3


async def test_the_longest_client_id_and_the_most_filters_are_kept(stage: Stage) -> None:
    """Client ids of 60,000 characters; as many filters as fit a record."""
    name = "x" * 60_000
    filters = tuple((f"{number:020}", 1, 0) for number in range(8_000))
    epoch = stage.append(replace(KEPT, client_id=name))
    stage.append(Subs(client_id=name, epoch=epoch, add=filters), detach(epoch, name))
    stage.append(Gap(partition=0, to=1_000))
    async with stage.working():
        await stage.caught_up()
    ((_, marker),) = stage.messages.facts()
    assert isinstance(marker, Marker)
    assert (marker.client_id, marker.whole) == (name, filters)


@pytest.mark.parametrize(
    "fact",
    [
        Marker(client_id="a", epoch=0, incarnation=0),
        Claim(client_id="a", clean=True, expiry_s=2**40, will=None, run=EDGE, protocol=4),
        Subs(client_id="a", epoch=0, add=(("x", 1, 4),)),
    ],
)
async def test_a_fact_that_cannot_be_kept_stops_the_partition(
    stage: Stage, fact: Marker | Claim | Subs
) -> None:
    """R6."""
    stage.append(KEPT)
    async with stage.working() as follower:
        stage.append(fact)
        await until(lambda: follower.stopped)
    assert "position 3:1" in follower.stopped[0]
    assert stage.rows() == {"a": 0}
