"""What a commit changes, under which right, and what rows say when they are read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from monstermq_shared.messages import Will
from monstermq_shared.positions import Mark, Partition
from monstermq_shared.records import Record
from monstermq_shared.stores.queue_changes import QueueChanges, QueueGrowth

MessageChanges = Mapping[str, Record | None]
"""Topic -> its newest record, or None where the topic is cleared."""

ArchiveChanges = Sequence[Record]
"""Records to append, in order of position."""


class InFlightState(IntEnum):
    """How far an outbound QoS 2 exchange is."""

    SENT = 1
    """PUBLISH was sent (or may have been); PUBREC is awaited."""
    RECEIVED = 2
    """PUBREC has come; PUBREL is owed until PUBCOMP comes."""


@dataclass(slots=True, kw_only=True)
class SessionRow:
    """One row of ``sessions``.

    Attributes:
        incarnation: The offset at which the session began, in the partition and generation of
            whoever commits it. What belongs to an older one never counts.
        updated_ms: When the row last changed: while it is not connected, when it went, for the
            session expiry.
        epoch: The offset of the newest claim, in the partition that the row is committed under;
            None on the internal bus, where nobody claims.
        run: The run of the edge that serves it, in hex; empty on the internal bus.
        expiry_s: How long it outlives its connection; 0 for one that ends with it, None where
            nobody has said.
        sent: (partition, offset) of QoS 1 deliveries that were not acknowledged when it was
            detached; None where that is not known.
    """

    client_id: str
    incarnation: int
    clean: bool
    connected: bool
    updated_ms: int
    information: dict[str, str | int | bool]
    will: Will | None
    epoch: int | None = None
    run: str = ""
    expiry_s: int | None = None
    sent: tuple[tuple[int, int], ...] | None = None


@dataclass(slots=True)
class Trim:
    """Drop the oldest queue rows of a client: at least ``messages`` and ``size`` bytes of them.

    Only rows of the commit's partition. Those at or below ``after`` are in flight and are left.
    """

    after: int
    messages: int
    size: int


@dataclass(slots=True)
class ClientChanges:
    """What one commit changes for one client. Applied in the order of the members.

    Attributes:
        ended: First delete everything there is of this client: session, subscriptions, queue,
            open ids, in-flight.
        cleared: First delete session, subscriptions and what is opened: all that the worker of a
            sessions log writes of a client. Its queues are others' rows.
        session: Then insert or replace the session row.
        subscriptions: Filter -> QoS to insert or replace, or None to delete.
        queued: Offset -> (record, QoS of the delivery) to insert; nothing on conflict.
        dequeued: Offset -> size (``records.size_of``) of queue rows to delete, None where the size
            is not known; the shared payload goes with the last one.
        open_ids: Inbound QoS 2 packet id -> offset of its message, or None to delete.
        in_flight: Outbound QoS 2 packet id -> (offset, state) to insert or replace, or None.
        opened: Outbound QoS 2 packet id -> (partition of the bus, offset), both None for a retained
            message, to insert or replace; or None to delete. Of a sessions log, in place of
            ``in_flight``.
        trim: Last, make room by dropping the oldest queue rows.
    """

    ended: bool = False
    cleared: bool = False
    session: SessionRow | None = None
    subscriptions: dict[str, int | None] = field(default_factory=dict)
    queued: dict[int, tuple[Record, int]] = field(default_factory=dict)
    dequeued: dict[int, int | None] = field(default_factory=dict)
    open_ids: dict[int, int | None] = field(default_factory=dict)
    in_flight: dict[int, tuple[int, InFlightState] | None] = field(default_factory=dict)
    opened: dict[int, tuple[int | None, int | None] | None] = field(default_factory=dict)
    trim: Trim | None = None


SessionChanges = Mapping[str, ClientChanges]
"""Client id -> what changes for it."""


@dataclass(slots=True, kw_only=True)
class Tenure:
    """The right to commit certain projections of one partition, until another one begins it.

    Attributes:
        partition: What the offsets of its commits are relative to.
        projections: Whose marks every commit moves.
        marks: Where those stand that have committed before; the others begin with this tenure.
        token: Of its holder: unique to this tenure, so that nobody takes another's commit for his.
        version: Raised by every commit; a commit is conditional on it and on the token.
    """

    partition: Partition
    projections: tuple[str, ...]
    marks: dict[str, Mark]
    token: str
    version: int


@dataclass(slots=True, kw_only=True)
class LogState:
    """What a reader of a log keeps with its marks, so that the next one can go on (R1, R3, P1).

    Attributes:
        log_id: Which log it is: cluster and topic.
        last_id: What tells the record below the mark from any other that might stand there one day:
            its time, run and sequence; None before the first.
        runs: All that R1 remembers there: run -> [highest sequence, its time in ms].
        fences: The markers of this commit (R3): client -> (epoch, time of the record in ms).
        fences_from_ms: Fences whose time is before this are forgotten.
        skips: Offsets from the restart on, below the mark, whose records did not count (P2). Kept
            with the mark of the queues alone.
    """

    log_id: str
    last_id: str | None
    runs: Mapping[str, Sequence[int]] = field(default_factory=dict)
    fences: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    fences_from_ms: int = 0
    skips: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLogState:
    """The same of one projection, as it is read: ``fences`` are all that are remembered.

    Attributes:
        mark: How far the projection has come.
        log_id: None in rows of a log that keeps no state, such as the internal one.
    """

    mark: Mark
    log_id: str | None
    last_id: str | None
    runs: Mapping[str, Sequence[int]]
    fences: Mapping[str, tuple[int, int]]
    skips: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """What stands in the log and is no record: kept for whoever wants to know what it was.

    Attributes:
        offset: Where, in the partition it is committed under.
        time_ms: Its time in the log; kept within the years 1970 to 9999.
        reason: Why it is none.
        size: Bytes of its key and value, of which only the first ``VALUE_SIZE_MAX`` are kept each.
    """

    offset: int
    time_ms: int
    reason: str
    key: bytes
    value: bytes
    headers: Sequence[tuple[str, bytes]] = ()
    size: int = 0


@dataclass(slots=True, kw_only=True)
class Commit:
    """What one transaction changes, for the partition of the tenure it is made under.

    Attributes:
        upto: The next offset: everything below it is reflected once this is committed.
        restart: Where reading would begin again, see ``Mark``; None: at ``upto``.
        sessions: For the session store, if this database has it.
        queues: Of kept sessions, by the worker of a partition of the bus.
        messages: Store name -> changes, for retained and last-value stores.
        archives: Store name -> records to append.
        log: What is kept with the marks, for a log whose readers have to know their way.
        quarantined: What was read and is no record.
    """

    upto: int
    restart: int | None = None
    sessions: SessionChanges = field(default_factory=dict)
    queues: QueueChanges | None = None
    messages: Mapping[str, MessageChanges] = field(default_factory=dict)
    archives: Mapping[str, ArchiveChanges] = field(default_factory=dict)
    log: LogState | None = None
    quarantined: Sequence[Quarantined] = ()

    @property
    def is_empty(self) -> bool:
        """Whether it only moves the marks, and what is kept with them."""
        if self.queues is not None and not self.queues.is_empty:
            return False
        return not (self.sessions or self.messages or self.archives or self.quarantined)

    @property
    def rows(self) -> int:
        """How many rows it inserts, replaces or deletes; those of an ended session count as one."""
        rows = sum(map(len, self.messages.values())) + sum(map(len, self.archives.values()))
        for changes in self.sessions.values():
            rows += len(changes.queued) + len(changes.dequeued) + len(changes.subscriptions)
            rows += len(changes.open_ids) + len(changes.in_flight) + len(changes.opened)
            rows += changes.ended + changes.cleared + (changes.session is not None)
        return rows if self.queues is None else rows + self.queues.rows


@dataclass(frozen=True, slots=True)
class Trimmed:
    """How much a ``Trim`` dropped."""

    messages: int
    size: int


@dataclass(frozen=True, slots=True)
class CommitResult:
    """What the engine must know of a commit.

    Attributes:
        trimmed: For each client, what its ``Trim`` dropped.
        grown: For each client, by how much ``Commit.queues`` has made its queue longer: only the
            database knows which rows were there.
    """

    trimmed: Mapping[str, Trimmed]
    grown: Mapping[str, QueueGrowth] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedMessage:
    """A row of the queue, as it is paged: the record and the QoS it is delivered with."""

    record: Record
    qos: int


@dataclass(slots=True, kw_only=True)
class StoredSession:
    """Everything the engine must know of one session when it starts.

    Attributes:
        queued_messages: Queue rows, in all partitions. They are counted as they come and go, so
            that a start reads one row a session, however long its queue is.
        queued_size: The bytes of them (``records.size_of``).
        opened: Of a sessions log, in place of ``in_flight``: outbound QoS 2 packet id -> (partition
            of the bus, offset), both None for a retained message.
    """

    row: SessionRow
    subscriptions: dict[str, int]
    open_ids: dict[int, int]
    in_flight: dict[int, tuple[int, InFlightState]]
    queued_messages: int
    queued_size: int
    opened: dict[int, tuple[int | None, int | None]] = field(default_factory=dict)
