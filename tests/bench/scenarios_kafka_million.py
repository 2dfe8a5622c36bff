"""The row about a million kept sessions that are away: what a start takes, and what each costs.

Their cuts are put into PostgreSQL as a worker would have written them, marked a moment ago: so an
edge loads the fences of all of them, and a worker all subscriptions.
"""

import asyncio
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import orjson
import psutil
from tests.bench.kafka_places import KafkaPlace, kafka_place
from tests.bench.model import Bound, Component, Effort, Metric, Outcome
from tests.support.broker import LOOPBACK
from tests.support.kafka_stack import KafkaStack, StackProcess
from tests.support.postgres import PostgresServer

from monstermq_shared.stores.postgres.rows import digest

PARTITIONS = 12
FILTERS = 5
PATIENCE_S = 600.0
LOOK_S = 0.05

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
"""Position and epoch are those of markers that were the first records."""


def run_million(effort: Effort) -> Outcome:
    """Start an edge and a worker without sessions, and again with them."""
    with (
        kafka_place() as place,
        closing(PostgresServer()) as server,
        TemporaryDirectory(prefix="bench-million-") as folder,
    ):
        stack = _stack(place, server.start(), Path(folder))
        try:
            return _measure(stack, effort.subscriptions)
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


def _measure(stack: KafkaStack, sessions: int) -> Outcome:
    processes: dict[str, StackProcess] = {"edge": stack.edges[0], "worker": stack.views}
    # Whoever starts first makes topics, tables and marks.
    stack.start()
    for process in processes.values():
        _until_ready(process)
        process.stop()
    empty = {name: _start(process) for name, process in processes.items()}
    asyncio.run(_fill(stack, sessions))
    figures = {}
    for name, process in processes.items():
        elapsed_s, resident = _start(process)
        figures[f"{name}-start"] = elapsed_s
        figures[f"{name}-resident"] = (resident - empty[name][1]) / sessions / 1024
    return Outcome(figures=figures)


def _start(process: StackProcess) -> tuple[float, int]:
    """Start it and end it; return seconds until it was ready, and resident bytes then."""
    begun_s = time.perf_counter()
    process.launch()
    process.wait_until_listening()
    _until_ready(process)
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
