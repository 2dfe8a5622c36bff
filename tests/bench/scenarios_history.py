"""Rows about reading an archive: the newest records of a topic, among many of many topics."""

import asyncio
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path

import uvloop
from tests.bench.model import Bound, Component, Effort, Metric, Outcome
from tests.bench.stored import make_records
from tests.support.postgres import PostgresServer

from monstermq_shared.config import ArchiveGroup, BrokerConfig, Postgres, SQLite, StoreType
from monstermq_shared.records import Record
from monstermq_shared.stores.changes import Commit
from monstermq_shared.stores.ports import ArchiveReader, Database
from monstermq_shared.stores.registry import open_database
from monstermq_shared.testing.builders import PARTITION
from monstermq_shared.views.catalogue import Catalogue

ARCHIVE = "MCPArchive"
NEWEST = 1_000
TOPICS_ASKED = 20
READS = 5
"""Of each topic, after one that does not count: what is read often is in memory."""
COMMIT_ROWS = 5_000


def run_postgres(effort: Effort) -> Outcome:
    """Measure on a server of its own, vacuumed as it would do itself after a while."""
    with closing(PostgresServer()) as server:
        name = server.start().create_database()

        async def settle() -> None:
            await asyncio.to_thread(server.psql, "VACUUM ANALYZE", database=name)

        config = _config(StoreType.POSTGRES, postgres=Postgres(url=server.url(name)))
        return uvloop.run(_measure(StoreType.POSTGRES, config, effort, settle))


def run_sqlite(effort: Effort) -> Outcome:
    """Measure on a file of its own."""

    async def settle() -> None:
        """Nothing is left to be done."""

    with tempfile.TemporaryDirectory(prefix="bench-history-") as folder:
        path = str(Path(folder) / "history.db")
        config = _config(StoreType.SQLITE, sqlite=SQLite(path=path, min_free_mb=0))
        return uvloop.run(_measure(StoreType.SQLITE, config, effort, settle))


def _config(
    store_type: StoreType, *, postgres: Postgres | None = None, sqlite: SQLite | None = None
) -> BrokerConfig:
    return BrokerConfig(
        session_store_type=store_type,
        archive_groups=(ArchiveGroup(name="MCP", topic_filter=("#",), archive_type=store_type),),
        postgres=postgres or Postgres(),
        sqlite=sqlite or SQLite(),
    )


async def _measure(
    store_type: StoreType,
    config: BrokerConfig,
    effort: Effort,
    settle: Callable[[], Awaitable[None]],
) -> Outcome:
    chooser = random.Random(1)
    topics = [f"plant/site{n % 100}/device{n}/value" for n in range(effort.history_topics)]
    database = await open_database(store_type, config, Catalogue(config).needed(store_type))
    try:
        counts = await _fill(database, _interleaved(effort.history_rows, topics, chooser))
        await settle()
        asked = chooser.sample(topics, min(TOPICS_ASKED, len(topics)))
        return await _read(database.archive_store(ARCHIVE), {at: counts[at] for at in asked})
    finally:
        await database.close()


async def _fill(database: Database, batches: Iterator[list[Record]]) -> Counter[str]:
    """Commit the records; return how many each topic has."""
    tenure = await database.begin(PARTITION, ["archive"])
    counts: Counter[str] = Counter()
    for records in batches:
        counts.update(record.topic for record in records)
        commit = Commit(upto=records[-1].offset + 1, archives={ARCHIVE: records})
        await database.commit(tenure, commit)
    return counts


async def _read(archive: ArchiveReader, counts: dict[str, int]) -> Outcome:
    seconds: list[float] = []
    problems: list[str] = []
    for topic, count in counts.items():
        problems += _problems(topic, await archive.history(topic, limit=NEWEST), count)
        for _ in range(READS):
            began = time.perf_counter()
            await archive.history(topic, limit=NEWEST)
            seconds.append(time.perf_counter() - began)
    return Outcome(figures={"read": statistics.median(seconds) * 1000}, problems=problems)


def _interleaved(count: int, topics: list[str], chooser: random.Random) -> Iterator[list[Record]]:
    for first in range(0, count, COMMIT_ROWS):
        size = min(COMMIT_ROWS, count - first)
        yield make_records(size, chooser.choices(topics, k=size), first=first)


def _problems(topic: str, found: list[Record], count: int) -> list[str]:
    newest_first = sorted(found, key=lambda record: record.offset, reverse=True)
    if found == newest_first and len(found) == min(NEWEST, count):
        return []
    return [f"{len(found)} records of {topic}, {min(NEWEST, count)} expected, the newest first"]


def _component(name: str, title: str, run: Callable[[Effort], Outcome]) -> Component:
    return Component(
        name=name,
        metrics=(
            Metric(
                name="read",
                title=f"{title}: the newest 1,000 of a topic among 10 million records",
                unit="ms",
                smaller_is_better=True,
                required=Bound(50),
                aim=Bound(10),
            ),
        ),
        run=run,
        configuration="5,000 topics, the topic read before",
        once=True,
    )


SCENARIOS = (
    _component("history-postgres", "PostgreSQL", run_postgres),
    _component("history-sqlite", "SQLite", run_sqlite),
)
