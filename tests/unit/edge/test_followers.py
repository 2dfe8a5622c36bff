"""Views in another database than the sessions': who waits, who is held, and what an end leaves."""

import asyncio
from pathlib import Path

import pytest
from tests.support.engine import subscribe_to
from tests.support.two_databases import (
    ARCHIVE_ELSEWHERE,
    PATIENCE_S,
    TwoDatabases,
    caught_up,
    connect,
    publish,
)

from monstermq_edge.engines.local import followers as module
from monstermq_edge.engines.local.host import LocalHost
from monstermq_shared import retries
from monstermq_shared.bus.internal import first_offset
from monstermq_shared.errors import StartupError, StoreConflict
from monstermq_shared.positions import Partition
from monstermq_shared.stores.changes import Commit
from monstermq_shared.stores.sqlite import SqliteDatabase

TINY = {"Limits": {"ViewBacklogKb": 1}}


@pytest.fixture
async def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TwoDatabases:
    return TwoDatabases(tmp_path, monkeypatch)


@pytest.fixture(autouse=True)
def retries_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "PAUSES_S", (0.0,))


async def refused(two: TwoDatabases) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await two.elsewhere.refused.wait()


async def fill(host: LocalHost, two: TwoDatabases) -> None:
    """Publish until the backlog of the views elsewhere is full; their database is away."""
    (followed,) = host._followers.followed
    session, _ = connect(host, "filler")
    while not followed.backlog.is_full:
        publish(host, session, "a/1")
        await asyncio.sleep(0)
    await refused(two)


# -- while it runs -------------------------------------------------------------------------------


async def test_an_acknowledgement_does_not_wait_for_a_view_elsewhere(two: TwoDatabases) -> None:
    host = await two.run(ARCHIVE_ELSEWHERE)
    two.elsewhere.away = True
    session, link = connect(host, "c")
    publish(host, session, "a/1")
    assert len(link.answers) == 1
    await refused(two)
    (reason,) = host.readiness()
    assert reason.startswith("the views in POSTGRES (GArchive) are 1 records (1 KiB) behind: rest")
    two.elsewhere.away = False
    await caught_up(host)
    host.tick(0.0, 0, clock_was_set=False)
    assert host._counters.view_commit_failures > 0
    assert host.readiness() == []
    archive = two.elsewhere.archive_store("GArchive")
    assert len(await archive.history("a/1")) == 1
    await host.stop()


async def test_a_full_view_holds_only_who_publishes_what_it_wants_until_it_is_half_empty(
    two: TwoDatabases,
) -> None:
    host = await two.run(ARCHIVE_ELSEWHERE, **TINY)
    two.elsewhere.away = True
    await fill(host, two)
    wanted, wanted_link = connect(host, "wanted")
    other, other_link = connect(host, "other")
    publish(host, wanted, "a/1")
    publish(host, other, "b")
    assert (wanted_link.is_held, other_link.is_held) == (True, False)
    assert any("publishers that they want are held: restarting" in at for at in host.readiness())
    two.elsewhere.away = False
    await caught_up(host)
    assert not wanted_link.is_held
    await host.stop()


async def test_connections_that_publish_and_go_do_not_fill_the_memory(two: TwoDatabases) -> None:
    host = await two.run(ARCHIVE_ELSEWHERE, **TINY)
    two.elsewhere.away = True
    (followed,) = host._followers.followed
    for number in range(100):
        if host.engine.is_overloaded():
            break
        session, _ = connect(host, f"c{number}")
        publish(host, session, "a/1")
        await asyncio.sleep(0)
    assert 2 * 1024 <= followed.backlog.size < 4 * 1024
    two.elsewhere.away = False
    await caught_up(host)
    assert not host.engine.is_overloaded()
    await host.stop()


async def test_what_is_retained_elsewhere_is_right_before_its_commit(two: TwoDatabases) -> None:
    host = await two.run(RetainedStoreType="POSTGRES")
    two.elsewhere.away = True
    publisher, _ = connect(host, "p")
    publish(host, publisher, "r/1", retain=True)
    await refused(two)
    session, link = connect(host, "s")
    subscribe_to(host.engine, session, 1, [("r/#", 0)])
    async with asyncio.timeout(PATIENCE_S):
        while not link.payloads:
            host.end_turn()
            await asyncio.sleep(0)
    two.elsewhere.away = False
    await caught_up(host)
    again, later = connect(host, "t")
    subscribe_to(host.engine, again, 1, [("r/#", 0)])
    async with asyncio.timeout(PATIENCE_S):
        while host.engine.retained.replays:
            host.end_turn()
            await asyncio.sleep(0)
    assert link.payloads == later.payloads == [b"x" * 100]
    await host.stop()


async def test_a_tenure_that_is_over_ends_the_process_and_no_stop_waits_for_it(
    two: TwoDatabases,
) -> None:
    host = await two.run(ARCHIVE_ELSEWHERE)
    await two.elsewhere.begin(Partition(host.bus.generation, 0), ["GArchive"])
    session, _ = connect(host, "c")
    publish(host, session, "a/1")
    async with asyncio.timeout(PATIENCE_S):
        assert not await host.drain(within_s=3_600.0)
        assert isinstance(await two.failed, StoreConflict)
        assert not await host.drain(within_s=3_600.0)
    await host.stop()


# -- the end, and the next start -----------------------------------------------------------------


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the positions between which something may be missing, by the log."""
    lines = [message for message in caplog.messages if message.startswith("view ")]
    return [line.partition(" may be")[0].partition("positions ")[2] for line in lines]


async def test_after_a_stop_a_start_tells_nothing(
    two: TwoDatabases, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        host = await two.run(ARCHIVE_ELSEWHERE)
        session, _ = connect(host, "c")
        publish(host, session, "a/1")
        await caught_up(host)
        # What comes after the first drain of a stop is a position that no mark has reached.
        publish(host, session, "b")
        await caught_up(host)
        await host.stop()
    assert told(caplog) == []


async def test_after_a_kill_a_start_tells_once_what_may_be_missing(
    two: TwoDatabases, caplog: pytest.LogCaptureFixture
) -> None:
    host = await two.run(ARCHIVE_ELSEWHERE)
    session, _ = connect(host, "c")
    publish(host, session, "a/1")
    await caught_up(host)
    two.elsewhere.away = True
    # The client is a clean session: nothing is ever committed with the sessions.
    publish(host, session, "a/2")
    await refused(two)
    await two.kill(host)
    for _ in range(2):
        host = await two.run(ARCHIVE_ELSEWHERE)
        await host.stop()
    assert told(caplog) == ["1:2 and 2:0"]


async def test_a_view_that_never_committed_tells_too(
    two: TwoDatabases, caplog: pytest.LogCaptureFixture
) -> None:
    host = await two.run(ARCHIVE_ELSEWHERE)
    two.elsewhere.away = True
    session, _ = connect(host, "c")
    publish(host, session, "a/1")
    await refused(two)
    await two.kill(host)
    host = await two.run(ARCHIVE_ELSEWHERE)
    await host.stop()
    assert told(caplog) == ["1:0 and 2:0"]


async def test_a_stop_without_the_database_elsewhere_is_told_by_the_next_start(
    two: TwoDatabases, caplog: pytest.LogCaptureFixture
) -> None:
    host = await two.run(ARCHIVE_ELSEWHERE)
    two.elsewhere.away = True
    session, _ = connect(host, "c")
    publish(host, session, "a/1")
    assert not await host.drain(within_s=0.05)
    await host.stop()
    host = await two.run(ARCHIVE_ELSEWHERE)
    await host.stop()
    assert told(caplog) == ["1:0 and 2:0"]


async def test_a_stop_whose_turns_were_not_committed_is_told_too(
    two: TwoDatabases, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What never reached the follower is acknowledged, and missing, all the same."""
    host = await two.run(ARCHIVE_ELSEWHERE)
    session, link = connect(host, "c")
    with monkeypatch.context() as patch:
        patch.setattr(host.engine, "take_turn", lambda: None)
        publish(host, session, "a/1")
        assert len(link.answers) == 1
        await host.stop()
    host = await two.run(ARCHIVE_ELSEWHERE)
    await host.stop()
    assert told(caplog) == ["1:0 and 2:0"]


async def test_a_stop_does_not_wait_for_a_database_that_is_lost(two: TwoDatabases) -> None:
    host = await two.run(ARCHIVE_ELSEWHERE)
    two.elsewhere.away = True
    session, _ = connect(host, "c")
    publish(host, session, "a/1")
    await refused(two)
    two.elsewhere.gone = "its files were taken away"
    async with asyncio.timeout(PATIENCE_S):
        assert not await host.drain(within_s=3_600.0)
        await host.stop()


async def test_a_stop_does_not_wait_for_long_for_the_last_marks(
    two: TwoDatabases, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SETTLE_S", 0.01)
    host = await two.run(ARCHIVE_ELSEWHERE)

    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(two.elsewhere, "commit", never)
        async with asyncio.timeout(PATIENCE_S):
            await host.stop()
    assert "the database does not answer" in caplog.text


async def test_a_start_that_fails_leaves_both_databases_free(
    two: TwoDatabases, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def begin(*_: object) -> None:
        raise StoreConflict("another has it")

    with monkeypatch.context() as patch:
        patch.setattr(module.FollowedViews, "begin", begin)
        with pytest.raises(StoreConflict):
            await two.run(ARCHIVE_ELSEWHERE)
    host = await two.run(ARCHIVE_ELSEWHERE)
    await host.stop()


async def test_a_view_that_is_ahead_of_the_session_store_is_not_written_under_it(
    two: TwoDatabases, tmp_path: Path
) -> None:
    """Positions that it has already would be given to other records."""
    host = await two.run(ARCHIVE_ELSEWHERE)
    log = host.databases.log
    await host.stop()
    elsewhere = await SqliteDatabase.open(
        str(tmp_path / "POSTGRES.db"),
        session_store=False,
        message_stores=[],
        archive_stores=["GArchive"],
    )
    tenure = await elsewhere.begin(Partition(log.generation, 0), ["GArchive"])
    await elsewhere.commit(tenure, Commit(upto=first_offset(log.boot + 9)))
    await elsewhere.close()
    with pytest.raises(StartupError, match="the session store is an older copy"):
        await two.run(ARCHIVE_ELSEWHERE)
