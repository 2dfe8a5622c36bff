"""Rows about PostgreSQL: our commits beside the server's own limit, and the broker on it."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from functools import partial
from typing import Self, TypeAlias

import asyncpg
import uvloop
from tests.bench import by_hand
from tests.bench.brokers import Profile
from tests.bench.model import Bound, Component, Effort, Metric, Outcome, Scenario
from tests.bench.scenarios_durable import default_scenario, offline_scenario
from tests.bench.stored import (
    garbage_as_in_the_broker,
    make_records,
    parts,
    queue_commit,
    shuffled_topics,
)
from tests.support.postgres import PostgresServer

from monstermq_shared.bus.backlog import Backlog, BacklogReader
from monstermq_shared.config import ArchiveGroup, BrokerConfig, Postgres, StoreType
from monstermq_shared.records import Record
from monstermq_shared.stores.changes import ClientChanges, Commit, Tenure
from monstermq_shared.stores.ports import Database
from monstermq_shared.stores.registry import open_database
from monstermq_shared.testing.builders import PARTITION, commit_once, make_session
from monstermq_shared.views.catalogue import Catalogue
from monstermq_shared.views.follower import Follower
from monstermq_shared.views.view_set import ViewSet

TOPICS = 50
CLIENTS = 50
SHOWN_ROWS = 1_000
"""Records that a follower is shown at once, as from a turn of the broker's loop."""
COMMIT_ROWS = 4_000

LIMIT = "of the limit"
"""The unit of shares of what the server can do."""

Figures: TypeAlias = dict[str, tuple[float, float]]
"""What was written -> the seconds we took for it, and those by hand."""


def archive_config(url: str) -> BrokerConfig:
    """Only the archive of a group is in PostgreSQL."""
    group = ArchiveGroup(name="MCP", topic_filter=("#",), archive_type=StoreType.POSTGRES)
    return BrokerConfig(
        session_store_type=StoreType.SQLITE,
        archive_groups=(group,),
        postgres=Postgres(url=url),
    )


def _retained_config(url: str) -> BrokerConfig:
    return BrokerConfig(
        session_store_type=StoreType.SQLITE,
        retained_store_type=StoreType.POSTGRES,
        postgres=Postgres(url=url),
    )


def _sessions_config(url: str) -> BrokerConfig:
    return BrokerConfig(session_store_type=StoreType.POSTGRES, postgres=Postgres(url=url))


@asynccontextmanager
async def _opened(
    server: PostgresServer, config: Callable[[str], BrokerConfig]
) -> AsyncIterator[tuple[Database, BrokerConfig, asyncpg.Connection]]:
    """A database of its own, as the broker opens it, and a connection for working by hand."""
    url = server.url(server.create_database())
    chosen = config(url)
    needed = Catalogue(chosen).needed(StoreType.POSTGRES)
    database = await open_database(StoreType.POSTGRES, chosen, needed)
    try:
        connection = await asyncpg.connect(url)
        try:
            yield database, chosen, connection
        finally:
            await connection.close()
    finally:
        await database.close()


class _Followed:
    """Views in a database, and a follower that brings them what it is shown."""

    def __init__(self, database: Database, views: ViewSet, tenure: Tenure) -> None:
        self._database = database
        self._views = views
        self._tenure = tenure

    @classmethod
    async def begin(cls, database: Database, config: BrokerConfig) -> Self:
        views = ViewSet.of(Catalogue(config), StoreType.POSTGRES)
        return cls(database, views, await database.begin(PARTITION, views.names))

    async def write(self, records: Sequence[Record]) -> float:
        """Show it records; return the seconds until they are committed."""
        backlog = Backlog("the bench", 2**62, self._views.select)
        end = records[-1].offset + 1

        def committed(upto: int) -> None:
            backlog.committed(upto)
            if upto >= end:
                backlog.close()

        reader = BacklogReader(backlog, 0, b"thebench")
        follower = Follower(
            "the bench", self._database, self._tenure, self._views, reader, committed
        )
        with garbage_as_in_the_broker():
            began = time.perf_counter()
            for part in parts(records, SHOWN_ROWS):
                backlog.show(part, part[-1].offset + 1)
            await follower.run()
            return time.perf_counter() - began


class _Queues:
    """Sessions that are away, and commits that queue messages for them, one receiver each."""

    def __init__(self, database: Database, tenure: Tenure, names: Sequence[str]) -> None:
        self._database = database
        self._tenure = tenure
        self._names = names

    @classmethod
    async def begin(cls, database: Database, names: Sequence[str]) -> Self:
        sessions = {name: ClientChanges(session=make_session(name)) for name in names}
        await commit_once(database, Commit(upto=1, sessions=sessions), "sessions")
        return cls(database, await database.begin(PARTITION, ["sessions"]), names)

    async def write(self, records: Sequence[Record]) -> float:
        """Queue records; return the seconds of the commits."""
        commits = [queue_commit(part, self._names) for part in parts(records, COMMIT_ROWS)]
        with garbage_as_in_the_broker():
            began = time.perf_counter()
            for commit in commits:
                await self._database.commit(self._tenure, commit)
            return time.perf_counter() - began


Write: TypeAlias = Callable[[Sequence[Record]], Awaitable[float]]
ByHand: TypeAlias = Callable[[asyncpg.Connection, Mapping[str, bytes]], Awaitable[float]]


class _Beside:
    """The same rows written by us, and by hand into another database, some at a time in turn.

    So what the machine does meanwhile hits both.
    """

    def __init__(self, ours: asyncpg.Connection, twin: asyncpg.Connection) -> None:
        self._ours = ours
        self._twin = twin

    async def measure(
        self, records: Sequence[Record], tables: Sequence[str], write: Write, by: ByHand
    ) -> tuple[float, float]:
        """Return the seconds it took us, and those by hand."""
        ours_s = by_hand_s = 0.0
        for part in parts(records, by_hand.PART_ROWS):
            ours_s += await write(part)
            first, last = part[0].offset, part[-1].offset
            rows = {at: await by_hand.take_out(self._ours, at, first, last) for at in tables}
            by_hand_s += await by(self._twin, rows)
        for connection in (self._ours, self._twin):
            for table in tables:
                found = await connection.fetchval(f"SELECT count(*) FROM {table}")
                if found != len(records):
                    raise ValueError(f"{found} rows in {table}, {len(records)} expected")
        return ours_s, by_hand_s


async def measure_archive(server: PostgresServer, count: int) -> Figures:
    """Rows of an archive, through its follower."""
    topics = [f"plant/line{number}/value" for number in range(TOPICS)]
    async with (
        _opened(server, archive_config) as (database, config, ours),
        _opened(server, archive_config) as (_, _, twin),
    ):
        followed = await _Followed.begin(database, config)
        beside = _Beside(ours, twin)
        records = make_records(count, topics)
        tables = ["mcparchive"]
        return {"archive": await beside.measure(records, tables, followed.write, by_hand.put_in)}


async def measure_retained(server: PostgresServer, count: int) -> Figures:
    """Retained messages of distinct topics, through their follower: once, and once more."""
    rounds = {
        "first": (make_records(count, shuffled_topics(count)), by_hand.insert),
        "again": (
            make_records(count, shuffled_topics(count, seed=2), first=count),
            by_hand.replace,
        ),
    }
    async with (
        _opened(server, _retained_config) as (database, config, ours),
        _opened(server, _retained_config) as (_, _, twin),
    ):
        followed = await _Followed.begin(database, config)
        beside = _Beside(ours, twin)
        tables = ["retainedmessages"]
        return {
            name: await beside.measure(records, tables, followed.write, by)
            for name, (records, by) in rounds.items()
        }


async def measure_queue(server: PostgresServer, count: int) -> Figures:
    """Messages to sessions that are away, through commits."""
    names = [f"client-{number}" for number in range(CLIENTS)]
    async with (
        _opened(server, _sessions_config) as (database, _, ours),
        _opened(server, _sessions_config) as (_, _, twin),
    ):
        queues = await _Queues.begin(database, names)
        beside = _Beside(ours, twin)
        records = make_records(count, [f"queue/{name}" for name in names])
        tables = ["queuedmessages", "queuedmessagesclients"]
        return {"queue": await beside.measure(records, tables, queues.write, by_hand.put_in)}


def run_component(
    effort: Effort, measure: Callable[[PostgresServer, int], Awaitable[Figures]]
) -> Outcome:
    """Measure on a server of its own, with the event loop that the broker uses."""

    async def run(server: PostgresServer) -> Figures:
        return await measure(server, effort.stored_rows)

    with closing(PostgresServer()) as server:
        figures = uvloop.run(run(server.start()))
    outcome = Outcome(figures={})
    for name, (ours_s, limit_s) in figures.items():
        outcome.figures[name] = effort.stored_rows / ours_s
        outcome.figures[f"{name}-limit"] = effort.stored_rows / limit_s
        outcome.figures[f"{name}-share"] = limit_s / ours_s
    return outcome


def _metrics(name: str, title: str) -> tuple[Metric, ...]:
    return (
        Metric(name=name, title=f"PostgreSQL: {title}", unit="/s"),
        Metric(name=f"{name}-limit", title="the server's limit for the same rows", unit="/s"),
        Metric(
            name=f"{name}-share",
            title=f"PostgreSQL: {title}: share of that",
            unit=LIMIT,
            required=Bound(0.6),
            aim=Bound(0.85),
        ),
    )


def _default_scenario(qos: int) -> Scenario:
    return default_scenario(
        "postgres-default",
        "everything in PostgreSQL",
        qos,
        (Bound(12_000), Bound(25_000)),
        "sessions, archive and last value over # in PostgreSQL",
        Profile.POSTGRES_DEFAULT,
    )


SCENARIOS = (
    Component(
        name="postgres-archive",
        metrics=_metrics("archive", "archive rows"),
        run=partial(run_component, measure=measure_archive),
        configuration="through the follower; no clients",
    ),
    Component(
        name="postgres-retained",
        metrics=(
            *_metrics("first", "200,000 retained topics"),
            *_metrics("again", "the same topics once more"),
        ),
        run=partial(run_component, measure=measure_retained),
        configuration="through the follower; no clients",
    ),
    Component(
        name="postgres-queue",
        metrics=_metrics("queue", "rows of queues"),
        run=partial(run_component, measure=measure_queue),
        configuration="commits of 4,000 messages to 50 sessions; no clients",
    ),
    offline_scenario(
        "postgres-offline",
        "PostgreSQL: QoS 1 into an offline persistent session, 50 publishers",
        (Bound(12_000), Bound(25_000)),
        "PostgreSQL, durable before PUBACK, window 20",
        Profile.POSTGRES,
    ),
    _default_scenario(0),
    _default_scenario(1),
)
