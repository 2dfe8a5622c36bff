"""Turns: the facts that one commit makes durable, and what may be said once it has.

One turn is being committed while the next collects what arrives meanwhile, so the slower the disk,
the larger the turns: group commit (ARCHITECTURE 11.4).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from monstermq_shared.bus.internal import InternalLog
from monstermq_shared.counters import Counters
from monstermq_shared.records import Record
from monstermq_shared.stores.ports import ClientChanges, SessionRow

ANSWER_SIZE = 300
"""Bytes that an answer takes while it waits for a commit, about."""


ROW_SIZE = 300
"""Bytes that a row of a session or a subscription takes beside its texts, about."""

DELETION_SIZE = 100
"""Bytes that the deletion of a queue row takes while it waits for a commit, about."""


class Speaker(Protocol):
    """A session, as far as the order of what its client is told goes."""

    held_turn: int


class Turn:
    """What one commit changes.

    Attributes:
        number: Turns are numbered from 1 without a gap.
        clients: Client id -> session facts.
        records: Records the views want, in order of offset.
        after: Calls to make once this is committed, in order.
        upto: The next offset when the turn was taken.
    """

    __slots__ = ("after", "clients", "number", "records", "upto")

    def __init__(self, number: int) -> None:
        self.number = number
        self.clients: dict[str, ClientChanges] = {}
        self.records: list[Record] = []
        self.after: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self.upto = 0


class Journal:
    """The turn that collects facts, and the one that is being committed.

    Attributes:
        log: Where records and offsets come from.
        turn: The one that collects.
        committing: The one the driver has taken and not yet reported on.
        committed: The number of the last committed turn.
        backlog_size: Bytes of records, rows and answers that wait for a commit, the running one
            included.
    """

    __slots__ = (
        "_committing_size",
        "_counters",
        "_parting",
        "backlog_size",
        "committed",
        "committing",
        "log",
        "turn",
    )

    def __init__(self, log: InternalLog, counters: Counters) -> None:
        self.log = log
        self.turn = Turn(1)
        self.committing: Turn | None = None
        self.committed = 0
        self.backlog_size = 0
        self._committing_size = 0
        self._parting = False
        self._counters = counters

    def changes(self, client_id: str) -> ClientChanges:
        """Return what the collecting turn changes for a client, to add to."""
        clients = self.turn.clients
        changes = clients.get(client_id)
        if changes is None:
            changes = clients[client_id] = ClientChanges()
        return changes

    def is_waiting(self, client_id: str) -> bool:
        """Whether facts of a client are not committed yet."""
        committing = self.committing
        return client_id in self.turn.clients or (
            committing is not None and client_id in committing.clients
        )

    def end_client(self, client_id: str) -> ClientChanges:
        """Forget a client's facts of this turn and delete all it has in the database."""
        self._parting = True
        changes = self.turn.clients[client_id] = ClientChanges(ended=True)
        return changes

    def write_session(self, row: SessionRow) -> None:
        """Insert or replace a session's row; it has the will."""
        self.changes(row.client_id).session = row
        self._parting |= not row.connected
        self.backlog_size += ROW_SIZE
        if row.will is not None:
            self.backlog_size += len(row.will.topic) + len(row.will.payload)

    def write_subscriptions(self, client_id: str, changed: Mapping[str, int | None]) -> None:
        """Insert, replace or delete (None) subscriptions of a client."""
        self.changes(client_id).subscriptions.update(changed)
        self.backlog_size += sum(ROW_SIZE + len(topic_filter) for topic_filter in changed)

    def append(self, records: list[Record], size: int) -> None:
        """Add records to the log; the views get them with this turn."""
        self.log.append(records)
        self.backlog_size += size

    def count(self, size: int) -> None:
        """Count bytes of rows that wait for this turn's commit."""
        self.backlog_size += size

    def dequeue(self, client_id: str, offset: int) -> None:
        """Delete a queue row. One that was not handed to the database is never written."""
        changes = self.changes(client_id)
        if changes.queued.pop(offset, None) is None:
            changes.dequeued.append(offset)
            self.backlog_size += DELETION_SIZE
        else:
            self._counters.rows_elided += 1

    def after(
        self, speaker: Speaker, durable: bool, call: Callable[..., None], *arguments: object
    ) -> None:
        """Make a call to a client's link: after the commit if it tells something durable.

        What tells nothing durable goes at once, but never before what was said earlier and still
        waits: PUBACKs leave in the order of their PUBLISHes [MQTT-4.6.0-2].
        """
        if durable or speaker.held_turn > self.committed:
            turn = self.turn
            speaker.held_turn = turn.number
            turn.after.append((call, arguments))
            self.backlog_size += ANSWER_SIZE
        else:
            call(*arguments)

    def uncommitted(self) -> tuple[Sequence[Record], ...]:
        """Return the records that the views have not committed yet, in order of offset."""
        committing = self.committing
        return (
            committing.records if committing is not None else (),
            self.turn.records,
            self.log.waiting,
        )

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been collected."""
        turn = self.turn
        return not (turn.clients or turn.after or turn.records or self.log.waiting)

    @property
    def is_waited_for(self) -> bool:
        """Whether what is collected should be committed soon.

        Somebody is told something then; or a client has gone, whose will must not be published if
        we crash now, since it has said goodbye.
        """
        return bool(self.turn.after) or self._parting

    @property
    def collected_size(self) -> int:
        """Bytes of ``backlog_size`` that are not being committed yet."""
        return self.backlog_size - self._committing_size

    @property
    def backlog_records(self) -> int:
        """How many records the views have not committed yet."""
        return sum(map(len, self.uncommitted()))

    def backlog_age_s(self, wall_us: int) -> float:
        """Seconds since the oldest record came that is not committed yet; 0 if there is none."""
        for records in self.uncommitted():
            if records:
                return max(wall_us - records[0].timestamp_us, 0) / 1_000_000
        return 0.0

    def take(self) -> Turn | None:
        """Hand the collected facts to the driver, unless there are none or it is still busy."""
        turn = self.turn
        turn.records.extend(self.log.take())
        if self.committing is not None or not (turn.clients or turn.records or turn.after):
            return None
        turn.upto = self.log.next_offset
        self.turn = Turn(turn.number + 1)
        self._parting = False
        self.committing = turn
        self._committing_size = self.backlog_size
        return turn

    def done(self) -> None:
        """The taken turn is committed: say what was waiting for it."""
        turn = self.committing
        assert turn is not None
        self.committing = None
        self.committed = turn.number
        self.backlog_size -= self._committing_size
        self._committing_size = 0
        for call, arguments in turn.after:
            call(*arguments)
