"""Pages are read again and again, and nothing grows with clients that do not wait for them."""

import asyncio
from pathlib import Path

import pytest
from tests.support.engine import subscribe_to
from tests.support.local_bus import WALL_MS
from tests.support.two_databases import PATIENCE_S, TwoDatabases, connect, publish

from monstermq_edge.engines import lane
from monstermq_edge.engines.local.host import LocalHost
from monstermq_shared import retries
from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.errors import StoreUnavailable
from monstermq_shared.records import Record
from monstermq_shared.sessions.local.session import Session
from monstermq_shared.stores.needed import RETAINED

FAILING = ["POSTGRES: retained reads fail: restarting"]


class Retained:
    """The retained messages of a host, whose database can be made to answer no read.

    Attributes:
        away: Whether it answers none now.
        asked: How often it was asked in vain.
        answered: Set when it has answered.
    """

    def __init__(self, two: TwoDatabases, monkeypatch: pytest.MonkeyPatch) -> None:
        self.away = False
        self.asked = 0
        self.answered = asyncio.Event()
        self._changed = asyncio.Condition()
        store = two.elsewhere.message_store(RETAINED)
        self._find = store.find
        monkeypatch.setattr(store, "find", self._find_or_fail)

    async def _find_or_fail(self, topic_filter: str, *, after: str, limit: int) -> list[Record]:
        async with self._changed:
            self.asked += self.away
            self._changed.notify_all()
        if self.away:
            raise StoreUnavailable("restarting")
        found = await self._find(topic_filter, after=after, limit=limit)
        self.answered.set()
        return found

    async def asked_again(self, times: int = 1) -> None:
        """Return when it was asked in vain so many times more."""
        least = self.asked + times
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(lambda: self.asked >= least)


@pytest.fixture
async def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TwoDatabases:
    monkeypatch.setattr(retries, "PAUSES_S", (0.0,))
    return TwoDatabases(tmp_path, monkeypatch)


def subscribe(host: LocalHost, client_id: str) -> Session:
    """Connect and subscribe to all that is retained below ``r``."""
    session, _ = connect(host, client_id)
    subscribe_to(host.engine, session, 1, [("r/#", 0)])
    host.end_turn()
    return session


async def replayed(host: LocalHost) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while host.engine.retained.replays:
            host.end_turn()
            await asyncio.sleep(0)


async def test_reads_that_fail_are_told_once_and_their_end_too_also_if_nobody_waits_any_more(
    two: TwoDatabases, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    host = await two.run(RetainedStoreType="POSTGRES")
    retained = Retained(two, monkeypatch)
    retained.away = True
    for client_id in ("s", "t", "u"):
        session = subscribe(host, client_id)
        await retained.asked_again(4)
        host.engine.detach(session, CloseReason.TRANSPORT_CLOSED, WALL_MS)
        await retained.asked_again(4)
        assert host.readiness() == FAILING
    retained.away = False
    async with asyncio.timeout(PATIENCE_S):
        await retained.answered.wait()
    assert host.readiness() == []
    begin, end = [message for message in caplog.messages if message.startswith("POSTGRES: ")]
    assert begin == "POSTGRES: retained reads fail, and are repeated: restarting"
    assert end.startswith("POSTGRES: works again, after ")
    await host.stop()


async def test_what_clients_that_came_and_went_were_to_read_is_dropped(
    two: TwoDatabases, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = await two.run(RetainedStoreType="POSTGRES")
    publish(host, connect(host, "p")[0], "r/1", retain=True)
    retained = Retained(two, monkeypatch)
    retained.away = True
    for number in range(lane.READERS):
        subscribe(host, f"stays {number}")
    await retained.asked_again(4)
    for number in range(50):
        session = subscribe(host, f"goes {number}")
        host.engine.detach(session, CloseReason.TRANSPORT_CLOSED, WALL_MS)
    await retained.asked_again(4)
    assert host._pages._of_retained.asked.qsize() == 0
    retained.away = False
    await replayed(host)
    await host.stop()
