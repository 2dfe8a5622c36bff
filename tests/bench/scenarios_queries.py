"""Rows about questions: values, histories, aggregates and searches while messages are written.

Who writes has a thread and an event loop of its own, as the broker has beside the MCP server. Who
asks is given a turn of the interpreter only when the other one lets go of it.
"""

import asyncio
import random
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeAlias

import uvloop
from tests.bench.model import Bound, Component, Effort, Metric, Outcome
from tests.bench.scenarios_latency import percentile_ms
from tests.bench.stored import parts, shuffled_topics
from tests.support.postgres import PostgresServer

from monstermq_shared.config import ArchiveGroup, BrokerConfig, Postgres, SQLite, StoreType
from monstermq_shared.queries.aggregates import AggregateFunction, AggregateQuery
from monstermq_shared.queries.cursors import Cursors
from monstermq_shared.queries.fields import FieldPath
from monstermq_shared.queries.history import HistoryQuery
from monstermq_shared.queries.patterns import TopicPattern
from monstermq_shared.queries.ports import DatabaseQueries
from monstermq_shared.queries.topics import NameSearch, ValuesQuery
from monstermq_shared.records import Record
from monstermq_shared.stores.changes import Commit
from monstermq_shared.stores.registry import open_database, open_queries
from monstermq_shared.testing.builders import ARCHIVE, LAST_VALUES, NOON_MS, PARTITION
from monstermq_shared.views.catalogue import Catalogue

DAY_MS, HOUR_MS = 86_400_000, 3_600_000
DAY_ROWS = 86_400
"""Messages of one topic in a day, one a second."""
OFTEN = "house/kitchen/temperature"
"""That topic; all others have a few messages each."""
COMMIT_ROWS = 5_000
FLOW_S = 0.05
ASKED = 300
"""Questions of a kind; a tenth of them where one takes long."""
TIMEOUT_S = 30.0

Ask: TypeAlias = Callable[[DatabaseQueries], Awaitable[int]]
"""Asks one question; returns how many rows the answer has."""


def run_postgres(effort: Effort) -> Outcome:
    """Measure on a server of its own, vacuumed as it would do itself after a while."""
    with closing(PostgresServer()) as server:
        name = server.start().create_database()
        server.psql("CREATE EXTENSION pg_trgm", database=name)
        config = _config(StoreType.POSTGRES, postgres=Postgres(url=server.url(name)))

        def settle() -> None:
            server.psql("VACUUM ANALYZE", database=name)

        return _measure(StoreType.POSTGRES, config, effort, settle)


def run_sqlite(effort: Effort) -> Outcome:
    """Measure on a file of its own."""
    with tempfile.TemporaryDirectory(prefix="bench-queries-") as folder:
        path = str(Path(folder) / "queries.db")
        config = _config(StoreType.SQLITE, sqlite=SQLite(path=path, min_free_mb=0))
        return _measure(StoreType.SQLITE, config, effort, lambda: None)


def _config(
    store_type: StoreType, *, postgres: Postgres | None = None, sqlite: SQLite | None = None
) -> BrokerConfig:
    group = ArchiveGroup(
        name="MCP", topic_filter=("#",), last_val_type=store_type, archive_type=store_type
    )
    return BrokerConfig(
        session_store_type=store_type,
        archive_groups=(group,),
        postgres=postgres or Postgres(),
        sqlite=sqlite or SQLite(),
    )


def _measure(
    store_type: StoreType, config: BrokerConfig, effort: Effort, settle: Callable[[], None]
) -> Outcome:
    topics = shuffled_topics(effort.query_topics)
    with _writing(_Writer(store_type, config, effort, topics)) as writer:
        settle()
        writer.flow.set()
        return uvloop.run(_ask_everything(store_type, config, writer, topics))


class _Writer:
    """Fills a database, and then writes to it at a fixed rate.

    Attributes:
        filled: Set once it is full.
        flow: Set when messages are to flow.
        stop: Set when it is to end.
        end_ms: The time of the last message before they flow.
    """

    def __init__(
        self, store_type: StoreType, config: BrokerConfig, effort: Effort, topics: Sequence[str]
    ) -> None:
        self.filled = threading.Event()
        self.flow = threading.Event()
        self.stop = threading.Event()
        self.end_ms = NOON_MS + DAY_MS
        self._store_type = store_type
        self._config = config
        self._effort = effort
        self._topics = topics
        self._offset = 0

    async def write(self) -> None:
        """Do all of it."""
        needed = Catalogue(self._config).needed(self._store_type)
        database = await open_database(self._store_type, self._config, needed)
        try:
            tenure = await database.begin(PARTITION, ["queries"])
            for number, records in enumerate(parts(self._past(), COMMIT_ROWS)):
                first_round = number * COMMIT_ROWS < len(self._topics) * 2
                await database.commit(tenure, _commit(records, with_values=first_round))
            self.filled.set()
            await asyncio.to_thread(self.flow.wait)
            rows = max(1, int(self._effort.messages_per_s * FLOW_S))
            while not self.stop.is_set():
                began = time.perf_counter()
                await database.commit(tenure, _commit([*self._present(rows)], with_values=True))
                await asyncio.sleep(max(0.0, began + FLOW_S - time.perf_counter()))
        finally:
            await database.close()

    def _past(self) -> Iterator[Record]:
        """Yield a day's messages: one topic has one a second, the others take turns."""
        rows = self._effort.history_rows
        every = max(2, rows // DAY_ROWS)
        for number in range(rows):
            topic = OFTEN
            if number % every:
                others = number - number // every - 1
                topic = self._topics[others % len(self._topics)]
            yield self._record(topic, NOON_MS + number * DAY_MS // rows)

    def _present(self, rows: int) -> Iterator[Record]:
        chosen = random.Random(self._offset).choices(self._topics, k=rows)
        for topic in chosen:
            yield self._record(topic, self.end_ms + self._offset)

    def _record(self, topic: str, time_ms: int) -> Record:
        self._offset += 1
        payload = b'{"value": %d.5, "unit": "C"}' % (self._offset % 100)
        return Record(topic, payload, 0, False, "publisher", time_ms, self._offset)


def _commit(records: Sequence[Record], *, with_values: bool) -> Commit:
    """Return what archives messages; whether they are last values as well costs half the time."""
    values = {record.topic: record for record in records} if with_values else {}
    return Commit(
        upto=records[-1].offset + 1, messages={LAST_VALUES: values}, archives={ARCHIVE: records}
    )


@contextmanager
def _writing(writer: _Writer) -> Iterator[_Writer]:
    """Run it on a thread of its own, until the end of the ``with``; begin once it has filled."""
    with ThreadPoolExecutor(1, thread_name_prefix="bench-writer") as threads:
        done: Future[None] = threads.submit(uvloop.run, writer.write())
        try:
            while not writer.filled.wait(1) and not done.done():
                pass
            yield writer
        finally:
            writer.stop.set()
            writer.flow.set()
            done.result()


async def _ask_everything(
    store_type: StoreType, config: BrokerConfig, writer: _Writer, topics: Sequence[str]
) -> Outcome:
    queries = open_queries(store_type, config, Cursors(), timeout_s=TIMEOUT_S)
    assert queries is not None
    chooser = random.Random(7)
    counts = {"value": ASKED, "page": ASKED, "aggregate": ASKED // 10, "search": ASKED // 10}
    outcome = Outcome(figures={})
    try:
        for name, question in _questions(writer, topics, chooser).items():
            await question(queries)  # connections are made, and caches filled, once
            waits_ns: list[int] = []
            for _ in range(counts[name]):
                began = time.perf_counter_ns()
                rows = await question(queries)
                waits_ns.append(time.perf_counter_ns() - began)
                if not rows:
                    outcome.problems.append(f"{name}: an answer without rows")
            share = 0.5 if name == "aggregate" else 0.99
            outcome.figures[name] = percentile_ms(waits_ns, share)
    finally:
        await queries.close()
    return outcome


def _questions(writer: _Writer, topics: Sequence[str], chooser: random.Random) -> dict[str, Ask]:
    async def value(queries: DatabaseQueries) -> int:
        asked = queries.topics(retained=None, last_values=LAST_VALUES)
        page = await asked.values(ValuesQuery(filters=(chooser.choice(topics),)))
        return len(page.rows)

    async def page(queries: DatabaseQueries) -> int:
        topic = chooser.choice([OFTEN, chooser.choice(topics)])
        end_ms = chooser.randrange(NOON_MS, writer.end_ms) if topic == OFTEN else None
        query = HistoryQuery(filters=(topic,), end_ms=end_ms)
        return len((await queries.archive(ARCHIVE).history(query)).rows)

    async def aggregate(queries: DatabaseQueries) -> int:
        query = AggregateQuery(
            filters=(OFTEN,),
            functions=(AggregateFunction.AVG,),
            start_ms=NOON_MS,
            end_ms=NOON_MS + DAY_MS,
            bucket_ms=HOUR_MS,
            field=FieldPath.parse("value"),
        )
        return len((await queries.archive(ARCHIVE).aggregate(query)).rows)

    async def search(queries: DatabaseQueries) -> int:
        # Some of it is in a few names, some in very many.
        text = chooser.choice([chooser.choice(topics)[12:-8], "temperature", "site7/", "DEVICE1"])
        asked = queries.topics(retained=None, last_values=LAST_VALUES)
        search = NameSearch(pattern=TopicPattern.containing(text))
        return len((await asked.find_by_name(search)).rows)

    return {"value": value, "page": page, "aggregate": aggregate, "search": search}


def _component(name: str, title: str, run: Callable[[Effort], Outcome]) -> Component:
    def metric(key: str, what: str, required: float, aim: float) -> Metric:
        return Metric(
            name=key,
            title=f"{title}: {what}",
            unit="ms",
            smaller_is_better=True,
            required=Bound(required),
            aim=Bound(aim),
        )

    return Component(
        name=name,
        metrics=(
            metric("value", "the value of a topic, p99", 30, 10),
            metric("page", "a page of the history of a topic, p99", 30, 10),
            metric("aggregate", "a day of one topic by hours, 86,400 messages", 150, 50),
            metric("search", "topics by a part of their name, p99", 200, 50),
        ),
        run=run,
        configuration="1 million topics, 10 million messages, 20,000 msg/s being written",
        once=True,
    )


SCENARIOS = (
    _component("queries-postgres", "PostgreSQL", run_postgres),
    _component("queries-sqlite", "SQLite", run_sqlite),
)
