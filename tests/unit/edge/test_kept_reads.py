"""What an edge reads for kept sessions: together, in bounded statements, and over an outage."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

import pytest

from monstermq_edge.engines.kafka.kept_reads import (
    ASKS_MAX,
    CLIENTS_MAX,
    ROWS_MAX,
    KeptReads,
)
from monstermq_shared.errors import StoreUnavailable
from monstermq_shared.positions import Mark
from monstermq_shared.stores.outages import Outage
from monstermq_shared.stores.queues import KeptRows, QueueAsk, QueuePage

BOUND_S = 10.0
NOTHING = QueuePage((), None, is_last=True)


class Engine:
    """Wants what a test says, and notes what it is brought."""

    def __init__(self) -> None:
        self.awaits_queues = False
        self.queue_waits: dict[int, int] = {}
        self.sessions_behind: list[int] = []
        self.asks: list[QueueAsk] = []
        self.reads: dict[int, list[str]] = {}
        self.pages: list[Sequence[QueueAsk]] = []
        self.rows: list[tuple[int, Sequence[str]]] = []
        self.marks: list[Mapping[int, int]] = []
        self.session_marks: list[Mapping[int, int]] = []
        self.down: list[bool] = []

    def queues_reflected(self, positions: Mapping[int, int]) -> None:
        self.marks.append(positions)

    def sessions_reflected(self, positions: Mapping[int, int]) -> None:
        self.session_marks.append(positions)

    def take_asks(self) -> list[QueueAsk]:
        taken, self.asks = self.asks, []
        return taken

    def queue_pages(self, asks: Sequence[QueueAsk], pages: Sequence[QueuePage]) -> None:
        assert len(asks) == len(pages)
        self.pages.append(asks)

    def take_row_reads(self) -> dict[int, list[str]]:
        taken, self.reads = self.reads, {}
        return taken

    def kept_rows(self, partition: int, client_ids: Sequence[str], rows: KeptRows) -> None:
        assert not rows.rows
        self.rows.append((partition, client_ids))

    def databases_down(self, down: bool) -> None:
        self.down.append(down)


class Database:
    """Answers when it may."""

    def __init__(self) -> None:
        self.is_there = asyncio.Event()
        self.is_there.set()
        self.fails = False
        self.queues_upto = 7
        self.asked: list[dict[int, Sequence[str]]] = []

    async def _ask(self) -> None:
        if self.fails:
            raise StoreUnavailable("gone")
        await self.is_there.wait()

    async def queue_marks(self) -> Mapping[int, int]:
        await self._ask()
        return {0: self.queues_upto}

    async def session_marks(self) -> Mapping[int, int]:
        await self._ask()
        return {3: 9}

    async def queue_pages(self, asks: Sequence[QueueAsk], *, size_max: int) -> list[QueuePage]:
        assert size_max > 0
        await self._ask()
        return [NOTHING for _ in asks]

    async def kept_rows(self, asked: Mapping[int, Sequence[str]]) -> Mapping[int, KeptRows]:
        assert all(asked.values())
        await self._ask()
        self.asked.append({**asked})
        return {partition: KeptRows(Mark(0, partition), {}) for partition in asked}


class Scene:
    """All of it, running.

    Attributes:
        touched: Set whenever something was brought.
    """

    def __init__(self, stands_s: float = BOUND_S) -> None:
        self.engine, self.database, self.touched = Engine(), Database(), asyncio.Event()
        outage = Outage("database")
        self.reads = KeptReads(self.engine, self.database, outage, self.touched.set, stands_s)
        self.tasks = [asyncio.ensure_future(work) for _, work in self.reads.tasks()]

    async def until(self, count: int, found: Sequence[object]) -> None:
        """Return once the engine was brought so many."""
        async with asyncio.timeout(BOUND_S):
            while len(found) < count:
                self.touched.clear()
                self.reads.collect()
                await self.touched.wait()

    async def until_down(self, *expected: bool) -> None:
        await self.until(len(expected), self.engine.down)
        assert self.engine.down == [*expected]

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    yield scene
    await scene.end()


def ask(number: int, limit: int = 1) -> QueueAsk:
    return QueueAsk(f"c{number}", 0, 0, 10, limit)


async def test_pages_are_read_together_up_to_a_bound(scene: Scene) -> None:
    asks = [ask(number) for number in range(ASKS_MAX + 3)]
    scene.engine.asks = [*asks]
    await scene.until(2, scene.engine.pages)
    assert scene.engine.pages == [asks[:ASKS_MAX], asks[ASKS_MAX:]]
    assert scene.engine.pages[0][0] is asks[0]  # by which the engine knows it


async def test_a_statement_reads_a_bounded_number_of_rows(scene: Scene) -> None:
    scene.engine.asks = [ask(number, ROWS_MAX // 2) for number in range(3)]
    await scene.until(2, scene.engine.pages)
    assert [len(asks) for asks in scene.engine.pages] == [2, 1]


async def test_rows_of_all_partitions_are_read_together_and_brought_one_by_one(
    scene: Scene,
) -> None:
    scene.engine.reads = {3: ["a", "b"], 5: ["c"]}
    await scene.until(2, scene.engine.rows)
    assert scene.database.asked == [{3: ["a", "b"], 5: ["c"]}]
    assert scene.engine.rows == [(3, ["a", "b"]), (5, ["c"])]


async def test_rows_of_many_clients_are_read_by_several_statements(scene: Scene) -> None:
    many = [f"c{number}" for number in range(CLIENTS_MAX)]
    scene.engine.reads = {3: many, 5: ["c"]}
    await scene.until(2, scene.engine.rows)
    assert scene.database.asked == [{3: many}, {5: ["c"]}]


async def test_marks_are_read_at_once_and_again_and_again_while_somebody_waits(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whatever the machine does meanwhile, it is not time yet for those that nobody waits for.
    monkeypatch.setattr("monstermq_edge.engines.kafka.kept_reads.MARKS_S", 3_600.0)
    scene.engine.awaits_queues = True
    await scene.until(5, scene.engine.marks)
    assert scene.engine.marks[0] == scene.reads.reflected == {0: 7}
    assert scene.engine.session_marks == [{3: 9}]


async def test_a_standby_that_lacks_commits_is_told_once(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.engine.awaits_queues = True
    await scene.until(2, scene.engine.marks)
    scene.database.queues_upto = 5
    await scene.until(len(scene.engine.marks) + 4, scene.engine.marks)
    (line,) = caplog.messages
    assert "the rows of queues lack commits that were there, in partitions 0" in line
    assert scene.engine.marks[-1] == {0: 5}


async def test_an_outage_is_told_once_and_what_waits_is_read_after_it(scene: Scene) -> None:
    scene.database.fails = True
    scene.engine.asks = [ask(1)]
    await scene.until_down(True)
    scene.database.fails = False
    await scene.until_down(True, False)
    await scene.until(1, scene.engine.pages)


async def test_a_database_without_an_answer_is_down_until_it_gives_one(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monstermq_edge.engines.kafka.kept_reads.LATE_S", 0.01)
    scene.database.is_there.clear()
    scene.engine.reads = {1: ["a"]}
    await scene.until_down(True)
    scene.database.is_there.set()
    await scene.until_down(True, False)


async def test_rows_asked_for_before_an_outage_are_nobodys_after_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine has refused who waited, and others may wait for the partition by then."""
    monkeypatch.setattr("monstermq_edge.engines.kafka.kept_reads.LATE_S", 0.01)
    scene.database.is_there.clear()
    scene.engine.reads = {1: ["before"], 2: ["behind"]}
    await scene.until_down(True)
    scene.database.is_there.set()
    await scene.until_down(True, False)
    scene.engine.reads = {1: ["after"]}
    await scene.until(1, scene.engine.rows)
    assert scene.engine.rows == [(1, ["after"])]


async def test_rows_that_stand_still_are_a_concern_until_they_go_on() -> None:
    scene = Scene(stands_s=0.0)
    engine = scene.engine
    engine.awaits_queues, engine.queue_waits, engine.sessions_behind = True, {0: 2}, [3]
    await scene.until(2, engine.marks)
    queues, sessions = scene.reads.concerns
    assert queues.startswith("no projector makes the rows of the queues, partition 0: ")
    assert sessions.startswith("no projector makes the rows of the sessions, partition 3: ")
    assert scene.reads.unfollowed == {"queues": 1, "sessions": 1}
    scene.database.queues_upto, engine.queue_waits = 8, {}
    await scene.until(len(engine.marks) + 2, engine.marks)
    assert scene.reads.concerns == [sessions]
    await scene.end()
