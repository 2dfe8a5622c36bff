"""What is in PostgreSQL's tables, for those who read them with SQL, and what they must endure."""

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import count

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.postgres import ROLE, PostgresServer
from tests.support.postgres_database import connected, open_database

from monstermq_shared.messages import Will
from monstermq_shared.records import Record, size_of
from monstermq_shared.stores.changes import ClientChanges, Commit, InFlightState
from monstermq_shared.stores.postgres import rows, writer
from monstermq_shared.stores.postgres.connection import Connection
from monstermq_shared.stores.postgres.database import PostgresDatabase
from monstermq_shared.testing.builders import (
    ARCHIVE,
    NOON_MS,
    PARTITION,
    RETAINED,
    commit_archive,
    commit_messages,
    commit_once,
    commit_sessions,
    make_queue,
    make_record,
    make_session,
)

pytestmark = pytest.mark.integration

BOUND_S = 30.0

# Whether a transaction waits for the end of another one.
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"

LONG = "\U0001f600" * 15_000
"""60,000 bytes."""


@pytest.fixture
async def database(postgres_schema: str) -> AsyncIterator[PostgresDatabase]:
    database = await open_database(postgres_schema)
    yield database
    await database.close()


@pytest.fixture
async def sql(postgres_schema: str) -> AsyncIterator[Connection]:
    async with connected(postgres_schema) as connection:
        yield connection


async def commit_everywhere(database: PostgresDatabase, *records: Record) -> None:
    """Commit the records to the archive, the message store and somebody's queue."""
    changes = ClientChanges(session=make_session("a"), queued=make_queue(records))
    commit = Commit(
        upto=max(record.offset for record in records) + 1,
        messages={RETAINED: {record.topic: record for record in records}},
        archives={ARCHIVE: records},
        sessions={"a": changes},
    )
    await commit_once(database, commit, "all")


async def only_row(sql: Connection, query: str, *parameters: object) -> asyncpg.Record:
    (row,) = await sql.fetch(query, *parameters)
    return row


@pytest.mark.parametrize("table", ["mcparchive", "retainedmessages"])
async def test_the_columns_of_a_record(
    database: PostgresDatabase, sql: Connection, table: str
) -> None:
    record = Record("plant/1", b'{"value": 23.5}', 1, True, "press", NOON_MS + 7, 2**41)
    await commit_everywhere(database, record)
    row = await only_row(sql, f"SELECT *, extract(epoch FROM time) AS at FROM {table}")
    assert {
        name: row[name] for name in ("topic", "payload_blob", "payload", "qos", "retained")
    } == {
        "topic": "plant/1",
        "payload_blob": b'{"value": 23.5}',
        "payload": '{"value": 23.5}',
        "qos": 1,
        "retained": True,
    }
    assert (row["client_id"], row["message_uuid"]) == ("press", record.id)
    assert (row["partition"], row["position"]) == (0, 2**41)
    assert float(row["at"]) == (NOON_MS + 7) / 1000
    assert json.loads(row["payload_json"]) == {"value": 23.5}
    generation = await sql.fetchval(
        "SELECT generation FROM generations WHERE number = $1", row["generation"]
    )
    assert generation == PARTITION.generation


async def test_the_readme_can_calculate_with_payloads(
    database: PostgresDatabase, sql: Connection
) -> None:
    records = [make_record(i, payload=str(i).encode()) for i in range(1, 5)]
    await commit_archive(database, *records)
    assert await sql.fetchval("SELECT avg(payload::float) FROM mcparchive") == 2.5


@pytest.mark.parametrize(
    ("topic", "levels", "rest", "last"),
    [
        ("a", ["a"], [], "a"),
        ("a//c/", ["a", "", "c", ""], [], ""),
        ("/", ["", ""], [], ""),
        ("1/2/3/4/5/6/7/8/9", [*"123456789"], [], "9"),
        (
            "1/2/3/4/5/6/7/8/9/\u00e4/\U0001f600",
            [*"123456789"],
            ["\u00e4", "\U0001f600"],
            "\U0001f600",
        ),
        ("a/" + "l" * 60_000, ["a", "l" * 60_000], [], "l" * 60_000),
        ("l" * 60_000 + "/a", ["l" * 60_000, "a"], [], "a"),
        ("/" * 60_000, [""] * 9, [""] * 59_992, ""),
    ],
    ids=["one", "empty", "slash", "nine", "eleven", "long last", "long first", "slashes"],
)
async def test_the_levels_of_a_topic(
    database: PostgresDatabase,
    sql: Connection,
    topic: str,
    levels: list[str],
    rest: list[str],
    last: str,
) -> None:
    await commit_messages(database, make_record(1, topic))
    row = await only_row(sql, "SELECT * FROM retainedmessages")
    assert [row[f"topic_{number}"] for number in range(1, 10)] == (levels + [""] * 9)[:9]
    assert (row["topic_r"], row["topic_l"]) == (rest, last)


NESTED = 6_000
PAYLOADS = {
    "empty": (b"", "", None),
    "number": (b"23.5", "23.5", 23.5),
    "text": (b"23.5 degrees", "23.5 degrees", None),
    "text with e1234": (b'"device1234"', '"device1234"', "device1234"),
    "digest": (b'{"sha": "5e123456"}', '{"sha": "5e123456"}', {"sha": "5e123456"}),
    "padded": (b" \n[1]\t", " \n[1]\t", [1]),
    "NUL in JSON": (b'{"a": "b\\u0000c"}', '{"a": "b\\u0000c"}', None),
    "NUL": (b"a\0b", None, None),
    "NUL after JSON": (b"[1]\0", None, None),
    "not UTF-8": (b'"\xff\xfe"', None, None),
    "half a surrogate": (b'"\\ud83d"', '"\\ud83d"', None),
    "surrogates in UTF-8": (b'"\xed\xa0\xbd"', None, None),
    "emoji": ('"\U0001f600"'.encode(), '"\U0001f600"', "\U0001f600"),
    "too large a number": (b"1e400000", "1e400000", None),
    "byte order mark": (b"\xef\xbb\xbf{}", "\ufeff{}", None),
    "NaN": (b"NaN", "NaN", None),
    "half an object": (b'{"a": ', '{"a": ', None),
    "500 levels": (b"[" * 500 + b"]" * 500, "[" * 500 + "]" * 500, ...),
    "very deep": (b"[" * NESTED + b"]" * NESTED, "[" * NESTED + "]" * NESTED, ...),
    "endless": (b"[" * 2_000_000, "[" * 2_000_000, None),
    "200,000 digits": (b"1" * 200_000, "1" * 200_000, None),
}


@pytest.mark.parametrize(("payload", "text", "value"), PAYLOADS.values(), ids=PAYLOADS)
async def test_what_a_payload_says(
    database: PostgresDatabase, sql: Connection, payload: bytes, text: str | None, value: object
) -> None:
    neighbours = [make_record(1, "before", b"[1]"), make_record(3, "after", b"[3]")]
    await commit_everywhere(database, make_record(2, payload=payload), *neighbours)
    for table in ("mcparchive", "retainedmessages"):
        found = await sql.fetch(f"SELECT payload_json FROM {table} WHERE topic <> 'plant/1'")
        assert sorted(row["payload_json"] for row in found) == ["[1]", "[3]"]
        row = await only_row(sql, f"SELECT * FROM {table} WHERE topic = 'plant/1'")
        assert row["payload_blob"] == payload
        assert row["payload"] == text
        if value is ...:  # more than Python's own parser takes
            assert row["payload_json"] == text
        else:
            assert (
                None if row["payload_json"] is None else json.loads(row["payload_json"])
            ) == value


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.usefixtures("database")
async def test_what_a_payload_says_is_no_matter_of_settings(sql: Connection) -> None:
    await sql.execute("SET standard_conforming_strings = off")
    said = "SELECT monstermq_json(convert_to($1, 'UTF8'))"
    assert await sql.fetchval(said, '{"a": 1}') == '{"a": 1}'
    assert await sql.fetchval(said, "above") is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(
    payloads=st.lists(
        st.binary()
        | st.text().map(str.encode)
        | _JSON.map(lambda value: json.dumps(value).encode()),
        min_size=1,
        max_size=20,
    )
)
async def test_no_payload_fails_a_batch(
    database: PostgresDatabase, sql: Connection, offsets: "count[int]", payloads: list[bytes]
) -> None:
    records = [make_record(next(offsets), f"p/{i}", at) for i, at in enumerate(payloads)]
    await commit_everywhere(database, *records)
    for table in ("mcparchive", "retainedmessages"):
        found = await sql.fetch(
            f"SELECT payload_blob, payload FROM {table} WHERE position >= $1 ORDER BY position",
            records[0].offset,
        )
        assert [tuple(row) for row in found] == [(at, _as_text(at)) for at in payloads]


@pytest.fixture
def offsets() -> "count[int]":
    """Offsets that go on from one example of a property to the next."""
    return count(1)


def _as_text(payload: bytes) -> str | None:
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


async def test_long_texts_that_begin_alike_are_told_apart(database: PostgresDatabase) -> None:
    topics = [f"{LONG}/{number}" for number in range(30)]
    records = [make_record(i, topic) for i, topic in enumerate(topics)]
    for record in records:
        record.client_id = LONG
    await commit_everywhere(database, *records)
    for record in records[::7]:
        assert await database.archive_store(ARCHIVE).history(record.topic) == [record]
        assert await database.message_store(RETAINED).get(record.topic) == record
    found = await database.message_store(RETAINED).find(
        f"{LONG}/+", after=topics[1], limit=5, size_max=10**9
    )
    assert [record.topic for record in found] == sorted(topics)[2:7]


async def test_long_names_of_clients_and_filters(
    database: PostgresDatabase, sql: Connection
) -> None:
    names = [LONG + "a", LONG + "b"]
    changes = {
        name: ClientChanges(
            session=make_session(name, will=Will(topic=LONG, payload=b"\0", qos=1, retain=False)),
            subscriptions={f"{LONG}/+/{number}": number for number in range(3)},
            queued=make_queue([make_record(1), make_record(2)]),
            open_ids={1: 1},
            in_flight={2: (2, InFlightState.SENT)},
        )
        for name in names
    }
    await commit_sessions(database, 3, **changes)
    ended = {names[0]: ClientChanges(ended=True)}
    await commit_sessions(database, 4, **ended)
    async with database.sessions.load(PARTITION) as snapshot:
        (found,) = [session async for page in snapshot.pages() for session in page]
    assert found.row == changes[names[1]].session
    assert found.subscriptions == changes[names[1]].subscriptions
    assert (found.open_ids, found.queued_messages) == ({1: 1}, 2)
    assert len(await database.sessions.page(PARTITION, names[1], after=0, before=9, limit=9)) == 2
    assert await sql.fetchval("SELECT count(*) FROM subscriptions") == 3


@pytest.mark.parametrize(
    ("topic_filter", "levels", "wildcard"),
    [("a/b", ["a", "b"], False), ("a/+//#", ["a", "+", "", "#"], True), ("#", ["#"], True)],
)
async def test_a_filter_is_an_array_as_in_the_original(
    database: PostgresDatabase,
    sql: Connection,
    topic_filter: str,
    levels: list[str],
    wildcard: bool,
) -> None:
    changes = ClientChanges(session=make_session("a"), subscriptions={topic_filter: 1})
    await commit_sessions(database, 1, a=changes)
    row = await only_row(sql, "SELECT client_id, topic, wildcard FROM subscriptions")
    assert tuple(row) == ("a", levels, wildcard)


async def test_an_id_that_is_no_uuid_does_no_harm(
    database: PostgresDatabase, sql: Connection
) -> None:
    record = Record("a", b"", 0, False, "c", NOON_MS, 1, "\u00e4" * 100)
    await commit_everywhere(database, record)
    for table in ("mcparchive", "retainedmessages", "queuedmessages"):
        assert await sql.fetchval(f"SELECT message_uuid FROM {table}") == "\u00e4" * 36


async def check_many_messages(database: PostgresDatabase) -> None:
    """Commit more messages than one statement carries, and then older, newer and other ones."""
    first = [make_record(10_000 + i, f"a/{i:04}") for i in range(1_200)]
    older = [make_record(i, f"a/{i:04}", b"older") for i in range(400)]
    newer = [make_record(20_000 + i, f"a/{i:04}", b"newer") for i in range(400, 800)]
    other = [make_record(30_000 + i, f"b/{i:04}", b"other") for i in range(400)]
    await commit_messages(database, *first)
    await commit_messages(database, *older, *newer, *other)
    found = await database.message_store(RETAINED).find("#", after="", limit=5_000)
    assert found == [*first[:400], *newer, *first[800:], *other]
    moved = [make_record(i, f"a/{i:04}", b"moved") for i in range(1_200)]
    await commit_messages(database, *moved, partition=PARTITION._replace(number=1))
    found = await database.message_store(RETAINED).find("a/#", after="", limit=5_000)
    assert found == moved


async def test_many_messages_replace_older_ones_only(database: PostgresDatabase) -> None:
    await check_many_messages(database)


async def test_no_temporary_table_stays_for_months(
    database: PostgresDatabase, sql: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No vacuum may freeze it, and the server runs out of transaction numbers."""
    temporary = "SELECT count(*) FROM pg_class WHERE relpersistence = 't' AND relkind = 'r'"
    await check_many_messages(database)
    assert await sql.fetchval(temporary) == 1
    monkeypatch.setattr(writer, "CLEAR_S", 0.0)
    await database._writers[0].ping()
    assert await sql.fetchval(temporary) == 0
    await commit_messages(database, *(make_record(50_000 + i, f"c/{i}") for i in range(600)))
    assert len(await database.message_store(RETAINED).find("c/#", after="", limit=700)) == 600


@pytest.mark.parametrize("many", [1, 1_200])
async def test_what_is_purged_while_it_is_replaced_is_there(
    database: PostgresDatabase, sql: Connection, many: int
) -> None:
    await commit_messages(database, *(make_record(i, f"a/{i:04}", b"old") for i in range(many)))
    new = [make_record(10_000 + i, f"a/{i:04}", b"new") for i in range(many)]
    purge = sql.transaction()
    await purge.start()
    await sql.execute("DELETE FROM retainedmessages")
    task = asyncio.create_task(commit_messages(database, *new))
    async with asyncio.timeout(BOUND_S):
        while not await sql.fetchval(WAITING):
            pass
        await purge.commit()
        await task
    assert await database.message_store(RETAINED).find("#", after="", limit=5_000) == new


async def test_many_messages_need_no_right_to_temporary_tables(
    postgres_server: PostgresServer, postgres_database: str
) -> None:
    name = postgres_database.rpartition("/")[2]
    postgres_server.psql(f'REVOKE TEMPORARY ON DATABASE "{name}" FROM PUBLIC, "{ROLE}"')
    database = await open_database(postgres_database)
    await check_many_messages(database)
    await database.close()


async def test_messages_that_come_with_several_commits_are_queued_once(
    database: PostgresDatabase, sql: Connection
) -> None:
    """One that is for thousands of clients; they are counted right all the same."""
    shared = make_record(5, payload=b"x" * 100)
    for name in "abc":
        queued = make_queue([shared, make_record(5 + ord(name))])
        changes = ClientChanges(session=make_session(name), queued=queued)
        await commit_sessions(database, 1, **{name: changes})
    counted = await sql.fetch("SELECT queued_messages, queued_size FROM sessions")
    size = size_of(shared) + size_of(make_record(1))
    assert [tuple(row) for row in counted] == [(2, size)] * 3
    assert await sql.fetchval("SELECT count(*) FROM queuedmessages") == 4


async def test_what_is_queued_for_nobody_leaves_nothing(
    database: PostgresDatabase, sql: Connection
) -> None:
    changes = ClientChanges(queued=make_queue([make_record(1), make_record(2)]))
    await commit_sessions(database, 3, nobody=changes, a=ClientChanges(session=make_session("a")))
    for table in ("queuedmessages", "queuedmessagesclients"):
        assert await sql.fetchval(f"SELECT count(*) FROM {table}") == 0


async def test_a_client_with_a_long_queue_ends(database: PostgresDatabase, sql: Connection) -> None:
    """In several statements, and what others wait for stays."""
    records = [make_record(i) for i in range(25_000)]
    await commit_sessions(
        database,
        25_000,
        a=ClientChanges(session=make_session("a"), queued=make_queue(records)),
        b=ClientChanges(session=make_session("b"), queued=make_queue(records[::5_000])),
    )
    await commit_sessions(database, 25_001, a=ClientChanges(ended=True))
    offsets = await sql.fetch("SELECT position FROM queuedmessages ORDER BY position")
    assert [row["position"] for row in offsets] == [*range(0, 25_000, 5_000)]
    assert await sql.fetchval("SELECT count(*) FROM queuedmessagesclients") == 5


async def test_a_row_that_makes_no_sense_stops_the_load(
    database: PostgresDatabase, sql: Connection
) -> None:
    changes = ClientChanges(session=make_session("a"), in_flight={1: (1, InFlightState.SENT)})
    await commit_sessions(database, 1, a=changes)
    await sql.execute("UPDATE inflight SET state = 9")
    with pytest.raises(Exception, match="cannot be understood"):
        async with database.sessions.load(PARTITION) as snapshot:
            [page async for page in snapshot.pages()]


async def test_rows_of_unknown_clients_are_ignored(
    database: PostgresDatabase, sql: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    changes = {
        name: ClientChanges(session=make_session(name), subscriptions={"x": 1}) for name in "abc"
    }
    await commit_sessions(database, 1, **changes)
    middle = sorted("abc", key=rows.digest)[1]
    await sql.execute("DELETE FROM sessions WHERE client_id = $1", middle)
    async with database.sessions.load(PARTITION) as snapshot:
        loaded = [session async for page in snapshot.pages() for session in page]
    assert {session.row.client_id for session in loaded} == set("abc") - {middle}
    assert "1 rows of clients that have no row in sessions" in caplog.text


async def test_many_topics_are_counted_by_estimate(
    database: PostgresDatabase, sql: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monstermq_shared.stores.postgres.messages._EXACT_COUNT_MAX", 100)
    await commit_messages(database, *(make_record(i, f"a/{i}") for i in range(3_000)))
    store = database.message_store(RETAINED)
    assert await store.count() == 101
    await sql.execute("ANALYZE retainedmessages")
    assert await store.count() == 3_000


async def test_times_beyond_all_bounds_find_what_there_is(database: PostgresDatabase) -> None:
    await commit_archive(database, make_record(1))
    archive = database.archive_store(ARCHIVE)
    assert len(await archive.history("plant/1", start_ms=-(10**18), end_ms=10**18)) == 1
    assert await archive.history("plant/1", start_ms=10**18) == []
    assert await archive.history("plant/1", limit=10**18, size_max=1) != []
    assert await archive.purge(before_ms=-(10**18), limit=5) == 0
