"""Turns: the facts that one commit makes durable, and what may be said once it has.

One turn is being committed while the next collects what arrives meanwhile, so the slower the disk,
the larger the turns: group commit without a timer (ARCHITECTURE 11.4). A turn that is large enough
is set aside and the next one begun, so that what follows a commit does not take long.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from monstermq_shared.bus.internal import InternalLog
from monstermq_shared.counters import Counters
from monstermq_shared.records import Record
from monstermq_shared.stores.changes import ClientChanges, SessionRow

ANSWER_SIZE: Final = 300
"""Bytes that an answer takes while it waits for a commit, about."""


TURN_SIZE = 2 * 1024 * 1024
"""Bytes of facts after which a turn is large enough: a few thousand small messages."""

ROW_SIZE = 300
"""Bytes that a row of a session or a subscription takes beside its texts, about."""

DELETION_SIZE: Final = 100
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
        size: Bytes of all that, once the turn has ended.
        upto: The next offset when the turn ended.
    """

    __slots__ = ("after", "clients", "number", "records", "size", "upto")

    def __init__(self, number: int) -> None:
        self.number = number
        self.clients: dict[str, ClientChanges] = {}
        self.records: list[Record] = []
        self.after: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self.size = 0
        self.upto = 0

    def is_empty(self) -> bool:
        """Whether there is nothing to commit, and nobody to tell."""
        return not (self.clients or self.records or self.after)


class Journal:
    """The turn that collects facts, those that wait, and the one that is being committed.

    Attributes:
        log: Where records and offsets come from.
        turn: The one that collects.
        committing: The one the driver has taken and not yet reported on.
        committed: The number of the last committed turn.
        backlog_size: Bytes of records, rows and answers that wait for a commit, the running one
            included.
        turn_size: See ``TURN_SIZE``.
    """

    __slots__ = (
        "_counters",
        "_ended",
        "_ended_size",
        "_parting",
        "backlog_size",
        "committed",
        "committing",
        "log",
        "turn",
        "turn_size",
    )

    def __init__(self, log: InternalLog, counters: Counters) -> None:
        self.log = log
        self.turn = Turn(1)
        self.committing: Turn | None = None
        self.committed = 0
        self.backlog_size = 0
        # Turns that are to be committed, the oldest first, and the bytes of them and of the one
        # that is being committed.
        self._ended: deque[Turn] = deque()
        self._ended_size = 0
        self._parting = False
        self.turn_size = TURN_SIZE
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
        return any(client_id in turn.clients for turn in self._turns())

    def _turns(self) -> Iterator[Turn]:
        """Yield the turns that are not committed, in order."""
        if self.committing is not None:
            yield self.committing
        yield from self._ended
        yield self.turn

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

    def dequeue(self, client_id: str, offset: int, size: int | None) -> None:
        """Delete a queue row. One that was not handed to the database is never written.

        Args:
            client_id: Whose row.
            offset: Of the message.
            size: Bytes of the row, None if they are not known.
        """
        changes = self.changes(client_id)
        if changes.queued.pop(offset, None) is None:
            changes.dequeued[offset] = size
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
        return (*(turn.records for turn in self._turns()), self.log.waiting)

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been collected."""
        turn = self.turn
        facts = turn.clients or turn.after or turn.records or self.log.waiting or self._ended
        return not facts

    @property
    def is_settled(self) -> bool:
        """Whether everything is committed."""
        return self.is_empty and self.committing is None

    @property
    def is_waited_for(self) -> bool:
        """Whether what is collected should be committed soon.

        Somebody is told something then; or a client has gone, whose will must not be published if
        we crash now, because it has said goodbye.
        """
        return bool(self._ended or self.turn.after) or self._parting

    @property
    def collected_size(self) -> int:
        """Bytes of ``backlog_size`` that are not being committed yet."""
        committing = self.committing
        return self.backlog_size - (committing.size if committing is not None else 0)

    @property
    def backlog_records(self) -> int:
        """How many records the views have not committed yet."""
        return sum(map(len, self.uncommitted()))

    def backlog_age_s(self, wall_ms: int) -> float:
        """Seconds since the oldest record came that is not committed yet; 0 if there is none."""
        for records in self.uncommitted():
            if records:
                return max(wall_ms - records[0].timestamp_ms, 0) / 1000
        return 0.0

    def take(self) -> Turn | None:
        """Hand the oldest facts to the driver, unless there are none or it is still busy."""
        turn = self.turn
        turn.records.extend(self.log.take())
        if self.backlog_size - self._ended_size > self.turn_size:
            self._end_turn()
        if self.committing is not None:
            return None
        if not self._ended:
            if turn.is_empty():
                return None
            self._end_turn()
        self.committing = self._ended.popleft()
        return self.committing

    def _end_turn(self) -> None:
        """Let the facts so far be committed together, apart from those that follow."""
        turn = self.turn
        turn.upto = self.log.next_offset
        turn.size = self.backlog_size - self._ended_size
        self._ended_size = self.backlog_size
        self._ended.append(turn)
        self.turn = Turn(turn.number + 1)
        self._parting = False

    def done(self) -> None:
        """The taken turn is committed: say what was waiting for it."""
        turn = self.committing
        assert turn is not None
        self.committing = None
        self.committed = turn.number
        self.backlog_size -= turn.size
        self._ended_size -= turn.size
        for call, arguments in turn.after:
            call(*arguments)
