# ruff: noqa: D102 - the names of the tests say what holds
"""What every session store must do."""

import pytest

from monstermq_shared.messages import Will
from monstermq_shared.records import Record, size_of
from monstermq_shared.stores.changes import (
    ClientChanges,
    Commit,
    InFlightState,
    QueuedMessage,
    StoredSession,
    Trim,
    Trimmed,
)
from monstermq_shared.stores.ports import Database
from monstermq_shared.testing.builders import (
    AWKWARD_PAYLOADS,
    AWKWARD_TEXTS,
    LARGE_PAYLOADS,
    LONG_TEXTS,
    PARTITION,
    check_page,
    commit_once,
    commit_sessions,
    make_queue,
    make_record,
    make_session,
)

_EVERYTHING = 2**62

SIZE = size_of(make_record(1))
"""Bytes of a record that nobody gave a topic or payload."""


async def load_all(database: Database) -> list[StoredSession]:
    """Return every session there is."""
    async with database.sessions.load(PARTITION) as snapshot:
        return [session async for page in snapshot.pages() for session in page]


async def load(database: Database, client_id: str) -> StoredSession | None:
    """Return one client's session."""
    found = [at for at in await load_all(database) if at.row.client_id == client_id]
    assert len(found) <= 1
    return found[0] if found else None


async def read_queue(
    database: Database, client_id: str, *, after: int, limit: int
) -> list[QueuedMessage]:
    """Return a page of a queue, from an offset to the end."""
    return await database.sessions.page(
        PARTITION, client_id, after=after, before=_EVERYTHING, limit=limit
    )


async def queued_offsets(database: Database, client_id: str) -> list[int]:
    """Return what waits for a client."""
    page = await read_queue(database, client_id, after=-1, limit=100_000)
    return [message.record.offset for message in page]


async def queue_pages(
    database: Database, client_id: str, *, limit: int
) -> list[list[QueuedMessage]]:
    """Page through a queue, as long as a page says that more may follow."""
    pages: list[list[QueuedMessage]] = []
    after = -1
    while True:
        page = await read_queue(database, client_id, after=after, limit=limit)
        pages.append(page)
        if check_page([message.record for message in page], limit=limit):
            return pages
        after = page[-1].record.offset


class SessionStoreContract:
    """Subclass it with a fixture ``database`` that has a session store."""

    @pytest.mark.parametrize(
        "will",
        [
            None,
            Will(topic="w", payload=b"", qos=0, retain=False),
            Will(topic="w/\u00e4", payload=b"\xff\x00", qos=2, retain=True),
        ],
    )
    async def test_a_session_comes_back_as_it_was(
        self, database: Database, will: Will | None
    ) -> None:
        row = make_session("a", incarnation=2**40 + 7, will=will)
        await commit_sessions(database, 1, a=ClientChanges(session=row))
        stored = await load(database, "a")
        assert stored == StoredSession(
            row=row,
            subscriptions={},
            open_ids={},
            in_flight={},
            queued_messages=0,
            queued_size=0,
        )

    async def test_a_later_row_replaces_the_session_and_nothing_else(
        self, database: Database
    ) -> None:
        first = ClientChanges(session=make_session("a"), subscriptions={"x/#": 1})
        await commit_sessions(database, 1, a=first)
        row = make_session("a", connected=False)
        await commit_sessions(database, 2, a=ClientChanges(session=row))
        stored = await load(database, "a")
        assert stored is not None
        assert (stored.row, stored.subscriptions) == (row, {"x/#": 1})

    async def test_subscriptions_are_replaced_and_deleted_by_filter(
        self, database: Database
    ) -> None:
        filters = {f"plant/{text}/+": number % 3 for number, text in enumerate(AWKWARD_TEXTS)}
        changes = ClientChanges(
            session=make_session("a"), subscriptions={**filters, "b": 1, "c": 1}
        )
        await commit_sessions(database, 1, a=changes)
        await commit_sessions(
            database, 2, a=ClientChanges(subscriptions={"b": 2, "c": None, "unknown": None})
        )
        stored = await load(database, "a")
        assert stored is not None
        assert stored.subscriptions == {**filters, "b": 2}

    async def test_packet_ids_are_replaced_and_deleted(self, database: Database) -> None:
        sent, received = InFlightState.SENT, InFlightState.RECEIVED
        first = ClientChanges(
            session=make_session("a"),
            open_ids={1: 2**41, 2: 2**41 + 1, 65_535: 2**41 + 2},
            in_flight={1: (2**41, sent), 2: (2**41 + 1, sent), 65_535: (5, sent)},
        )
        await commit_sessions(database, 1, a=first)
        second = ClientChanges(
            open_ids={1: 77, 2: None, 9: None}, in_flight={1: (2**41, received), 2: None, 9: None}
        )
        await commit_sessions(database, 2, a=second)
        stored = await load(database, "a")
        assert stored is not None
        assert stored.open_ids == {1: 77, 65_535: 2**41 + 2}
        assert stored.in_flight == {1: (2**41, received), 65_535: (5, sent)}

    @pytest.mark.parametrize("payload", AWKWARD_PAYLOADS.values(), ids=AWKWARD_PAYLOADS)
    async def test_a_queued_message_comes_back_identical(
        self, database: Database, payload: bytes
    ) -> None:
        record = make_record(2**41, payload=payload, qos=2)
        changes = ClientChanges(session=make_session("a"), queued=make_queue([record], qos=1))
        await commit_sessions(database, 1, a=changes)
        (message,) = await read_queue(database, "a", after=0, limit=9)
        assert (message.record, message.qos) == (record, 1)
        assert message.record.id == record.id
        stored = await load(database, "a")
        assert stored is not None
        assert (stored.queued_messages, stored.queued_size) == (1, size_of(record))

    async def test_pages_lie_between_their_ends_in_order(self, database: Database) -> None:
        records = [make_record(i) for i in range(5_000)]
        shuffled = [*records[1::2], *records[::2]]
        changes = ClientChanges(session=make_session("a"), queued=make_queue(shuffled))
        await commit_sessions(database, 1, a=changes)
        sessions = database.sessions
        page = await sessions.page(PARTITION, "a", after=10, before=14, limit=9)
        assert [at.record for at in page] == records[11:14]
        page = await sessions.page(PARTITION, "a", after=-1, before=_EVERYTHING, limit=3_000)
        assert [at.record for at in page] == records[:3_000]
        page = await sessions.page(PARTITION, "a", after=2_999, before=_EVERYTHING, limit=3_000)
        assert [at.record for at in page] == records[3_000:]
        assert await sessions.page(PARTITION, "nobody", after=-1, before=_EVERYTHING, limit=9) == []

    async def test_pages_of_large_payloads_are_bounded_and_lose_nothing(
        self, database: Database
    ) -> None:
        records = [make_record(i, payload=at) for i, at in enumerate(LARGE_PAYLOADS)]
        queued = {at.offset: (at, at.offset % 3) for at in records}
        await commit_sessions(
            database, 99, a=ClientChanges(session=make_session("a"), queued=queued)
        )
        pages = await queue_pages(database, "a", limit=500)
        found = [(message.record, message.qos) for page in pages for message in page]
        assert found == [(at, at.offset % 3) for at in records]
        assert [len(page) for page in pages] == [4, 4, 4, 4, 4, 0]
        assert len(await queue_pages(database, "a", limit=3)) == 7
        (message,) = await database.sessions.page(
            PARTITION, "a", after=4, before=9, limit=9, size_max=1
        )
        assert message.record == records[5]

    async def test_long_topics_and_publishers_count_and_come_back(self, database: Database) -> None:
        records = [make_record(i, f"{i:03}/{LONG_TEXTS[i % 5]}", b"x") for i in range(100)]
        for record in records:
            record.client_id = LONG_TEXTS[record.offset % 3]
        changes = ClientChanges(session=make_session("a"), queued=make_queue(records))
        await commit_sessions(database, 100, a=changes)
        found: list[Record] = []
        while True:
            after = found[-1].offset if found else -1
            page = await read_queue(database, "a", after=after, limit=60)
            found += (message.record for message in page)
            if check_page([message.record for message in page], limit=60):
                break
        assert found == records
        stored = await load(database, "a")
        assert stored is not None
        assert stored.queued_size == sum(map(size_of, records))
        result = await commit_sessions(database, 101, a=ClientChanges(trim=Trim(-1, 2, 0)))
        assert result.trimmed == {"a": Trimmed(2, sum(map(size_of, records[:2])))}

    async def test_a_payload_above_the_size_of_a_page_is_a_page(self, database: Database) -> None:
        payloads = [b"", AWKWARD_PAYLOADS["5 MB"], AWKWARD_PAYLOADS["5 MB"], b"last"]
        records = [make_record(i, payload=at) for i, at in enumerate(payloads)]
        changes = ClientChanges(session=make_session("a"), queued=make_queue(records))
        await commit_sessions(database, 9, a=changes)
        pages = await queue_pages(database, "a", limit=500)
        assert [[at.record.offset for at in page] for page in pages] == [[0, 1], [2], [3]]

    async def test_a_message_queued_twice_is_there_once(self, database: Database) -> None:
        changes = ClientChanges(session=make_session("a"), queued=make_queue([make_record(1)]))
        await commit_sessions(database, 1, a=changes)
        await commit_sessions(
            database, 2, a=ClientChanges(queued=make_queue([make_record(1, payload=b"no")], qos=2))
        )
        (message,) = await database.sessions.page(PARTITION, "a", after=0, before=9, limit=9)
        assert (message.record.payload, message.qos) == (b"23.5", 1)

    async def test_a_shared_message_lasts_until_its_last_receiver(self, database: Database) -> None:
        shared = make_record(1)
        await commit_sessions(
            database,
            2,
            a=ClientChanges(session=make_session("a"), queued=make_queue([shared], qos=1)),
            b=ClientChanges(session=make_session("b"), queued=make_queue([shared], qos=2)),
        )
        await commit_sessions(database, 3, a=ClientChanges(dequeued={1: SIZE}))
        assert await queued_offsets(database, "a") == []
        (message,) = await database.sessions.page(PARTITION, "b", after=0, before=9, limit=9)
        assert (message.record, message.qos) == (shared, 2)
        await commit_sessions(database, 4, b=ClientChanges(dequeued={1: SIZE}))
        # Were the message still there, it would win over another one in its place.
        other = make_record(1, payload=b"other")
        await commit_sessions(database, 5, b=ClientChanges(queued=make_queue([other])))
        (message,) = await database.sessions.page(PARTITION, "b", after=0, before=9, limit=9)
        assert message.record == other

    async def test_a_message_may_go_from_one_client_to_another_in_one_commit(
        self, database: Database
    ) -> None:
        record = make_record(1)
        first = ClientChanges(session=make_session("a"), queued=make_queue([record]))
        await commit_sessions(database, 2, a=first)
        await commit_sessions(
            database,
            3,
            a=ClientChanges(dequeued={1: SIZE}),
            b=ClientChanges(session=make_session("b"), queued=make_queue([record])),
        )
        assert await queued_offsets(database, "a") == []
        assert await queued_offsets(database, "b") == [1]

    async def test_an_ended_client_leaves_nothing_and_harms_nobody(
        self, database: Database
    ) -> None:
        def changes(client_id: str) -> ClientChanges:
            return ClientChanges(
                session=make_session(client_id),
                subscriptions={"x": 1},
                queued=make_queue([make_record(1), make_record(2)]),
                open_ids={1: 1},
                in_flight={1: (1, InFlightState.SENT)},
            )

        await commit_sessions(database, 3, a=changes("a"), b=changes("b"))
        before = await load(database, "b")
        await commit_sessions(database, 4, a=ClientChanges(ended=True))
        assert await load(database, "a") is None
        assert await queued_offsets(database, "a") == []
        assert await load(database, "b") == before
        assert await queued_offsets(database, "b") == [1, 2]
        await commit_sessions(database, 5, a=ClientChanges(session=make_session("a")))
        fresh = await load(database, "a")
        assert fresh is not None
        assert (fresh.subscriptions, fresh.open_ids, fresh.in_flight) == ({}, {}, {})
        assert fresh.queued_messages == 0

    async def test_what_is_new_in_the_commit_that_ends_a_client_stays(
        self, database: Database
    ) -> None:
        old = ClientChanges(
            session=make_session("a"), subscriptions={"old": 1}, queued=make_queue([make_record(1)])
        )
        await commit_sessions(database, 2, a=old)
        row = make_session("a", incarnation=2)
        new = ClientChanges(
            ended=True,
            session=row,
            subscriptions={"new": 0},
            queued=make_queue([make_record(2)]),
        )
        await commit_sessions(database, 3, a=new)
        stored = await load(database, "a")
        assert stored is not None
        assert (stored.row, stored.subscriptions) == (row, {"new": 0})
        assert await queued_offsets(database, "a") == [2]

    async def test_a_trim_drops_the_oldest_that_are_not_in_flight(self, database: Database) -> None:
        records = [make_record(i, payload=b"0123456789") for i in range(10)]
        changes = ClientChanges(session=make_session("a"), queued=make_queue(records))
        await commit_sessions(database, 10, a=changes)
        result = await commit_sessions(database, 11, a=ClientChanges(trim=Trim(2, 3, 0)))
        assert result.trimmed == {"a": Trimmed(3, 3 * size_of(records[0]))}
        assert await queued_offsets(database, "a") == [0, 1, 2, 6, 7, 8, 9]

    @pytest.mark.parametrize(
        ("trim", "dropped"),
        [
            (Trim(-1, 0, 0), 0),
            (Trim(-1, 1, 2_500), 3),
            (Trim(-1, 4, 1), 4),
            (Trim(-1, 0, 10**9), 500),
            (Trim(-1, 10**6, 0), 500),
            (Trim(499, 5, 5), 0),
        ],
    )
    async def test_a_trim_drops_no_more_than_makes_the_room(
        self, database: Database, trim: Trim, dropped: int
    ) -> None:
        records = [make_record(i, payload=b"x" * 1_000) for i in range(500)]
        changes = ClientChanges(session=make_session("a"), queued=make_queue(records))
        await commit_sessions(database, 500, a=changes)
        result = await commit_sessions(database, 501, a=ClientChanges(trim=trim))
        assert result.trimmed == {"a": Trimmed(dropped, dropped * size_of(records[0]))}
        assert await queued_offsets(database, "a") == list(range(dropped, 500))

    async def test_a_trim_counts_what_its_commit_queued_and_dequeued(
        self, database: Database
    ) -> None:
        records = [make_record(i) for i in range(4)]
        await commit_sessions(
            database,
            9,
            a=ClientChanges(session=make_session("a"), queued=make_queue(records[:2])),
            b=ClientChanges(session=make_session("b"), queued=make_queue(records)),
        )
        result = await commit_sessions(
            database,
            10,
            a=ClientChanges(
                queued=make_queue(records[2:]), dequeued={0: SIZE}, trim=Trim(-1, 2, 0)
            ),
            b=ClientChanges(trim=Trim(-1, 1, 0)),
        )
        size = size_of(records[0])
        assert result.trimmed == {"a": Trimmed(2, 2 * size), "b": Trimmed(1, size)}
        assert await queued_offsets(database, "a") == [3]
        assert await queued_offsets(database, "b") == [1, 2, 3]

    async def test_client_ids_may_be_any_text(self, database: Database) -> None:
        record = make_record(1)
        await commit_once(
            database,
            Commit(
                upto=2,
                sessions={
                    text: ClientChanges(
                        session=make_session(text),
                        subscriptions={"x": 1},
                        queued=make_queue([record]),
                        open_ids={1: 1},
                        in_flight={1: (1, InFlightState.SENT)},
                    )
                    for text in AWKWARD_TEXTS
                },
            ),
            "sessions",
        )
        for text in AWKWARD_TEXTS:
            stored = await load(database, text)
            assert stored is not None
            assert stored.subscriptions == {"x": 1}
            assert stored.open_ids == {1: 1}
            assert stored.in_flight == {1: (1, InFlightState.SENT)}
            assert await queued_offsets(database, text) == [1]
        ended = {text: ClientChanges(ended=True) for text in AWKWARD_TEXTS}
        await commit_once(database, Commit(upto=3, sessions=ended), "sessions")
        assert await load_all(database) == []

    async def test_many_clients_commit_together(self, database: Database) -> None:
        records = [make_record(i) for i in range(3_000)]
        ids = [f"client-{number}" for number in range(300)]
        await commit_sessions(
            database,
            3_000,
            **{
                client_id: ClientChanges(
                    session=make_session(client_id), queued=make_queue(records[number::300])
                )
                for number, client_id in enumerate(ids)
            },
        )
        await commit_sessions(
            database, 3_001, **{at: ClientChanges(trim=Trim(-1, 1, 0)) for at in ids[:150]}
        )
        totals = {at.row.client_id: at.queued_messages for at in await load_all(database)}
        assert totals == {at: 9 if number < 150 else 10 for number, at in enumerate(ids)}

    async def test_queues_of_partitions_and_generations_are_apart(self, database: Database) -> None:
        others = [PARTITION._replace(number=1), PARTITION._replace(generation="another log")]
        changes = ClientChanges(session=make_session("a"), queued=make_queue([make_record(5)]))
        await commit_sessions(database, 9, a=changes)
        for number, partition in enumerate(others):
            record = make_record(5, f"other/{number}")
            queued = ClientChanges(queued=make_queue([record], qos=2))
            await commit_once(
                database, Commit(upto=9, sessions={"a": queued}), "sessions", partition=partition
            )
        topics = ["plant/1", "other/0", "other/1"]
        for partition, topic in zip([PARTITION, *others], topics, strict=True):
            page = await database.sessions.page(
                partition, "a", after=-1, before=_EVERYTHING, limit=9
            )
            assert [message.record.topic for message in page] == [topic]
        gone = Commit(upto=10, sessions={"a": ClientChanges(dequeued={5: None})})
        await commit_once(database, gone, "sessions", partition=others[0])
        assert await queued_offsets(database, "a") == [5]
        stored = await load(database, "a")
        assert stored is not None
        assert stored.queued_messages == 2

    async def test_queues_are_counted_whatever_is_said_of_their_sizes(
        self, database: Database
    ) -> None:
        records = [make_record(i, payload=b"x" * i) for i in range(10)]
        changes = ClientChanges(session=make_session("a"), queued=make_queue(records))
        await commit_sessions(database, 10, a=changes)
        # One of a known and one of an unknown size, one twice, and one that is not there.
        gone: dict[int, int | None] = {1: size_of(records[1]), 2: None, 77: 1_000}
        await commit_sessions(database, 11, a=ClientChanges(dequeued=gone))
        await commit_sessions(database, 12, a=ClientChanges(dequeued={1: size_of(records[1])}))
        await commit_sessions(database, 12, a=ClientChanges(queued=make_queue(records[3:5])))
        stored = await load(database, "a")
        assert stored is not None
        left = [records[0], *records[3:]]
        assert (stored.queued_messages, stored.queued_size) == (8, sum(map(size_of, left)))

    async def test_a_snapshot_shows_one_moment(self, database: Database) -> None:
        first = {
            f"c{number}": ClientChanges(session=make_session(f"c{number}")) for number in range(50)
        }
        await commit_sessions(database, 7, **first)
        async with database.sessions.load(PARTITION) as snapshot:
            pages = snapshot.pages()
            found = [*await anext(pages)]
            second = {at: ClientChanges(subscriptions={"late": 1}) for at in first}
            await commit_sessions(
                database, 8, **second, late=ClientChanges(session=make_session("late"))
            )
            found += [session async for page in pages for session in page]
            assert snapshot.marks["sessions"].reflected == 7
        assert sorted(at.row.client_id for at in found) == sorted(first)
        assert not any(at.subscriptions for at in found)

    async def test_many_sessions_come_by_the_page(self, database: Database) -> None:
        clients = {
            f"c{number:05}": ClientChanges(
                session=make_session(f"c{number:05}"),
                subscriptions={f"{number}/{i}": 1 for i in range(3)},
            )
            for number in range(5_000)
        }
        await commit_sessions(database, 1, **clients)
        found = await load_all(database)
        assert {at.row.client_id: at.subscriptions for at in found} == {
            client_id: changes.subscriptions for client_id, changes in clients.items()
        }
