"""``monstermq status``: how far everything is that a bus on Kafka carries."""

import asyncio
from collections.abc import Mapping, Sequence
from time import time
from typing import TextIO

from monstermq.invocations import Status
from monstermq.log_parts import SHADOW_SUFFIX
from monstermq.reaching import first_entry, reached_bus, reached_database
from monstermq.status_report import EdgeStatus, Found, ProjectionStatus, as_json, lines
from monstermq.terminal import Terminal, run_tool
from monstermq_shared.bus.control import decode_facts
from monstermq_shared.bus.facts import Fact, Lease
from monstermq_shared.bus.header import KIND_SHIFT, Kind
from monstermq_shared.bus.kafka.bus import KafkaBus
from monstermq_shared.bus.kafka.log import KafkaLog
from monstermq_shared.bus.ports import Entry
from monstermq_shared.config import BrokerConfig, load_config
from monstermq_shared.config.kafka import SESSIONS_SUFFIX
from monstermq_shared.errors import (
    BusGap,
    BusUnavailable,
    InvalidRecord,
    StartupError,
    StoreUnavailable,
    UnknownFact,
)
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.stores.postgres.database import PostgresDatabase
from monstermq_shared.views.catalogue import QUEUES, SESSIONS, Catalogue

READ_S = 10.0
"""How long reading a few records may take."""

LEASES_PARTITION = 0
"""The partition of the sessions log in which leases are looked for: every edge writes to all."""

LEASES_BACK = 3
"""Leases are looked for in so many times the time that one lasts."""


OLD_S = 10.0
"""A projection with nothing older to read than this has a projector, or nobody misses one yet."""

WATCH_S = 2.0
"""Between two looks of ``--watch``."""

AGAIN_S = 2.0
"""After so long one that has older records is looked at again: whether it goes on."""


def status(invocation: Status, environ: Mapping[str, str], output: TextIO) -> ExitCode:
    """Show partitions, ends, how far each projection is, and the edges.

    Raises:
        ConfigError: The configuration is wrong, or has no bus on Kafka.
        StartupError, StoreError: Kafka or PostgreSQL cannot be reached.
    """
    config = load_config(invocation.config, environ).config
    terminal = Terminal(output, as_json=invocation.as_json)
    if invocation.watch:
        return run_tool(_watch(config, terminal), when_stopped=ExitCode.OK)
    return run_tool(_look(config, terminal))


async def _watch(config: BrokerConfig, terminal: Terminal) -> ExitCode:
    """Show it until it is stopped; who is away for a while is waited for."""
    async with reached_bus(config) as bus, reached_database(config) as database:
        with terminal.screen() as screen:
            while True:
                try:
                    found = await _find(config, bus, database)
                except (BusUnavailable, StoreUnavailable) as exc:
                    terminal.note(f"{exc}; it is asked again")
                else:
                    screen("\n".join(lines(found)), as_json(found))
                await asyncio.sleep(WATCH_S)


async def _look(config: BrokerConfig, terminal: Terminal) -> ExitCode:
    async with reached_bus(config) as bus, reached_database(config) as database:
        try:
            found = await _find(config, bus, database)
        except BusUnavailable as exc:
            raise StartupError(str(exc), exit_code=ExitCode.BUS_UNREACHABLE) from exc
    terminal.tell("\n".join(lines(found)), as_json(found))
    return ExitCode.OK


async def _find(config: BrokerConfig, bus: KafkaBus, database: PostgresDatabase) -> Found:
    generation = bus.generation
    logs = {"bus": (bus.messages, generation), "sessions": (bus.sessions, _sessions(generation))}
    # Positions before ends: what is appended in between is lag, and never less than none.
    positions = {name: await database.positions(at) for name, (_, at) in logs.items()}
    found = Found(
        topic=config.kafka.bus.topic,
        servers=config.kafka.servers,
        generation=generation,
        database=database.where,
        owner=await database.owner(),
        ends={name: await log.end_positions() for name, (log, _) in logs.items()},
    )
    found.quarantined, found.dropped = await database.quarantine_counts()
    configured = _configured(config)
    for name, (log, _) in logs.items():
        ages = _Ages(log)
        for projection in sorted({at for at, _ in positions[name]}):
            if projection.removesuffix(SHADOW_SUFFIX) in configured - {projection}:
                continue  # a table that rebuild makes anew
            reflected = {p: at for (n, p), at in positions[name].items() if n == projection}
            if projection in configured:
                of_it = await _projection(name, projection, reflected, found, ages)
            else:
                of_it = ProjectionStatus(
                    name=projection, log=name, reflected=reflected, lag={}, is_configured=False
                )
            found.projections.append(of_it)
    found.kept = await database.kept_totals(generation, _sessions(generation))
    clients = await database.clients_by_run(_sessions(generation))
    lease_ms = int(config.kafka.bus.lease_s * 1000)
    found.edges = await _edges(bus.sessions, clients, lease_ms)
    await _look_again(found, database)
    return found


def _configured(config: BrokerConfig) -> set[str]:
    """Return the projections that a projector of this configuration works for."""
    return {SESSIONS, QUEUES, *(view.projection.name for view in Catalogue(config).views)}


async def _look_again(found: Found, database: PostgresDatabase) -> None:
    """Find out which projections that are behind stand still: no projector works for them."""
    late = [
        at for at in found.projections if at.lag_records and (at.lag_s is None or at.lag_s >= OLD_S)
    ]
    if not late:
        return
    await asyncio.sleep(AGAIN_S)
    generations = {"bus": found.generation, "sessions": _sessions(found.generation)}
    now = {name: await database.positions(at) for name, at in generations.items()}
    for at in late:
        moved = [
            p
            for p, lag in at.lag.items()
            if lag and now[at.log].get((at.name, p)) != at.reflected[p]
        ]
        at.stands_still = not moved


def _sessions(generation: str) -> str:
    return generation + SESSIONS_SUFFIX


async def _projection(
    log: str, name: str, reflected: dict[int, int], found: Found, ages: "_Ages"
) -> ProjectionStatus:
    ends = found.ends[log]
    lag = {p: max(0, ends[p] - at) for p, at in reflected.items() if p in ends}
    behind = {p: reflected[p] for p, count in lag.items() if count}
    return ProjectionStatus(
        name=name, log=log, reflected=reflected, lag=lag, lag_s=await ages.oldest_s(behind)
    )


class _Ages:
    """How old records at positions are; each is read once, for projections mostly stand together.

    Args:
        log: Where.
    """

    def __init__(self, log: KafkaLog) -> None:
        self._log = log
        self._times: dict[tuple[int, int], int | None] = {}

    async def oldest_s(self, positions: Mapping[int, int]) -> float | None:
        """Return the age of the oldest record at partition -> offset; 0 for none.

        None if one cannot be read any more.
        """
        unread = {p: at for p, at in positions.items() if (p, at) not in self._times}
        for partition, offset in unread.items():
            entry = await first_entry(self._log, partition, offset, READ_S)
            self._times[partition, offset] = None if entry is None else entry.time_ms
        times = [self._times[position] for position in positions.items()]
        if None in times:
            return None
        return max((_age_s(at) for at in times if at is not None), default=0.0)


def _age_s(time_ms: int) -> float:
    return max(0.0, time() - time_ms / 1000)


async def _edges(log: KafkaLog, clients: Mapping[str, int], lease_ms: int) -> list[EdgeStatus]:
    """Return who has written a lease lately, or has clients."""
    since_ms = int(time() * 1000) - LEASES_BACK * lease_ms
    begin = (await log.positions_since(since_ms)).get(LEASES_PARTITION)
    end = (await log.end_positions())[LEASES_PARTITION]
    leases = {} if begin is None or begin >= end else await _newest_leases(log, begin, end)
    edges: list[EdgeStatus] = []
    for run in sorted({*leases, *clients}):
        edge = EdgeStatus(run=run, lease_s=None, alive=False, clients=clients.get(run, 0))
        if run in leases:
            time_ms, for_ms = leases[run]
            edge.lease_s = _age_s(time_ms)
            edge.alive = edge.lease_s * 1000 <= for_ms
        edges.append(edge)
    return edges


async def _newest_leases(log: KafkaLog, begin: int, end: int) -> dict[str, tuple[int, int]]:
    """Return run -> time and length of its newest lease in a part of the log."""
    newest: dict[str, tuple[int, int]] = {}
    reader = log.read({LEASES_PARTITION: begin})
    try:
        async with asyncio.timeout(READ_S):
            async for batch in reader:
                for entry in batch.entries:
                    for fact in _facts(entry):
                        if isinstance(fact, Lease):
                            newest[fact.run.hex()] = entry.time_ms, fact.for_ms
                if batch.upto >= end:
                    break
    except (BusGap, TimeoutError):
        # What was read so far is told.
        pass
    finally:
        await reader.aclose()
    return newest


def _facts(entry: Entry) -> Sequence[Fact]:
    if entry.flags >> KIND_SHIFT != Kind.LEASE:
        return ()
    try:
        return decode_facts(entry.record().payload)
    except (InvalidRecord, UnknownFact):
        # Those who have to know what it says stop there and tell.
        return ()
