# ruff: noqa: D102 - the names of the tests say what holds
"""What a database must do with the queues of kept sessions on a log of many partitions."""

from collections.abc import Iterable, Sequence
from typing import Protocol

import pytest

from monstermq_shared.errors import StoreUnavailable
from monstermq_shared.messages import Subscription
from monstermq_shared.positions import Mark, Partition
from monstermq_shared.records import Record, size_of
from monstermq_shared.stores.changes import Commit, LogState, QueuedMessage
from monstermq_shared.stores.ports import Database, KeepsLogState
from monstermq_shared.stores.queue_changes import (
    NOTHING_WAITS,
    Cut,
    OpenId,
    QueueChanges,
    QueueCount,
    QueueGrowth,
)
from monstermq_shared.stores.queues import (
    QUEUES_MARK,
    KeepsQueues,
    QueueAsk,
    QueuePage,
    StoredQueue,
)
from monstermq_shared.testing.builders import (
    AWKWARD_PAYLOADS,
    AWKWARD_TEXTS,
    LARGE_PAYLOADS,
    LONG_TEXTS,
    NOON_MS,
    PARTITION,
    commit_once,
    make_record,
)

BUS = PARTITION
OTHER = PARTITION._replace(number=3)
NEXT = PARTITION._replace(generation="the next log")
SESSIONS_LOG = Partition(f"{PARTITION.generation}-sessions", 0)
LOG_ID = "kafka:Zm9v:monstermq"

SIZE = size_of(make_record(1))
EVERYTHING = 2**62
PAGE_SIZE = 1024 * 1024


class QueuesDatabase(Database, KeepsLogState, KeepsQueues, Protocol):
    """What the suite is run on."""


def make_cut(epoch: int, at: int, *filters: str, incarnation: int = 1) -> Cut:
    """Make a cut with subscriptions of QoS 1."""
    subscriptions: tuple[Subscription, ...] = tuple((text, 1, 0) for text in filters)
    return Cut(epoch, at, incarnation, subscriptions, NOON_MS + at % 1_000)


def queued(
    *clients: str, records: Iterable[Record], qos: int = 1
) -> dict[int, tuple[Record, list[tuple[str, int]]]]:
    """Make what ``QueueChanges.queued`` is: all records for all clients."""
    return {record.offset: (record, [(name, qos) for name in clients]) for record in records}


def records(*offsets: int) -> list[Record]:
    """Make records."""
    return [make_record(offset) for offset in offsets]


async def write(
    database: QueuesDatabase, changes: QueueChanges, *, upto: int = 1, at: Partition = BUS
) -> dict[str, QueueGrowth]:
    """Commit changes under a tenure of their own; return what has really changed."""
    result = await commit_once(
        database, Commit(upto=upto, queues=changes), QUEUES_MARK, partition=at
    )
    return {name: grown for name, grown in result.grown.items() if grown != (0, 0)}


def ask(
    client_id: str,
    *,
    at: int = BUS.number,
    first: int = 0,
    before: int = EVERYTHING,
    limit: int = 1_000,
) -> QueueAsk:
    """Ask for all there is unless something else is said."""
    return QueueAsk(client_id, at, first, before, limit)


async def pages(database: QueuesDatabase, *asks: QueueAsk) -> list[QueuePage]:
    """Return the pages of asks."""
    return await database.queue_pages(BUS.generation, asks, size_max=PAGE_SIZE)


def offsets(page: QueuePage) -> list[int]:
    """Return where the rows of a page stand."""
    return [message.record.offset for message in page.rows]


async def waiting(database: QueuesDatabase, client_id: str, *, at: int = BUS.number) -> list[int]:
    """Return the offsets of a client's rows."""
    (page,) = await pages(database, ask(client_id, at=at))
    assert page.is_last
    return offsets(page)


async def waiting_all(
    database: QueuesDatabase, client_id: str, *, at: int = BUS.number
) -> Sequence[QueuedMessage]:
    """Return all rows of a client, however many."""
    (page,) = await pages(database, ask(client_id, at=at, limit=100_000))
    assert page.is_last
    return page.rows


async def load_queues(
    database: QueuesDatabase, partition: Partition = BUS
) -> dict[str, StoredQueue]:
    """Return what a worker loads, by client."""
    async with database.load_queues(partition) as snapshot:
        found = [queue async for page in snapshot.pages() for queue in page]
    assert len({queue.client_id for queue in found}) == len(found)
    return {queue.client_id: queue for queue in found}


class QueueRowsContract:
    """Subclass it with a fixture ``database`` that keeps sessions, queues and log states."""

    @pytest.mark.parametrize("payload", AWKWARD_PAYLOADS.values(), ids=AWKWARD_PAYLOADS)
    async def test_a_row_comes_back_identical(
        self, database: QueuesDatabase, payload: bytes
    ) -> None:
        record = make_record(7, payload=payload, qos=2, retained=False)
        assert await write(database, QueueChanges(queued=queued("c", records=[record], qos=1))) == {
            "c": (1, size_of(record))
        }
        (page,) = await pages(database, ask("c"))
        assert ([*page.rows], page.cut, page.is_last) == (
            [QueuedMessage(record=record, qos=1)],
            None,
            True,
        )
        assert page.rows[0].record.id == record.id

    async def test_a_page_lies_between_its_ends_in_order(self, database: QueuesDatabase) -> None:
        await write(database, QueueChanges(queued=queued("c", records=records(9, 2, 5, 7, 30))))
        between, some, none = await pages(
            database,
            ask("c", first=5, before=30),
            ask("c", limit=2),
            ask("c", first=31),
        )
        assert (offsets(between), between.is_last) == ([5, 7, 9], True)
        assert (offsets(some), some.is_last) == ([2, 5], False)
        assert (offsets(none), none.cut, none.is_last) == ([], None, True)
        (exact,) = await pages(database, ask("c", limit=5))
        assert (len(exact.rows), exact.is_last) == (5, True)

    async def test_pages_of_many_clients_and_partitions_come_in_the_order_they_were_asked_for(
        self, database: QueuesDatabase
    ) -> None:
        names = [f"client{number}" for number in range(30)]
        for partition in [BUS, OTHER]:
            changes = QueueChanges(
                queued=queued(*names, records=records(1, 2)),
                cuts={name: make_cut(5, partition.number) for name in names},
            )
            await write(database, changes, at=partition)
        asks = [ask(name, at=at, first=at % 2 + 1) for name in names for at in [3, 0, 7]]
        found = await pages(database, *asks)
        for asked, page in zip(asks, found, strict=True):
            cut = None if asked.partition == 7 else (5, asked.partition)
            assert page.cut == cut
            assert offsets(page) == ([] if cut is None else [1, 2][asked.first - 1 :])
        assert await pages(database) == []

    async def test_pages_are_bounded_by_bytes_and_lose_nothing(
        self, database: QueuesDatabase
    ) -> None:
        large = [make_record(at, payload=payload) for at, payload in enumerate(LARGE_PAYLOADS)]
        await write(database, QueueChanges(queued=queued("c", records=large)), upto=100)
        found: list[int] = []
        is_last = False
        while not is_last:
            first = found[-1] + 1 if found else 0
            (page,) = await pages(database, ask("c", first=first))
            assert sum(size_of(message.record) for message in page.rows[:-1]) < PAGE_SIZE
            found += offsets(page)
            is_last = page.is_last
        assert found == [*range(len(large))]

    async def test_a_payload_above_the_size_of_a_page_is_a_page(
        self, database: QueuesDatabase
    ) -> None:
        huge = [make_record(at, payload=bytes(2 * PAGE_SIZE)) for at in range(2)]
        await write(database, QueueChanges(queued=queued("c", records=huge)))
        (page,) = await pages(database, ask("c"))
        assert (offsets(page), page.is_last) == ([0], False)

    async def test_a_row_that_is_there_stays_as_it_is(self, database: QueuesDatabase) -> None:
        await write(database, QueueChanges(queued=queued("c", records=records(1, 2), qos=2)))
        changes = QueueChanges(queued=queued("c", "d", records=records(2, 3), qos=1))
        assert await write(database, changes) == {"c": (1, SIZE), "d": (2, 2 * SIZE)}
        (page,) = await pages(database, ask("c"))
        assert [message.qos for message in page.rows] == [2, 2, 1]
        assert await waiting(database, "d") == [2, 3]

    async def test_a_message_may_be_queued_for_more_clients_later(
        self, database: QueuesDatabase
    ) -> None:
        tenure = await database.begin(BUS, [QUEUES_MARK])
        for upto, name in enumerate(["a", "b", "c"], 10):
            changes = QueueChanges(queued=queued(name, records=records(4, 5, 6)))
            result = await database.commit(tenure, Commit(upto=upto, restart=4, queues=changes))
            assert result.grown == {name: (3, 3 * SIZE)}
        for name in ["a", "b", "c"]:
            assert await waiting(database, name) == [4, 5, 6]

    async def test_the_same_rows_may_come_twice_under_one_tenure(
        self, database: QueuesDatabase
    ) -> None:
        tenure = await database.begin(BUS, [QUEUES_MARK])
        changes = QueueChanges(queued=queued("c", records=records(4)), dequeued={("c", 9)})
        for upto, grown in [(8, (1, SIZE)), (9, (0, 0))]:
            result = await database.commit(tenure, Commit(upto=upto, queues=changes))
            assert result.grown.get("c", (0, 0)) == grown
        assert await waiting(database, "c") == [4]

    async def test_what_goes_is_counted_if_it_was_there(self, database: QueuesDatabase) -> None:
        await write(database, QueueChanges(queued=queued("c", "d", records=records(*range(6)))))
        changes = QueueChanges(dequeued={("c", 1), ("c", 9), ("d", 0), ("e", 0)})
        assert await write(database, changes) == {"c": (-1, -SIZE), "d": (-1, -SIZE)}
        assert await write(database, QueueChanges(below={"c": 4, "d": 1, "e": 3})) == {
            "c": (-3, -3 * SIZE)
        }
        assert await waiting(database, "c") == [4, 5]
        assert await waiting(database, "d") == [1, 2, 3, 4, 5]

    async def test_what_is_below_goes_before_what_is_queued(self, database: QueuesDatabase) -> None:
        await write(database, QueueChanges(queued=queued("c", records=records(1, 2))))
        changes = QueueChanges(
            below={"c": 2},
            queued=queued("c", records=records(1, 5)),
            dequeued={("c", 2), ("c", 5)},
        )
        assert await write(database, changes) == {"c": (-1, -SIZE)}
        assert await waiting(database, "c") == [1]

    async def test_a_long_queue_goes_at_once(self, database: QueuesDatabase) -> None:
        many = records(*range(25_000))
        await write(database, QueueChanges(queued=queued("c", "d", records=many)), upto=30_000)
        grown = await write(database, QueueChanges(below={"c": 24_999, "d": 3}))
        assert grown == {"c": (-24_999, -24_999 * SIZE), "d": (-3, -3 * SIZE)}
        assert await waiting(database, "c") == [24_999]

    async def test_partitions_and_generations_are_apart(self, database: QueuesDatabase) -> None:
        for partition in [BUS, OTHER, NEXT]:
            changes = QueueChanges(
                queued=queued("c", records=records(partition.number + 1, 8)),
                open_ids={("c", 5): OpenId(partition.number, 1)},
                cuts={"c": make_cut(partition.number, 4)},
            )
            await write(database, changes, at=partition)
            await write(database, QueueChanges(dequeued={("c", 8)}), at=partition)
        await write(database, QueueChanges(below={"c": 99}, cuts={"c": None}), at=OTHER)
        assert await waiting(database, "c") == [1]
        assert await waiting(database, "c", at=3) == []
        assert (await load_queues(database, BUS))["c"].cut == make_cut(0, 4)
        assert (await load_queues(database, OTHER))["c"].cut is None
        assert (await load_queues(database, NEXT))["c"].waiting.messages == 1
        unknown = await database.queue_pages("never seen", [ask("c")], size_max=PAGE_SIZE)
        assert [[*unknown[0].rows], *unknown[0][1:]] == [[], None, True]

    async def test_an_identical_row_may_be_put_again_after_it_went(
        self, database: QueuesDatabase
    ) -> None:
        tenure = await database.begin(BUS, [QUEUES_MARK])
        for upto in range(1, 4):
            changes = QueueChanges(queued=queued("c", records=records(7)))
            await database.commit(tenure, Commit(upto=2 * upto, queues=changes))
            changes = QueueChanges(dequeued={("c", 7)})
            await database.commit(tenure, Commit(upto=2 * upto + 1, queues=changes))
        assert await waiting(database, "c") == []


class QueueLoadContract:
    """Subclass it with a fixture ``database`` that keeps sessions, queues and log states."""

    async def test_without_a_mark_there_is_nothing_to_load(self, database: QueuesDatabase) -> None:
        with pytest.raises(StoreUnavailable, match="no mark yet"):
            await load_queues(database)
        with pytest.raises(StoreUnavailable, match="no mark yet"):
            await database.edge_queues(BUS, since_ms=0)
        await database.begin_marks(LOG_ID, {BUS: {QUEUES_MARK: 17}})
        assert await load_queues(database) == {}
        found = await database.edge_queues(BUS, since_ms=0)
        assert (found.state.mark, found.state.log_id) == (Mark(17, 17), LOG_ID)
        assert (found.fences, found.open_ids) == ({}, {})

    async def test_the_state_of_the_log_has_what_did_not_count(
        self, database: QueuesDatabase
    ) -> None:
        tenure = await database.begin(BUS, [QUEUES_MARK])
        log = LogState(log_id=LOG_ID, last_id="1:00:2", runs={"00": [3, 4]}, skips=(11, 13, 2**60))
        await database.commit(tenure, Commit(upto=20, restart=11, log=log))
        async with database.load_queues(BUS) as snapshot:
            assert snapshot.state.mark == Mark(20, 11)
            assert snapshot.state.skips == (11, 13, 2**60)
            assert snapshot.state.runs == {"00": [3, 4]}
        await database.commit(tenure, Commit(upto=21, restart=12))
        assert (await database.log_states(BUS))[QUEUES_MARK].skips == (11, 13, 2**60)
        log = LogState(log_id=LOG_ID, last_id="1:00:3")
        await database.commit(tenure, Commit(upto=30, restart=20, log=log))
        assert (await database.log_states(BUS))[QUEUES_MARK].skips == ()

    async def test_cuts_open_ids_and_what_waits_come_back(self, database: QueuesDatabase) -> None:
        cuts: dict[str, Cut | None] = {
            "away": make_cut(5, 3, "plant/#", "a/+/b", incarnation=2),
            "new": make_cut(2**62, 2**61),
        }
        changes = QueueChanges(
            queued=queued("away", records=records(7, 9)),
            open_ids={
                ("away", 1): OpenId(4, 5),
                ("away", 65_535): OpenId(6, 2**62),
                ("only ids", 7): OpenId(8, 1),
            },
            cuts=cuts,
        )
        await write(database, changes, upto=10)
        assert await load_queues(database) == {
            "away": StoredQueue(
                "away",
                cuts["away"],
                {1: OpenId(4, 5), 65_535: OpenId(6, 2**62)},
                QueueCount(2, 2 * SIZE, NOON_MS + 7),
            ),
            "new": StoredQueue("new", cuts["new"], {}, NOTHING_WAITS),
            "only ids": StoredQueue("only ids", None, {7: OpenId(8, 1)}, NOTHING_WAITS),
        }

    async def test_later_cuts_and_ids_replace_earlier_ones(self, database: QueuesDatabase) -> None:
        changes = QueueChanges(
            open_ids={("c", 1): OpenId(4, 5), ("c", 2): OpenId(6, 5)},
            cuts={"c": make_cut(5, 3, "plant/#"), "d": make_cut(1, 1)},
        )
        await write(database, changes, upto=10)
        changes = QueueChanges(
            open_ids={("c", 1): None, ("c", 2): OpenId(11, 9), ("c", 3): None},
            cuts={"c": make_cut(9, 10, "a", "b", incarnation=9), "d": None, "e": None},
        )
        await write(database, changes, upto=12)
        found = await load_queues(database)
        assert found.keys() == {"c"}
        assert found["c"].cut == make_cut(9, 10, "a", "b", incarnation=9)
        assert found["c"].open_ids == {2: OpenId(11, 9)}

    async def test_many_clients_come_by_the_page(self, database: QueuesDatabase) -> None:
        names = [f"client {number}" for number in range(2_500)]
        changes = QueueChanges(
            queued=queued(*names[::2], records=records(5)),
            open_ids={(name, 3): OpenId(1, 1) for name in names[::3]},
            cuts={name: make_cut(2, 2, name) for name in names},
        )
        await write(database, changes, upto=10)
        found = await load_queues(database)
        assert found.keys() == {*names}
        for number, name in enumerate(names):
            cut = found[name].cut
            assert cut == make_cut(2, 2, name)
            assert found[name].waiting.messages == (number % 2 == 0)
            assert len(found[name].open_ids) == (number % 3 == 0)

    async def test_a_snapshot_shows_one_moment(self, database: QueuesDatabase) -> None:
        await write(database, QueueChanges(cuts={"c": make_cut(1, 1)}), upto=2)
        async with database.load_queues(BUS) as snapshot:
            changes = QueueChanges(
                cuts={"c": make_cut(5, 5)}, queued=queued("c", records=records(7))
            )
            await write(database, changes, upto=8)
            found = [queue async for page in snapshot.pages() for queue in page]
            assert snapshot.state.mark.reflected == 2
        assert found == [StoredQueue("c", make_cut(1, 1), {}, NOTHING_WAITS)]

    @pytest.mark.parametrize("client_id", [*AWKWARD_TEXTS, *LONG_TEXTS, "n" * 60_000])
    async def test_client_ids_and_filters_may_be_any_text(
        self, database: QueuesDatabase, client_id: str
    ) -> None:
        cut = make_cut(3, 2, client_id, "\u0000", f"a/{client_id}")
        changes = QueueChanges(
            queued=queued(client_id, records=records(4)),
            open_ids={(client_id, 9): OpenId(3, 3)},
            cuts={client_id: cut},
            counts={client_id: QueueCount(1, SIZE, NOON_MS)},
        )
        await write(database, changes, upto=5)
        found = await load_queues(database)
        expected = QueueCount(1, SIZE, NOON_MS + 4)
        assert found == {client_id: StoredQueue(client_id, cut, {9: OpenId(3, 3)}, expected)}
        edge = await database.edge_queues(BUS, since_ms=0)
        assert edge.fences == {client_id: (3, cut.marked_ms)}
        assert edge.open_ids == {(client_id, 9): OpenId(3, 3)}
        totals = await database.queue_totals(BUS.generation, messages_over=0, size_over=0)
        assert totals.keys() == {client_id}
        assert await waiting(database, client_id) == [4]
        await write(database, QueueChanges(dequeued={(client_id, 4)}), upto=6)
        assert await waiting(database, client_id) == []

    async def test_a_cut_may_have_ten_thousand_filters(self, database: QueuesDatabase) -> None:
        cut = make_cut(3, 2, *(f"plant/line{number:05}/+" for number in range(10_000)))
        await write(database, QueueChanges(cuts={"c": cut, "d": make_cut(1, 1)}), upto=5)
        await write(database, QueueChanges(cuts={"c": cut._replace(epoch=4)}), upto=6)
        assert (await load_queues(database))["c"].cut == cut._replace(epoch=4)
