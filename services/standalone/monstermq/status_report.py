"""What ``monstermq status`` tells, for people and as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from monstermq_shared.stores.queues import KeptTotals
from monstermq_shared.views.catalogue import QUEUES

NOTHING_KEPT = KeptTotals(0, 0, 0, 0, 0)


@dataclass(slots=True, kw_only=True)
class ProjectionStatus:
    """How far one projection is.

    Attributes:
        log: ``bus`` or ``sessions``.
        reflected: Partition -> up to where its rows reflect it; a partition without a mark is not
            there.
        lag: Partition -> records between that and the end.
        lag_s: The age of the oldest record that its rows do not reflect; None if it cannot be read.
        stands_still: Whether it has been behind for a while and does not go on.
        is_configured: Whether the configuration still asks for it; how far one is that nobody asks
            for is not told.
    """

    name: str
    log: str
    reflected: dict[int, int]
    lag: dict[int, int]
    lag_s: float | None = 0.0
    stands_still: bool = False
    is_configured: bool = True

    @property
    def lag_records(self) -> int:
        """Records in all partitions."""
        return sum(self.lag.values())


@dataclass(slots=True, kw_only=True)
class EdgeStatus:
    """One edge.

    Attributes:
        run: What its process calls itself, in hex.
        lease_s: How long ago its newest lease was written; None if there was none lately.
        alive: Whether that lease still holds.
        clients: How many it has, as far as the sessions are reflected.
    """

    run: str
    lease_s: float | None
    alive: bool
    clients: int


@dataclass(slots=True, kw_only=True)
class Found:
    """All that is told.

    Attributes:
        topic: Of the bus.
        servers: Kafka's, as the configuration has them.
        generation: The log.
        database: The database, as messages name it.
        owner: The log that the database belongs to.
        ends: ``bus`` and ``sessions`` -> partition -> the offset of its next record.
        projections: How far each is.
        kept: What is kept of sessions that outlive their connections, as far as rows show it.
        edges: Those alive, and those that have clients.
        quarantined: What stands in the log and is no record, as far as it is kept.
        dropped: The same, no longer kept.
    """

    topic: str
    servers: str
    generation: str
    database: str
    owner: str | None
    ends: dict[str, Mapping[int, int]]
    projections: list[ProjectionStatus] = field(default_factory=list)
    kept: KeptTotals = NOTHING_KEPT
    edges: list[EdgeStatus] = field(default_factory=list)
    quarantined: int = 0
    dropped: int = 0


def as_json(found: Found) -> dict[str, Any]:
    """Return it for a program."""
    return {
        "generation": found.generation,
        "topic": found.topic,
        "servers": found.servers,
        "database": found.database,
        "databaseBelongsTo": found.owner,
        "partitions": {
            log: [{"partition": number, "end": ends[number]} for number in sorted(ends)]
            for log, ends in found.ends.items()
        },
        "projections": [
            {
                "name": at.name,
                "log": at.log,
                "configured": at.is_configured,
                "lagRecords": at.lag_records if at.is_configured else None,
                "lagSeconds": _rounded(at.lag_s) if at.is_configured else None,
                "standsStill": at.stands_still,
                "partitions": [
                    {"partition": number, "reflected": at.reflected[number], "lag": at.lag[number]}
                    for number in sorted(at.lag)
                ],
            }
            for at in found.projections
        ],
        "keptSessions": {
            "sessions": found.kept.sessions,
            "connected": found.kept.connected,
            "queues": found.kept.queues,
            "queuedMessages": found.kept.messages,
            "queuedBytes": found.kept.size,
        },
        "edges": [
            {
                "run": at.run,
                "alive": at.alive,
                "leaseSecondsAgo": _rounded(at.lease_s),
                "clients": at.clients,
            }
            for at in found.edges
        ],
        "quarantine": {"kept": found.quarantined, "dropped": found.dropped},
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def lines(found: Found) -> Iterator[str]:
    """Return it for people."""
    yield f"log       {found.generation} at {found.servers}"
    yield f"database  PostgreSQL at {found.database}"
    if found.owner not in {None, found.generation}:
        yield f"          it belongs to another log, {found.owner}: see monstermq db adopt"
    for log, ends in found.ends.items():
        yield ""
        yield f"{log}: {len(ends)} partitions, {sum(ends.values())} records so far"
        projections = [at for at in found.projections if at.log == log]
        yield from _table(
            ["projection", "behind", "oldest", "worst partition"],
            [_projection_row(at) for at in projections],
        )
        yield from _standing(log, [at.name for at in projections if at.stands_still])
        yield from _table(
            ["partition", "end", *(at.name for at in projections)],
            [
                [str(number), str(ends[number])]
                + [str(at.reflected.get(number, "-")) for at in projections]
                for number in sorted(ends)
            ],
        )
    yield ""
    kept = found.kept
    yield f"kept sessions: {kept.sessions}, {kept.connected} connected"
    waiting = f"{kept.messages} messages ({kept.size} bytes) for {kept.queues} clients"
    yield f"queues: {waiting}"
    yield ""
    alive = sum(at.alive for at in found.edges)
    yield f"edges: {alive} alive, {sum(at.clients for at in found.edges)} clients"
    yield from _table(["run", "", "lease", "clients"], [_edge_row(at) for at in found.edges])
    yield ""
    yield f"quarantine: {found.quarantined} kept, {found.dropped} dropped"


def _standing(log: str, names: Sequence[str]) -> Iterator[str]:
    """Yield what to do about projections that no projector works for."""
    if not names:
        return
    kind = "SESSIONS" if log == "sessions" else "VIEWS"
    yield f"  NO PROJECTOR makes the rows of {', '.join(names)}: start monstermq-projector with"
    yield f"  {kind} among its kinds; if it runs, its log tells what it waits for"
    if QUEUES in names:
        yield "  kept sessions that come back wait for what they are owed until then"


def _projection_row(status: ProjectionStatus) -> list[str]:
    if not status.is_configured:
        return [status.name, "not in this configuration", "-", "-"]
    if not status.lag_records:
        return [status.name, "0 records", "-", "-"]
    age = "gone from the log" if status.lag_s is None else f"{status.lag_s:.1f} s"
    worst = max(status.lag, key=lambda number: status.lag[number])
    return [status.name, f"{status.lag_records} records", age, f"{worst}: {status.lag[worst]}"]


def _edge_row(status: EdgeStatus) -> list[str]:
    said = "none lately" if status.lease_s is None else f"{status.lease_s:.1f} s ago"
    return [status.run, "alive" if status.alive else "silent", said, str(status.clients)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield lines with columns as wide as their widest cell; nothing without rows."""
    if not rows:
        return
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"  {'  '.join(cells)}".rstrip()
