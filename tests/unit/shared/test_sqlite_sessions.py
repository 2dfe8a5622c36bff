"""Sessions in SQLite beyond the contract: pages are bounded, and queues are counted exactly."""

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from monstermq_shared.records import size_of
from monstermq_shared.stores.changes import ClientChanges, Commit, Trim
from monstermq_shared.stores.sqlite import SqliteDatabase, session_snapshot
from monstermq_shared.testing.builders import (
    PARTITION,
    commit_once,
    make_queue,
    make_record,
    make_session,
)
from monstermq_shared.testing.session_store_contract import load_all

CLIENTS = ["a", "b", "c", "d"]
PARTITIONS = [PARTITION, PARTITION._replace(number=1), PARTITION._replace(generation="another")]


def count_queues(path: Path) -> dict[str, tuple[int, int]]:
    """Return what is in the queue of each client."""
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT client_id, count(*), sum(size) FROM queuedmessagesclients GROUP BY 1"
        return {client_id: (count, size) for client_id, count, size in connection.execute(query)}


def random_changes(prng: random.Random) -> ClientChanges:
    """Make changes as an engine makes them, and such as only a replay makes."""
    records = [make_record(at, payload=bytes(at)) for at in prng.sample(range(60), 8)]
    gone = [make_record(at, payload=bytes(at)) for at in prng.sample(range(60), prng.randrange(8))]
    ended = prng.random() < 0.1
    return ClientChanges(
        ended=ended,
        session=make_session("") if ended else None,
        queued=make_queue(records[: prng.randrange(8)], qos=prng.randrange(3)),
        dequeued={at.offset: prng.choice([None, size_of(at)]) for at in gone},
        trim=Trim(prng.randrange(60), prng.randrange(4), 0) if prng.random() < 0.3 else None,
    )


@pytest.mark.parametrize("seed", range(5))
async def test_queues_are_counted_exactly_whatever_happens(
    database: SqliteDatabase, path: Path, seed: int
) -> None:
    prng = random.Random(seed)
    sessions = {name: ClientChanges(session=make_session(name)) for name in CLIENTS}
    await commit_once(database, Commit(upto=1, sessions=sessions), "sessions")
    tenures = [await database.begin(partition, ["sessions"]) for partition in PARTITIONS]
    for upto in range(60):
        changes = {name: random_changes(prng) for name in prng.sample(CLIENTS, 3)}
        for name, change in changes.items():
            if change.session is not None:
                change.session.client_id = name
        await database.commit(prng.choice(tenures), Commit(upto=upto, sessions=changes))
        found = {
            at.row.client_id: (at.queued_messages, at.queued_size)
            for at in await load_all(database)
        }
        assert found == {name: count_queues(path).get(name, (0, 0)) for name in CLIENTS}


async def test_a_page_has_no_more_rows_than_it_may_but_for_one_session(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_snapshot, "_ROWS_MAX", 50)
    monkeypatch.setattr(session_snapshot, "_SESSIONS_MAX", 20)
    counts = {f"c{number:03}": 200 if number == 30 else number % 17 for number in range(100)}
    sessions = {
        name: ClientChanges(
            session=make_session(name), subscriptions={f"t/{at}": 1 for at in range(count)}
        )
        for name, count in counts.items()
    }
    await commit_once(database, Commit(upto=1, sessions=sessions), "sessions")
    async with database.sessions.load(PARTITION) as snapshot:
        pages = [page async for page in snapshot.pages()]
    for page in pages:
        rows = sum(len(at.subscriptions) for at in page)
        assert len(page) <= 20
        assert rows <= 50 or (len(page) == 1 and rows == 200)
    assert [(at.row.client_id, len(at.subscriptions)) for page in pages for at in page] == list(
        counts.items()
    )
    assert len(pages) < 50
