"""The worker of the sessions log: rows, wills and detaches, whatever goes wrong."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.support.sessions_stage import (
    EDGE,
    PLACE,
    SETTINGS,
    WILL,
    WILL_RUN,
    Stage,
    until,
)

from monstermq_projector import sessions_fold, sessions_work
from monstermq_shared.bus.facts import Claim, Detach, Lease
from monstermq_shared.clock import SystemClock
from monstermq_shared.errors import StoreConflict, StoreUnavailable
from monstermq_shared.messages import Will
from monstermq_shared.positions import Mark, Partition
from monstermq_shared.records import Record
from monstermq_shared.stores.memory_sessions import MemorySnapshot
from monstermq_shared.views.log_follower import Phase


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage.impatient(monkeypatch)


def claim(client_id: str = "a", will: Will | None = WILL) -> Claim:
    return Claim(client_id=client_id, clean=True, expiry_s=0, will=will, run=EDGE, protocol=4)


def detach(epoch: int, client_id: str = "a") -> Detach:
    return Detach(client_id=client_id, epoch=epoch, will=True)


async def test_claims_become_rows_from_the_first_offset_on(stage: Stage) -> None:
    """P1: sessions begin at the log's first offset."""
    stage.append(claim("a"), claim("b"))
    async with stage.working():
        await stage.caught_up()
        assert stage.rows() == {"a": 0, "b": 0}
        stage.append(detach(0, "b"))
        await stage.caught_up()
    assert stage.rows() == {"a": 0}
    states = await stage.database.log_states(PLACE)
    assert states["sessions"].mark == Mark(2, 2)
    assert states["sessions"].log_id == SETTINGS.log_id


async def test_a_will_is_appended_before_the_commit_and_once(stage: Stage) -> None:
    """S2."""
    async with stage.working():
        stage.append(detach(stage.append(claim())))
        await stage.caught_up()
    ((writer, sequence, record),) = stage.messages.appended
    assert (writer, sequence) == (WILL_RUN, 65_536)
    assert (record.topic, record.payload, record.qos, record.retained) == ("gone", b"away", 1, True)
    assert record.client_id == "a"
    assert stage.rows() == {}


async def test_a_commit_that_comes_to_nothing_has_its_wills_appended_again(stage: Stage) -> None:
    stage.database.errors = [StoreConflict("another began"), StoreUnavailable("away")]
    async with stage.working():
        stage.append(detach(stage.append(claim())))
        await stage.caught_up()
    assert len(stage.messages.appended) >= 2
    assert stage.messages.counted() == [("a", b"away")]


async def test_two_workers_at_once_publish_a_will_once(stage: Stage) -> None:
    async with stage.working(), stage.working():
        for number in range(20):
            stage.append(claim(f"{number}"))
        for number in range(20):
            stage.append(detach(number, f"{number}"))
            await asyncio.sleep(0)
        await stage.caught_up()
    wills = stage.messages.counted()
    assert sorted(wills) == sorted((f"{number}", b"away") for number in range(20))
    assert stage.rows() == {}


async def test_a_commit_waits_for_the_appends(stage: Stage) -> None:
    """N is committed when the appends are resolved."""
    stage.messages.pause()
    async with stage.working():
        stage.append(detach(stage.append(claim())))
        await until(lambda: stage.messages.appended)
        assert stage.work.reflected() == {"sessions": 0}
        stage.messages.go_on()
        await stage.caught_up()
    assert stage.messages.counted() == [("a", b"away")]


async def test_a_will_that_is_refused_is_appended_as_of_now(stage: Stage) -> None:
    stage.messages.refused = 2
    async with stage.working():
        stage.append(detach(stage.append(claim())))
        await stage.caught_up()
    assert stage.messages.counted() == [("a", b"away")]
    assert stage.desk.wills.counts.wills == 1


async def test_a_will_that_stays_refused_is_told(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.messages.refused = 3
    async with stage.working():
        stage.append(detach(stage.append(claim())))
        await stage.caught_up()
    assert stage.messages.counted() == []
    assert stage.desk.wills.counts.wills_lost == 1
    assert "the will of client 'a' to topic 'gone' is lost: too large" in caplog.text


async def test_a_will_waits_for_a_clock_that_is_off(stage: Stage) -> None:
    """S2: what the mark says to be published stands in the log; until then it is told (R7)."""
    stage.messages.clock_is_off = True
    async with stage.working():
        stage.append(detach(stage.append(claim())))
        await until(lambda: stage.messages.untimely > 10)
        assert stage.work.reflected() == {"sessions": 0}
        assert stage.outage.told == "log: appends fail: too new"
        stage.messages.clock_is_off = False
        await stage.caught_up()
    assert stage.messages.counted() == [("a", b"away")]
    assert stage.desk.wills.counts.wills_lost == 0
    assert stage.outage.reason is None


async def test_a_will_below_one_that_stands_is_not_appended_again(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """R1: whoever reads it would take it for a double."""
    stage.messages.refused = 1
    stage.append(claim("a"), claim("b"))
    stage.append(detach(0, "a"), detach(0, "b"))
    async with stage.working():
        await stage.caught_up()
    assert stage.messages.counted() == [("b", b"away")]
    assert "the will of client 'a'" in caplog.text


async def test_a_doubled_record_counts_once(stage: Stage) -> None:
    """R1."""
    async with stage.working():
        stage.append(claim(), sequence=7)
        stage.append(claim(), sequence=7)
        await stage.caught_up()
    assert stage.rows() == {"a": 0}
    assert stage.messages.appended == []
    assert stage.work.folds.doubles == 1


async def test_clients_of_a_silent_edge_are_detached_and_their_wills_published(
    stage: Stage,
) -> None:
    """S3."""
    async with stage.working():
        stage.append(claim())
        await stage.caught_up()
        for _ in range(4):
            await stage.work.at_end(100.0)
        assert len(stage.log.entries) == 1
        await stage.work.at_end(100.0)
        assert [type(fact) for fact in stage.last_facts()] == [Detach]
        await stage.caught_up()
    assert stage.rows() == {}
    assert stage.messages.counted() == [("a", b"away")]
    assert stage.desk.counts.claims.detached == 1


async def test_a_silent_edge_is_told_once_however_many_partitions_notice_it(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    async with stage.working():
        first = stage.work
        async with stage.working():
            stage.append(claim())
            await stage.caught_up()
            for work in (first, stage.work):
                for _ in range(5):
                    await work.at_end(2.0)
    told = [message for message in caplog.messages if "is silent" in message]
    assert told == [f"sessions: the edge with run {EDGE.hex()} is silent; its clients are detached"]


async def test_time_counts_only_as_far_as_the_log_was_read(stage: Stage) -> None:
    """A process that was stopped for an hour knows of no lease in it."""
    async with stage.working():
        stage.append(claim())
        await stage.caught_up()
        await stage.work.at_end(3_600.0)
        stage.append(Lease(run=EDGE, for_ms=10_000))
        await stage.caught_up()
        for _ in range(4):
            await stage.work.at_end(sessions_work.ELAPSED_S_MAX)
    assert len(stage.log.entries) == 2


async def test_detaches_that_find_no_room_are_asked_for_again(stage: Stage) -> None:
    stage.sessions.is_full = True
    async with stage.working():
        stage.append(claim())
        await stage.caught_up()
        for _ in range(5):
            await stage.work.at_end(2.0)
        assert len(stage.log.entries) == 1
        stage.sessions.is_full = False
        for _ in range(5):
            await stage.work.at_end(2.0)
        assert len(stage.log.entries) == 2


@pytest.mark.parametrize(
    "text", ['{"v":1,"facts":[{"f":"riddle"}]}', '{"v":9,"facts":[]}', "no JSON"]
)
async def test_what_it_does_not_know_stops_the_partition(stage: Stage, text: str) -> None:
    """R6; what is below is committed."""
    async with stage.working() as follower:
        stage.append(claim())
        stage.append(claim("b"), text=text)
        await until(lambda: follower.phase is Phase.STOPPED)
        assert "position 3:1" in follower.stopped[0]
    assert stage.rows() == {"a": 0}
    assert stage.failed == []


async def test_a_record_of_another_kind_stops_the_partition(stage: Stage) -> None:
    async with stage.working() as follower:
        stage.log.append(Record("a", b"", 1, False, "a", SystemClock().wall_ms(), 0), EDGE)
        await until(lambda: follower.phase is Phase.STOPPED)
    assert "kind 0" in follower.stopped[0]


async def test_a_claim_among_leases_stops_the_partition(stage: Stage) -> None:
    """R6: edges know it for no claim."""
    async with stage.working() as follower:
        stage.append(Lease(run=EDGE, for_ms=1), claim())
        await until(lambda: follower.phase is Phase.STOPPED)
    assert "a fact claim in a record of kind 4" in follower.stopped[0]


async def test_what_is_foreign_is_quarantined(stage: Stage) -> None:
    async with stage.working():
        stage.log.append(None)
        stage.append(claim())
        await stage.caught_up()
    assert stage.rows() == {"a": 1}
    assert await stage.database.quarantined_at(PLACE, 0) is not None


async def test_a_gap_stops_it_loudly(stage: Stage) -> None:
    """P7: facts are lost, not only messages."""
    for _ in range(3):
        stage.append(claim())
    async with stage.working():
        await stage.caught_up()
    for _ in range(3):
        stage.append(claim())
    stage.log.first = 5
    async with stage.working() as follower:
        await until(lambda: follower.phase is Phase.STOPPED)
    assert "from 3 to 4 are missing" in follower.stopped[0]


async def test_the_next_worker_goes_on_from_the_rows(stage: Stage) -> None:
    async with stage.working():
        epoch = stage.append(claim())
        await stage.caught_up()
    async with stage.working():
        stage.append(detach(epoch))
        await stage.caught_up()
    assert stage.rows() == {}
    assert stage.messages.counted() == [("a", b"away")]


async def test_rows_of_a_later_moment_than_the_mark_are_not_folded_on(stage: Stage) -> None:
    """P1: a will of somebody who lives would be published."""
    epoch = stage.append(claim(will=None))
    async with stage.working():
        await stage.caught_up()
    stage.append(detach(epoch))
    alive = stage.append(claim())
    load = stage.database.sessions.load
    loads: list[Partition] = []

    @asynccontextmanager
    async def load_late(partition: Partition) -> AsyncIterator[MemorySnapshot]:
        """Another worker comes between the mark and the rows, the first time."""
        if not loads:
            loads.append(partition)
            async with stage.working():
                await stage.caught_up()
        async with load(partition) as snapshot:
            yield snapshot

    stage.database.sessions.load = load_late  # type: ignore[method-assign]
    async with stage.working():
        work = stage.work
        await until(lambda: loads)
        await until(lambda: work.reflected() == {"sessions": 3})
    assert stage.work is not work
    assert stage.rows() == {"a": alive}
    assert stage.messages.appended == []


async def test_a_commit_is_bounded_by_facts_and_by_bytes(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions_fold, "FACTS_MAX", 3)
    monkeypatch.setattr(sessions_fold, "SIZE_MAX", 1_000)
    for number in range(6):
        stage.append(claim(f"small{number}", will=None))
    large = Will(topic="gone", payload=b"x" * 1_000, qos=0, retain=False)
    for number in range(2):
        stage.append(claim(f"large{number}", large))
    async with stage.working():
        await stage.caught_up()
        assert stage.work.counts.commits == 4
    assert len(stage.rows()) == 8
