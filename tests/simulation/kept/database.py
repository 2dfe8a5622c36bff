"""The database of the workers: rows, and what can go wrong with them.

A commit is applied as ``stores.queue_changes.QueueChanges`` says, whole or not at all; without
transactions piece by piece (P8, which no store of the product needs yet). A COMMIT may stay without
an answer, and a standby may take over that lacks the newest commits.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy

from monstermq_shared.errors import StoreConflict
from monstermq_shared.positions import Mark
from monstermq_shared.records import Record, size_of
from monstermq_shared.stores.changes import (
    ClientChanges,
    Commit,
    LogState,
    QueuedMessage,
    SessionRow,
    StoredLogState,
    StoredSession,
)
from monstermq_shared.stores.queue_changes import Cut, OpenId, QueueChanges, QueueCount
from monstermq_shared.stores.queues import (
    KeptRow,
    KeptRows,
    OldestAsk,
    QueueAsk,
    QueuePage,
    StoredQueue,
)

LOG_ID = "simulation"

HISTORY_MAX = 12
"""Commits that a standby may lack."""

Holder = tuple[int, str]
"""Version and token of whoever commits a partition."""

Write = Callable[[], None]


class Table:
    """The rows of one partition, and who may write them.

    Attributes:
        holder: Version and token of the newest commit.
        state: What is kept with the mark.
    """

    def __init__(self) -> None:
        self.holder: Holder = (0, "")
        self.state = StoredLogState(
            mark=Mark(0, 0), log_id=LOG_ID, last_id=None, runs={}, fences={}, skips=()
        )

    def refuse_others(self, holder: Holder) -> None:
        """P5: refuse whoever has neither loaded these rows nor committed them last.

        Raises:
            StoreConflict: Somebody else has.
        """
        if self.holder != holder:
            raise StoreConflict(f"{self.holder} has them, not {holder}")

    def move(self, commit: Commit, holder: Holder) -> None:
        """Move the mark, and what is kept with it."""
        self.holder = holder
        self.state = moved(self.state, commit)


def moved(before: StoredLogState, commit: Commit) -> StoredLogState:
    """Return what is kept after a commit."""
    log = commit.log or LogState(log_id=LOG_ID, last_id=None)
    fences = {**before.fences, **log.fences}
    restart = commit.upto if commit.restart is None else commit.restart
    return StoredLogState(
        mark=Mark(commit.upto, restart),
        log_id=log.log_id,
        last_id=log.last_id,
        runs={run: [*at] for run, at in log.runs.items()},
        fences={name: at for name, at in fences.items() if at[1] >= log.fences_from_ms},
        skips=tuple(log.skips),
    )


class QueueTable(Table):
    """The queues of kept sessions in one partition of the bus.

    Attributes:
        rows: (client, offset) -> what waits.
        cuts: Client -> its cut.
        counts: Client -> what its cut says of its queue.
        open_ids: (client, packet id) -> what it is open since.
        redo: A commit that is not done yet (P8).
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[tuple[str, int], QueuedMessage] = {}
        self.cuts: dict[str, Cut] = {}
        self.counts: dict[str, QueueCount] = {}
        self.open_ids: dict[tuple[str, int], OpenId] = {}
        self.redo: Commit | None = None

    def copied(self) -> "QueueTable":
        """Return the same, which goes on by itself."""
        other = copy(self)
        other.rows, other.cuts = dict(self.rows), dict(self.cuts)
        other.counts, other.open_ids = dict(self.counts), dict(self.open_ids)
        return other

    # -- what a worker does ------------------------------------------------------------------------

    def load(self) -> list[StoredQueue]:
        """Return all clients, after what was begun is done (P8)."""
        if self.redo is not None:
            for write in self.writes(self.redo):
                write()
        clients = {*self.cuts, *(client_id for client_id, _ in self.open_ids)}
        return [self._stored(client_id) for client_id in sorted(clients)]

    def _stored(self, client_id: str) -> StoredQueue:
        opened = {number: at for (owner, number), at in self.open_ids.items() if owner == client_id}
        return StoredQueue(client_id, self.cuts.get(client_id), opened, self.waiting(client_id))

    def waiting(self, client_id: str) -> QueueCount:
        """Return what waits for a client."""
        rows = [row for (owner, _), row in sorted(self.rows.items()) if owner == client_id]
        records = [row.record for row in rows]
        oldest_ms = records[0].timestamp_ms if records else -1
        return QueueCount(len(records), sum(map(size_of, records)), oldest_ms)

    def commit(self, commit: Commit, holder: Holder, token: str) -> Holder:
        """Apply a commit in one transaction (P5).

        Raises:
            StoreConflict: Somebody else has committed.
        """
        self.refuse_others(holder)
        for write in self._row_writes(commit.queues or QueueChanges()):
            write()
        self.move(commit, (holder[0] + 1, token))
        return self.holder

    def begin(self, commit: Commit, holder: Holder, token: str) -> list[Write]:
        """Begin a commit without transaction (P8, a); return the writes that are left to do.

        Raises:
            StoreConflict: Somebody else has committed.
        """
        self.refuse_others(holder)
        self.move(commit, (holder[0] + 1, token))
        self.redo = commit
        return [*self.writes(commit)]

    def writes(self, commit: Commit) -> Iterator[Write]:
        """Yield what is done of a commit that has begun, in order (P8, b to e)."""
        yield from self._row_writes(commit.queues or QueueChanges())
        yield self._done

    def _done(self) -> None:
        self.redo = None
        self.holder = self.holder[0] + 1, self.holder[1]

    def _row_writes(self, changes: QueueChanges) -> Iterator[Write]:
        """Yield the writes of rows, in the order of the members of ``QueueChanges``."""
        for client_id, below in changes.below.items():
            yield _call(self._delete_below, client_id, below)
        for offset, (record, targets) in changes.queued.items():
            for client_id, qos in targets:
                yield _call(self._insert, client_id, offset, record, qos)
        for key, at in changes.open_ids.items():
            yield _call(_put, self.open_ids, key, at)
        for row in changes.dequeued:
            yield _call(self.rows.pop, row, None)
        for client_id, cut in changes.cuts.items():
            yield _call(_put, self.cuts, client_id, cut)
        for client_id, count in changes.counts.items():
            yield _call(_put, self.counts, client_id, count)

    def _delete_below(self, client_id: str, below: int) -> None:
        for row in [row for row in self.rows if row[0] == client_id and row[1] < below]:
            del self.rows[row]

    def _insert(self, client_id: str, offset: int, record: Record, qos: int) -> None:
        assert record.offset == offset
        self.rows.setdefault((client_id, offset), QueuedMessage(record=record, qos=qos))

    def oldest(self, ask: OldestAsk) -> tuple[int, int] | None:
        """Return the offset behind the oldest rows of a client, and how many they are (S5)."""
        found = sorted(offset for client_id, offset in self.rows if client_id == ask.client_id)
        found = found[: ask.messages]
        return (found[-1] + 1, len(found)) if found else None

    # -- what edges read ---------------------------------------------------------------------------

    def laid(self) -> "QueueTable":
        """Return the rows with what was begun laid over them (R5)."""
        if self.redo is None:
            return self
        other = self.copied()
        for write in other.writes(self.redo):
            write()
        return other

    def page(self, ask: QueueAsk) -> QueuePage:
        """Return a page, as of now (E5)."""
        found = sorted(
            offset
            for client_id, offset in self.rows
            if client_id == ask.client_id and ask.first <= offset < ask.before
        )
        rows = [self.rows[ask.client_id, offset] for offset in found[: ask.limit]]
        cut = self.cuts.get(ask.client_id)
        at = None if cut is None else (cut.epoch, cut.at)
        return QueuePage(rows, at, is_last=len(found) <= ask.limit)

    def subscriptions(self, client_id: str) -> dict[str, int]:
        """Return what the rows say: filter -> QoS."""
        cut = self.cuts.get(client_id)
        subscriptions = () if cut is None else cut.subscriptions
        return {topic_filter: qos for topic_filter, qos, _ in subscriptions}


def _call(function: Callable[..., object], *arguments: object) -> Write:
    def write() -> None:
        function(*arguments)

    return write


def _put(table: dict[object, object], key: object, value: object) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value


class SessionTable(Table):
    """The sessions of one partition of the sessions log."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions: dict[str, SessionRow] = {}
        self.subscriptions: dict[str, dict[str, int]] = {}
        self.opened: dict[str, dict[int, tuple[int | None, int | None]]] = {}

    def copied(self) -> "SessionTable":
        """Return the same, which goes on by itself."""
        other = copy(self)
        other.sessions = dict(self.sessions)
        other.subscriptions = {name: dict(at) for name, at in self.subscriptions.items()}
        other.opened = {name: dict(at) for name, at in self.opened.items()}
        return other

    def commit(self, commit: Commit, holder: Holder, token: str) -> Holder:
        """Apply a commit in one transaction (P5).

        Raises:
            StoreConflict: Somebody else has committed.
        """
        self.refuse_others(holder)
        for client_id, changes in commit.sessions.items():
            self._change(client_id, changes)
        self.move(commit, (holder[0] + 1, token))
        return self.holder

    def _change(self, client_id: str, changes: ClientChanges) -> None:
        if changes.ended or changes.cleared:
            for table in (self.sessions, self.subscriptions, self.opened):
                table.pop(client_id, None)
        if changes.session is not None:
            self.sessions[client_id] = changes.session
        subscriptions = self.subscriptions.setdefault(client_id, {})
        for topic_filter, qos in changes.subscriptions.items():
            _put(subscriptions, topic_filter, qos)  # type: ignore[arg-type]
        opened = self.opened.setdefault(client_id, {})
        for packet_id, position in changes.opened.items():
            _put(opened, packet_id, position)  # type: ignore[arg-type]

    def load(self) -> list[StoredSession]:
        """Return all sessions."""
        return [
            StoredSession(
                row=row,
                subscriptions=dict(self.subscriptions[client_id]),
                open_ids={},
                in_flight={},
                opened=dict(self.opened[client_id]),
                queued_messages=0,
                queued_size=0,
            )
            for client_id, row in sorted(self.sessions.items())
        ]

    def kept_rows(self, client_ids: Sequence[str]) -> KeptRows:
        """Return rows of clients, as of now (E2)."""
        found = [each for each in client_ids if each in self.sessions]
        return KeptRows(self.state.mark, {client_id: self._kept(client_id) for client_id in found})

    def _kept(self, client_id: str) -> KeptRow:
        row = self.sessions[client_id]
        subscriptions = self.subscriptions[client_id]
        return KeptRow(
            epoch=row.epoch or 0,
            incarnation=row.incarnation,
            expiry_s=row.expiry_s or 0,
            attached=row.connected,
            subscriptions={name: (qos, 0) for name, qos in subscriptions.items()},
            in_flight=dict(self.opened[client_id]),
            sent=row.sent,
        )


class SimDatabase:
    """All tables, and the standbys that may take over.

    Attributes:
        queues: By partition of the bus.
        sessions: By partition of the sessions log.
    """

    def __init__(self, messages: int, sessions: int) -> None:
        self.queues = [QueueTable() for _ in range(messages)]
        self.sessions = [SessionTable() for _ in range(sessions)]
        self._history: list[tuple[list[QueueTable], list[SessionTable]]] = []

    def committed(self) -> None:
        """Remember what there is now: a standby may have come just so far."""
        queues = [table.copied() for table in self.queues]
        self._history.append((queues, [table.copied() for table in self.sessions]))
        del self._history[:-HISTORY_MAX]

    @property
    def standbys(self) -> int:
        """How many moments a standby may have."""
        return len(self._history)

    def fail_over(self, commits: int) -> None:
        """Go on from a standby that lacks so many of the newest commits, less one."""
        queues, sessions = self._history[-commits]
        for table, before in zip(self.queues, queues, strict=True):
            vars(table).update(vars(before.copied()))
        for rows, older in zip(self.sessions, sessions, strict=True):
            vars(rows).update(vars(older.copied()))
        del self._history[len(self._history) - commits + 1 :]

    def reflected(self) -> Mapping[int, int]:
        """Return partition -> N."""
        return {p: table.state.mark.reflected for p, table in enumerate(self.queues)}
