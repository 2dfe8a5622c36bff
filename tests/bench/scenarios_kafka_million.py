"""The row about a million kept sessions that are away: what a start takes, and what each costs.

Their cuts are put into PostgreSQL as a worker would have written them, marked a moment ago: so an
edge loads the fences of all of them, and a worker all subscriptions.
"""

import asyncio
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import orjson
import psutil
from tests.bench.kafka_places import KafkaPlace, kafka_place
from tests.bench.kafka_writer import bus_writer
from tests.bench.model import Bound, Component, Effort, Metric, Outcome
from tests.support.broker import LOOPBACK
from tests.support.kafka_stack import KafkaStack, StackProcess
from tests.support.postgres import PostgresServer

from monstermq_shared.messages import MessageRun
from monstermq_shared.stores.postgres.rows import digest

PARTITIONS = 12
FILTERS = 5
PATIENCE_S = 600.0
LOOK_S = 0.05
SENTINELS = 200
"""Messages on topics of their own: surely in every partition one. A worker that has loaded the
cuts of a partition passes them."""

_COLUMNS = (
    *("client_digest", "client_id", "generation", "partition", "epoch", "position"),
    *("incarnation", "subscriptions", "marked_at"),
)
_OF_FIRST_PARTITION = f"""
CREATE TEMPORARY TABLE first ({_COLUMNS[0]} bytea, {_COLUMNS[1]} text, subscriptions text)
"""
_OF_ALL_PARTITIONS = f"""
INSERT INTO cuts ({", ".join(_COLUMNS)})
SELECT client_digest, client_id, watermarks.generation, watermarks.partition, 0, -1, 0,
    subscriptions::json, now()
FROM watermarks CROSS JOIN first WHERE projection = 'queues'
"""
"""Position and epoch are those of markers before the first records."""
_MARKS = "SELECT partition, reflected FROM watermarks WHERE projection = 'queues'"


def run_million(effort: Effort) -> Outcome:
    """Start an edge and a worker without sessions, and again with them."""
    with (
        kafka_place() as place,
        closing(PostgresServer()) as server,
        TemporaryDirectory(prefix="bench-million-") as folder,
    ):
        stack = _stack(place, server.start(), Path(folder))
        try:
            return _measure(stack, place, effort.subscriptions)
        finally:
            stack.close()


def _stack(place: KafkaPlace, server: PostgresServer, folder: Path) -> KafkaStack:
    stack = KafkaStack(
        folder,
        place.address,
        place.topic,
        server,
        edges=1,
        bus={"Partitions": PARTITIONS},
        ArchiveGroups=[],
    )
    for process in stack.processes:
        process.start_s = PATIENCE_S
    return stack


def _measure(stack: KafkaStack, place: KafkaPlace, sessions: int) -> Outcome:
    edge, worker = stack.edges[0], stack.views
    # Whoever starts first makes topics, tables and marks.
    stack.start()
    for process in stack.processes:
        _until_ready(process)
        process.stop()
    _, empty_edge = _start(edge)
    _, empty_worker = _start_worker(worker, stack, place)
    asyncio.run(_fill(stack, sessions))
    edge_s, full_edge = _start(edge)
    worker_s, full_worker = _start_worker(worker, stack, place)
    return Outcome(
        figures={
            "edge-start": edge_s,
            "edge-resident": (full_edge - empty_edge) / sessions / 1024,
            "worker-start": worker_s,
            "worker-resident": (full_worker - empty_worker) / sessions / 1024,
        }
    )


def _start_worker(worker: StackProcess, stack: KafkaStack, place: KafkaPlace) -> tuple[float, int]:
    """The same for a worker, which has loaded a partition when it passes what stands there."""
    ends = asyncio.run(_write_sentinels(place))
    return _start(worker, lambda: asyncio.run(_until_passed(stack, ends)))


def _start(process: StackProcess, loaded: Callable[[], None] | None = None) -> tuple[float, int]:
    """Start it and end it; return seconds until it was ready, and resident bytes then."""
    begun_s = time.perf_counter()
    process.launch()
    process.wait_until_listening()
    _until_ready(process)
    if loaded is not None:
        loaded()
    elapsed_s = time.perf_counter() - begun_s
    resident = psutil.Process(process.pid).memory_info().rss
    process.stop()
    return elapsed_s, resident


def _until_ready(process: StackProcess) -> None:
    deadline_s = time.perf_counter() + PATIENCE_S
    while not _is_ready(process):
        if process.has_ended(within_s=LOOK_S) or time.perf_counter() > deadline_s:
            raise RuntimeError(f"it is not ready: {process.log_text()[-2000:]}")


def _is_ready(process: StackProcess) -> bool:
    url = f"http://{LOOPBACK}:{process.metrics_port}/ready"
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


async def _write_sentinels(place: KafkaPlace) -> Mapping[int, int]:
    """Return where the partitions end with them."""
    async with bus_writer(place) as writer:
        topics = (b"sentinel/%d" % number for number in range(SENTINELS))
        await writer.write(MessageRun.of(topic, [b"pass"], 0) for topic in topics)
        return await writer.bus.messages.end_positions()


async def _until_passed(stack: KafkaStack, ends: Mapping[int, int]) -> None:
    connection = await asyncpg.connect(stack.postgres.url(stack.database))
    deadline_s = time.perf_counter() + PATIENCE_S
    try:
        while not all(
            row["reflected"] >= ends[row["partition"]] for row in await connection.fetch(_MARKS)
        ):
            if time.perf_counter() > deadline_s:
                raise RuntimeError(f"it stands still: {stack.views.log_text()[-2000:]}")
            await asyncio.sleep(LOOK_S)
    finally:
        await connection.close()


async def _fill(stack: KafkaStack, sessions: int) -> None:
    connection = await asyncpg.connect(stack.postgres.url(stack.database))
    try:
        await connection.execute(_OF_FIRST_PARTITION)
        await connection.copy_records_to_table("first", records=_first(sessions))
        told = await connection.execute(_OF_ALL_PARTITIONS, timeout=PATIENCE_S)
    finally:
        await connection.close()
    if told != f"INSERT 0 {sessions * PARTITIONS}":
        raise RuntimeError(f"the queues have no marks in all partitions: {told}")


def _first(sessions: int) -> Iterator[tuple[bytes, str, str]]:
    for number in range(sessions):
        client_id = f"sensor-{number:07d}"
        filters = [[f"plant/{number:07d}/{at}", 1, 0] for at in range(FILTERS)]
        yield digest(client_id), client_id, orjson.dumps(filters).decode()


def _metrics(name: str, whose: str) -> tuple[Metric, ...]:
    return (
        Metric(
            name=f"{name}-start",
            title=f"Kafka: a million kept sessions: start of {whose}",
            unit="s",
            smaller_is_better=True,
            required=Bound(120),
            aim=Bound(40),
        ),
        Metric(
            name=f"{name}-resident",
            title=f"the same: memory of {whose}",
            unit="KiB each",
            smaller_is_better=True,
            required=Bound(2),
            aim=Bound(1),
        ),
    )


SCENARIOS = (
    Component(
        name="kafka-kept-million",
        metrics=(
            *_metrics("edge", "an edge"),
            *_metrics("worker", "a projector of queues"),
        ),
        run=run_million,
        configuration="12 partitions, 5 filters of its own each, nobody connected",
        once=True,
    ),
)
