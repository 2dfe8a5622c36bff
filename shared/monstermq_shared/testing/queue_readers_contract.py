# ruff: noqa: D102 - the names of the tests say what holds
"""What a database with queues must tell edges, the worker of sessions, and the sweeper."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import pytest

from monstermq_shared.errors import StartupError, StoreConflict
from monstermq_shared.positions import Mark, Partition
from monstermq_shared.stores.changes import ClientChanges, Commit
from monstermq_shared.stores.ports import OwnedByLog
from monstermq_shared.stores.queue_changes import (
    NOTHING_WAITS,
    Cut,
    OpenId,
    QueueChanges,
    QueueCount,
)
from monstermq_shared.stores.queues import (
    QUEUES_MARK,
    SESSIONS_MARK,
    KeptRow,
    KeptRows,
    OldestAsk,
    QueueTotal,
    StoredQueue,
)
from monstermq_shared.testing.builders import (
    AWKWARD_TEXTS,
    LONG_TEXTS,
    NOON_MS,
    commit_once,
    make_session,
)
from monstermq_shared.testing.queues_contract import (
    BUS,
    LOG_ID,
    NEXT,
    OTHER,
    SESSIONS_LOG,
    SIZE,
    QueueLoadContract,
    QueueRowsContract,
    QueuesDatabase,
    load_queues,
    make_cut,
    queued,
    records,
    waiting,
    waiting_all,
    write,
)


async def kept(database: QueuesDatabase, client_ids: Sequence[str]) -> KeptRows:
    """Return rows of clients of the sessions log."""
    log, number = SESSIONS_LOG
    return (await database.kept_rows(log, {number: client_ids}))[number]


class OwnedQueuesDatabase(QueuesDatabase, OwnedByLog, Protocol):
    """What the last part of the suite is run on."""


class QueueEdgeContract:
    """Subclass it with a fixture ``database`` that keeps sessions, queues and log states."""

    async def test_an_edge_learns_fences_of_some_time_and_all_open_ids(
        self, database: QueuesDatabase
    ) -> None:
        changes = QueueChanges(
            open_ids={("c", 1): OpenId(4, 5), ("d", 1): OpenId(6, 5)},
            cuts={f"client{at}": make_cut(at + 1, at) for at in range(10)},
        )
        await write(database, changes, upto=20)
        await write(database, QueueChanges(cuts={"elsewhere": make_cut(1, 9)}), at=OTHER)
        found = await database.edge_queues(BUS, since_ms=NOON_MS + 8)
        assert found.fences == {"client8": (9, NOON_MS + 8), "client9": (10, NOON_MS + 9)}
        assert found.open_ids == changes.open_ids
        assert found.state.mark.reflected == 20

    async def test_rows_of_sessions_come_with_their_mark(self, database: QueuesDatabase) -> None:
        row = make_session("c", incarnation=3)
        row.epoch, row.run, row.expiry_s = 7, "00112233445566ff", 3600
        away = make_session("away", incarnation=1, connected=False)
        away.epoch, away.expiry_s, away.sent = 2, 0, ((3, 9), (0, 2**60))
        unclaimed = make_session("unclaimed")
        changes = {
            "c": ClientChanges(
                session=row,
                subscriptions={"plant/#": 1, "\u00e4/+": 2},
                opened={1: (3, 9), 2: (None, None), 3: (0, 8)},
            ),
            "away": ClientChanges(session=away),
            "unclaimed": ClientChanges(session=unclaimed),
        }
        await self._commit(database, 20, changes)
        changed = {
            "c": ClientChanges(opened={3: None, 1: (3, 11)}, subscriptions={"plant/#": None})
        }
        await self._commit(database, 30, changed)
        asked = ["away", "unclaimed", "nobody", "c"]
        found = await kept(database, asked)
        assert found.mark.reflected == 30
        assert found.rows == {
            "c": KeptRow(
                7, 3, 3600, True, {"\u00e4/+": (2, 0)}, {1: (3, 11), 2: (None, None)}, None
            ),
            "away": KeptRow(2, 1, 0, False, {}, {}, ((3, 9), (0, 2**60))),
        }
        log, at = SESSIONS_LOG
        assert await database.kept_rows(log, {5: ["c"], at: ["away"], 6: []}) == {
            5: (Mark(0, 0), {}),
            at: (found.mark, {"away": found.rows["away"]}),
            6: (Mark(0, 0), {}),
        }
        assert await database.kept_rows("never seen", {0: ["c"]}) == {0: (Mark(0, 0), {})}

    async def test_filters_of_a_session_may_be_any_text(self, database: QueuesDatabase) -> None:
        row = make_session("c")
        row.epoch = 1
        texts = [*AWKWARD_TEXTS, *LONG_TEXTS, "/", "//", "+/#", "a//b"]
        change = ClientChanges(session=row, subscriptions=dict.fromkeys(texts, 2))
        await self._commit(database, 2, {"c": change})
        found = (await kept(database, ["c"])).rows["c"]
        assert found.subscriptions == dict.fromkeys(texts, (2, 0))

    async def test_a_session_is_cleared_and_its_queues_stay(self, database: QueuesDatabase) -> None:
        await write(database, QueueChanges(queued=queued("c", records=records(1))))
        row = make_session("c")
        row.epoch = 1
        before = ClientChanges(
            session=row, subscriptions={"a": 1, "b": 1}, opened={1: (0, 1), 2: (0, 2)}
        )
        await self._commit(database, 2, {"c": before})
        row = make_session("c", incarnation=2)
        row.epoch = 2
        after = ClientChanges(
            cleared=True, session=row, subscriptions={"b": 2}, opened={2: (None, None)}
        )
        await self._commit(database, 3, {"c": after})
        found = (await kept(database, ["c"])).rows["c"]
        assert (found.epoch, found.subscriptions) == (2, {"b": (2, 0)})
        assert found.in_flight == {2: (None, None)}
        assert await waiting(database, "c") == [1]
        await self._commit(database, 4, {"c": ClientChanges(cleared=True)})
        assert (await kept(database, ["c"])).rows == {}

    async def test_the_worker_of_a_sessions_log_loads_what_it_has_written(
        self, database: QueuesDatabase
    ) -> None:
        # In a partition of the same number, and none of the worker's business.
        await write(database, QueueChanges(open_ids={("c", 9): OpenId(1, 1)}))
        row = make_session("c")
        row.epoch, row.sent = 1, ((1, 2),)
        opened: dict[int, tuple[int | None, int | None] | None] = {1: (0, 1), 2: (None, None)}
        await self._commit(database, 2, {"c": ClientChanges(session=row, opened=opened)})
        async with database.sessions.load(SESSIONS_LOG) as snapshot:
            (found,) = [session async for page in snapshot.pages() for session in page]
        assert found.row == row
        assert found.opened == opened
        assert (found.in_flight, found.open_ids) == ({}, {})

    async def _commit(
        self, database: QueuesDatabase, upto: int, changes: dict[str, ClientChanges]
    ) -> None:
        commit = Commit(upto=upto, sessions=changes)
        await commit_once(database, commit, SESSIONS_MARK, partition=SESSIONS_LOG)


class QueueLimitsContract:
    """Subclass it with a fixture ``database`` that keeps sessions, queues and log states."""

    async def test_cuts_that_an_end_has_not_reached(self, database: QueuesDatabase) -> None:
        for partition, epoch in [(BUS, 4), (OTHER, 5), (NEXT, 1)]:
            cuts: dict[str, Cut | None] = {"ended": make_cut(epoch, 1), "other": make_cut(9, 1)}
            await write(database, QueueChanges(cuts=cuts), at=partition)
        asked = {"ended": 5, "other": 9, "nobody": 100}
        assert await database.old_cuts(BUS.generation, asked) == {"ended": [0]}
        asked = {"other": 10, "ended": 6}
        found = await database.old_cuts(BUS.generation, asked)
        assert found == {"ended": [0, 3], "other": [0, 3]}
        assert await database.old_cuts("never seen", asked) == {}
        assert await database.old_cuts(BUS.generation, {}) == {}

    async def test_the_sum_of_the_counts_tells_who_is_over_a_limit(
        self, database: QueuesDatabase
    ) -> None:
        counts = {
            "many": QueueCount(60, 10, NOON_MS),
            "large": QueueCount(1, 600, NOON_MS + 1),
            "within": QueueCount(50, 500, NOON_MS + 2),
            "no cut": QueueCount(999, 999, NOON_MS),
        }
        cuts: dict[str, Cut | None] = {name: make_cut(1, 1) for name in ["many", "large", "within"]}
        for partition in [BUS, OTHER, NEXT]:
            await write(database, QueueChanges(cuts=cuts, counts=counts), at=partition)
        found = await database.queue_totals(BUS.generation, messages_over=100, size_over=1_000)
        assert found.keys() == {"many", "large"}
        assert (found["many"].messages, found["many"].size) == (120, 20)
        assert found["large"].by_partition == dict.fromkeys([0, 3], counts["large"])
        assert await database.queue_totals("never seen", messages_over=0, size_over=0) == {}

    async def test_counts_stay_with_their_cut_until_they_fall(
        self, database: QueuesDatabase
    ) -> None:
        count = QueueCount(60, 10, NOON_MS)
        await write(database, QueueChanges(cuts={"c": make_cut(1, 1)}, counts={"c": count}))
        await write(database, QueueChanges(cuts={"c": make_cut(2, 2)}))
        assert (await self._totals(database))["c"].by_partition == {0: count}
        await write(database, QueueChanges(counts={"c": NOTHING_WAITS}))
        assert await self._totals(database) == {}
        await write(database, QueueChanges(counts={"c": count}))
        await write(database, QueueChanges(cuts={"c": None}))
        await write(database, QueueChanges(cuts={"c": make_cut(3, 3)}))
        assert await self._totals(database) == {}

    async def test_the_oldest_rows_end_somewhere(self, database: QueuesDatabase) -> None:
        await write(database, QueueChanges(queued=queued("c", records=records(3, 5, 9))))
        await write(database, QueueChanges(queued=queued("c", records=records(1))), at=OTHER)
        asks = [
            OldestAsk("c", 0, 2),
            OldestAsk("c", 3, 1_000),
            OldestAsk("nobody", 0, 1),
            OldestAsk("c", 0, 100),
        ]
        expected = [(6, 2), (2, 1), None, (10, 3)]
        assert await database.oldest_rows(BUS.generation, asks) == expected
        assert await database.oldest_rows("never seen", asks) == [None] * 4
        assert await database.oldest_rows(BUS.generation, []) == []

    async def test_payloads_that_no_row_needs_are_swept(self, database: QueuesDatabase) -> None:
        many = records(*range(5_000))
        await write(database, QueueChanges(queued=queued("a", "b", records=many)), upto=5_000)
        await write(database, QueueChanges(queued=queued("a", records=many)), at=OTHER)
        await write(database, QueueChanges(below={"a": 5_000, "b": 4_000}), upto=5_001)
        await write(database, QueueChanges(dequeued={("b", 4_500), ("b", 4_999)}), upto=5_002)
        assert await self._sweep(database, below=3_000) == 3_000
        assert await self._sweep(database, below=4_999) == 1_001
        assert await self._sweep(database, below=5_000) == 1
        assert await self._sweep(database, below=5_000) == 0
        assert len(await waiting_all(database, "b")) == 998
        assert len(await waiting_all(database, "a", at=3)) == 5_000

    async def test_a_sweep_finds_what_went_before_a_worker_began(
        self, database: QueuesDatabase
    ) -> None:
        await write(
            database, QueueChanges(queued=queued("a", records=records(*range(100)))), upto=200
        )
        assert await self._sweep(database, below=100) == 0
        gone = QueueChanges(dequeued={("a", 7), ("a", 70)})
        await write(database, gone, upto=201)
        await load_queues(database)
        assert await self._sweep(database, below=50) == 1
        await load_queues(database)
        assert await self._sweep(database, below=100) == 1

    async def test_a_sweep_deletes_no_more_than_it_may_and_goes_on(
        self, database: QueuesDatabase
    ) -> None:
        many = records(*range(3_000))
        await write(database, QueueChanges(queued=queued("a", records=many)), upto=3_000)
        await write(database, QueueChanges(below={"a": 2_900}), upto=3_001)
        swept = [await database.sweep(BUS, below=3_000, limit=1_000) for _ in range(4)]
        assert swept == [1_000, 1_000, 900, 0]
        assert await database.sweep(Partition("never seen", 0), below=9, limit=9) == 0

    async def _sweep(self, database: QueuesDatabase, *, below: int) -> int:
        return await database.sweep(BUS, below=below, limit=100_000)

    async def _totals(self, database: QueuesDatabase) -> Mapping[str, QueueTotal]:
        return await database.queue_totals(BUS.generation, messages_over=0, size_over=0)


class QueueOwnerContract:
    """Subclass it with a fixture ``database`` that also belongs to a log."""

    async def test_rows_stay_with_their_log_when_the_database_is_given_to_another(
        self, database: OwnedQueuesDatabase
    ) -> None:
        await database.belong_to(BUS.generation)
        tenure = await database.begin(BUS, [QUEUES_MARK])
        before = QueueChanges(
            queued=queued("c", records=records(1, 2)),
            open_ids={("c", 5): OpenId(1, 1)},
            cuts={"c": make_cut(1, 1, "a")},
            counts={"c": QueueCount(2, 2 * SIZE, NOON_MS)},
        )
        await database.commit(tenure, Commit(upto=3, queues=before))
        assert await database.adopt(NEXT.generation) == BUS.generation
        with pytest.raises(StoreConflict):
            await database.commit(tenure, Commit(upto=4, queues=QueueChanges()))
        with pytest.raises(StartupError):
            await database.begin(BUS, [QUEUES_MARK])
        await database.begin_marks(LOG_ID, {NEXT: {QUEUES_MARK: 0}})
        assert await load_queues(database, NEXT) == {}
        assert await database.queue_totals(NEXT.generation, messages_over=0, size_over=0) == {}
        after = QueueChanges(
            queued=queued("c", records=records(1)),
            dequeued={("c", 2)},
            below={"c": 1},
            cuts={"c": make_cut(7, 7, "b")},
        )
        await write(database, after, at=NEXT)
        assert await database.sweep(NEXT, below=100, limit=100) == 0
        await database.adopt(BUS.generation)
        (found,) = (await load_queues(database)).values()
        waits = QueueCount(2, 2 * SIZE, NOON_MS + 1)
        assert found == StoredQueue("c", make_cut(1, 1, "a"), {5: OpenId(1, 1)}, waits)
        assert await waiting(database, "c") == [1, 2]


class KeepsQueuesContract(
    QueueRowsContract,
    QueueLoadContract,
    QueueEdgeContract,
    QueueLimitsContract,
    QueueOwnerContract,
):
    """All of it."""
