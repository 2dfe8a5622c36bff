"""Rows about projectors: how fast what stands on Kafka becomes rows of PostgreSQL.

All records are there before the projector starts. So what is measured is its way from the log to
the table, with the server of either side on the same machine and nobody else.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import uvloop
from tests.bench.brokers import LAST_WORDS_SIZE
from tests.bench.kafka_places import KafkaPlace, kafka_place
from tests.bench.kafka_writer import bus_writer
from tests.bench.model import Bound, Component, Effort, Metric, Outcome
from tests.support.postgres import PostgresServer
from tests.support.projectors import ProjectorProcess, Setting

from monstermq_shared.bus.control import encode_facts
from monstermq_shared.bus.facts import Marker
from monstermq_shared.bus.kafka.bus import KafkaBus
from monstermq_shared.bus.ports import Stamp
from monstermq_shared.config import StoreType
from monstermq_shared.messages import MessageRun
from monstermq_shared.positions import Partition
from monstermq_shared.records import CONTROL_TOPIC, ControlRecord
from monstermq_shared.stores.ports import KeepsLogState, OwnedByLog
from monstermq_shared.stores.registry import open_database
from monstermq_shared.views.catalogue import Catalogue

PAYLOAD_SIZE = 64
RUN = 20
"""Messages of one topic that follow each other in the archive's log."""
TOPICS = 50
LOOK_S = 0.02
PATIENCE_S = 300.0


def _archived(count: int) -> Iterator[MessageRun]:
    payloads = [b"x" * PAYLOAD_SIZE] * RUN
    for number in range(count // RUN):
        yield MessageRun.of(b"plant/line%02d/value" % (number % TOPICS), payloads, 1)


def _retained(count: int) -> Iterator[MessageRun]:
    for number in range(count):
        topic = b"plant/%02d/line/%02d/sensor/%04d" % (number % 50, number // 50 % 50, number)
        run = MessageRun.of(topic, [b"x" * PAYLOAD_SIZE], 1)
        run.retain = True
        yield run


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """What a row of the table is about.

    Attributes:
        table: The name in the database.
        view: The projection.
        archived: It is an archive's.
        queued: It is of queues: of a session that is away and has subscribed to everything. Each
            message waits for T before it becomes a row, which is in the time.
    """

    table: str
    view: str
    archived: bool = False
    queued: bool = False

    def runs(self, count: int) -> Iterator[MessageRun]:
        """Make what is written to the log."""
        return _archived(count) if self.archived or self.queued else _retained(count)

    async def prepare(self, bus: KafkaBus) -> None:
        """Write what comes before."""
        if self.queued:
            marker = Marker(client_id="away", epoch=1, incarnation=1, whole=(("#", 1, 0),))
            text = encode_facts([marker]).encode()
            for partition in range(bus.messages.partitions):
                record = ControlRecord(CONTROL_TOPIC, text, time.time_ns() // 1_000_000, 0)
                await bus.messages.append(partition, [record], Stamp(b"by hand.", 0))

    def settings(self, place: KafkaPlace) -> dict[str, object]:
        """Only this view is there."""
        group = {"Name": "MCP", "TopicFilter": ["#"], "ArchiveType": "POSTGRES"}
        return {**place.bus, "ArchiveGroups": [group] if self.archived else []}


def run_projector(effort: Effort, *, rows: _Rows) -> Outcome:
    """Fill a log, then let a projector follow it to the end."""
    with (
        kafka_place() as place,
        closing(PostgresServer()) as server,
        TemporaryDirectory(prefix="bench-projector-") as folder,
    ):
        url = server.start().url(server.create_database())
        more = rows.settings(place)
        setting = Setting(Path(folder), place.address, url, topic=place.topic, more=more)
        return uvloop.run(_measure(setting, place, server, rows, effort.stored_rows))


async def _measure(
    setting: Setting, place: KafkaPlace, server: PostgresServer, rows: _Rows, count: int
) -> Outcome:
    async with bus_writer(place) as writer:
        generation = writer.bus.generation
        firsts = await writer.bus.messages.end_positions()
        await rows.prepare(writer.bus)
        await writer.write(rows.runs(count))
        ends = await writer.bus.messages.end_positions()
    needed = Catalogue(setting.config).needed(StoreType.POSTGRES)
    database = await open_database(StoreType.POSTGRES, setting.config, needed)
    projector = ProjectorProcess(setting)
    try:
        assert isinstance(database, KeepsLogState)
        assert isinstance(database, OwnedByLog)
        await database.belong_to(generation)
        starts = {Partition(generation, at): {rows.view: first} for at, first in firsts.items()}
        await database.begin_marks(generation, starts)
        projector.launch()
        watched = {
            "projector": psutil.Process(projector.process.pid),
            "postgres": psutil.Process(server.pid),
            "kafka": psutil.Process(place.server.pid),
        }
        looks = _Looks(database, generation, watched)
        counted = f"SELECT count(*) FROM {rows.table}"

        async def are_there() -> bool:
            return not rows.queued or await setting.rows(counted) == [(count,)]

        spent = await _followed(looks, projector, rows.view, ends, are_there)
        (found,) = (await setting.rows(counted))[0]
    finally:
        projector.close()
        await database.close()
    costs = {f"{name}-cost": spent_s / count * 1e6 for name, spent_s in spent.processors_s.items()}
    return Outcome(
        figures={"rate": count / spent.elapsed_s, **costs},
        problems=[] if found == count else [f"{found} rows in {rows.table}, {count} expected"],
    )


@dataclass(slots=True)
class _Look:
    """What was seen at a time.

    Attributes:
        elapsed_s: The time.
        processors_s: Name -> what a process and its children have computed.
        positions: What is committed.
    """

    elapsed_s: float
    processors_s: dict[str, float]
    positions: Mapping[tuple[str, int], int]

    def __sub__(self, earlier: "_Look") -> "_Look":
        spent_s = {
            name: spent_s - earlier.processors_s[name]
            for name, spent_s in self.processors_s.items()
        }
        return _Look(self.elapsed_s - earlier.elapsed_s, spent_s, self.positions)


class _Looks:
    """Looks at what is committed, and at who computes for it."""

    def __init__(
        self, database: KeepsLogState, generation: str, watched: Mapping[str, psutil.Process]
    ) -> None:
        self._database = database
        self._generation = generation
        self._watched = watched

    async def look(self) -> _Look:
        """Return what there is now."""
        positions = await self._database.positions(self._generation)
        spent_s = {name: _processor_s(process) for name, process in self._watched.items()}
        return _Look(time.perf_counter(), spent_s, positions)


async def _followed(
    looks: _Looks,
    projector: ProjectorProcess,
    view: str,
    ends: Mapping[int, int],
    are_there: Callable[[], Awaitable[bool]],
) -> _Look:
    """Return what passes from the last look at which nothing is committed until all is."""
    begun = first = await looks.look()
    deadline = first.elapsed_s + PATIENCE_S
    while True:
        now = await looks.look()
        if now.positions == first.positions:
            begun = now
        is_read = all(now.positions.get((view, at), -1) >= end for at, end in ends.items())
        if is_read and await are_there():
            return now - begun
        if projector.process.poll() is not None or now.elapsed_s > deadline:
            raise RuntimeError(f"not all rows are there: {projector.log[-LAST_WORDS_SIZE:]}")
        await asyncio.sleep(LOOK_S)


def _processor_s(process: psutil.Process) -> float:
    times = []
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # it may end at any time
            times.append(one.cpu_times())
    return sum(spent.user + spent.system for spent in times)


def _scenario(rows: _Rows, name: str, title: str, bounds: tuple[float, float]) -> Component:
    required, aim = map(Bound, bounds)
    return Component(
        name=name,
        metrics=(
            Metric(name="rate", title=title, unit="/s", required=required, aim=aim),
            *(
                Metric(
                    name=f"{part}-cost",
                    title=f"{whose} processor time per row",
                    unit="µs",
                    smaller_is_better=True,
                )
                for part, whose in (
                    ("projector", "the projector's"),
                    ("postgres", "PostgreSQL's"),
                    ("kafka", "Kafka's"),
                )
            ),
        ),
        run=partial(run_projector, rows=rows),
        configuration="a projector, records ready on Kafka; no clients",
    )


SCENARIOS = (
    _scenario(
        _Rows(table="mcparchive", view="MCPArchive", archived=True),
        "projector-archive",
        "Kafka: projector into PostgreSQL, archive rows",
        (40_000, 80_000),
    ),
    _scenario(
        _Rows(table="retainedmessages", view="retained"),
        "projector-retained",
        "Kafka: projector into PostgreSQL, 200,000 retained topics",
        (30_000, 60_000),
    ),
    _scenario(
        _Rows(table="queuedmessagesclients", view="queues", queued=True),
        "projector-queues",
        "Kafka: projector into PostgreSQL, rows of a session that is away",
        (20_000, 40_000),
    ),
)
