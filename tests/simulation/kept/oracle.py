"""What the logs say, read by the words of R1 to R3 and S2, without any product code."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.simulation.kept.ledger import Ledger, number_of
from tests.simulation.kept.logs import LogEntry

from monstermq_shared.bus.facts import Claim, Detach, Drop, Marker, Subs
from monstermq_shared.messages import Will
from monstermq_shared.records import StampedRecord


class Unread:
    """R1: a record whose sequence is not above the highest of its run does not exist."""

    def __init__(self) -> None:
        self._highest: dict[bytes, int] = {}

    def is_new(self, entry: LogEntry) -> bool:
        """Whether the next record of a partition exists."""
        if entry.sequence <= self._highest.get(entry.writer, -1):
            return False
        self._highest[entry.writer] = entry.sequence
        return True


@dataclass(slots=True)
class OracleSession:
    """A client's session.

    Attributes:
        incarnation: The epoch of the claim that began it, -1 before the first one.
        is_kept: It outlives its connection.
        newest: The newest valid claim.
        attached: The same while it is not detached.
        run: The edge that claimed it.
        subscriptions: Filter -> QoS.
        will: Of the newest claim.
    """

    incarnation: int = -1
    is_kept: bool = True
    newest: int = -1
    attached: int | None = None
    run: bytes = b""
    subscriptions: dict[str, int] = field(default_factory=dict)
    will: Will | None = None


class Oracle:
    """Reads the sessions log as it grows, and the bus when all is over.

    Attributes:
        sessions: Client -> its session.
        due: The numbers of wills that became due.
    """

    def __init__(self, ledger: Ledger, messages: int, sessions: int) -> None:
        self.sessions: dict[str, OracleSession] = {}
        self.due: list[int] = []
        self._ledger = ledger
        self._sessions_unread = [Unread() for _ in range(sessions)]
        self._messages_unread = [Unread() for _ in range(messages)]

    def messages_landed(self, partition: int, entries: Sequence[LogEntry]) -> None:
        """Records have come to stand in a partition of the bus."""
        for entry in entries:
            if self._messages_unread[partition].is_new(entry) and not entry.kind:
                number = number_of(entry.record().payload)
                self._ledger.messages[number].landed.append(entry.landed)

    def sessions_landed(self, partition: int, entries: Sequence[LogEntry]) -> None:
        """Records have come to stand in a partition of the sessions log."""
        for entry in entries:
            if not self._sessions_unread[partition].is_new(entry):
                continue
            for fact in entry.facts:
                if isinstance(fact, Claim):
                    self._claim(fact, entry.offset)
                elif isinstance(fact, Subs):
                    self._subs(fact)
                elif isinstance(fact, Detach):
                    self._detach(fact)

    def session(self, client_id: str) -> OracleSession:
        """Return a client's session."""
        return self.sessions.setdefault(client_id, OracleSession())

    def _claim(self, claim: Claim, offset: int) -> None:
        session = self.session(claim.client_id)
        if claim.only_if is not None and claim.only_if != session.newest:
            return
        if session.attached is not None:
            self._due(session)
        if claim.clean or session.incarnation < 0 or not session.is_kept:
            session.incarnation = offset
            session.subscriptions = {}
        session.newest = offset
        session.attached = offset if claim.only_if is None else None
        session.is_kept = claim.expiry_s > 0
        session.will = claim.will
        session.run = claim.run
        self._ledger.incarnations[claim.client_id, offset] = session.incarnation

    def _subs(self, subs: Subs) -> None:
        session = self.session(subs.client_id)
        if session.attached == subs.epoch:
            session.subscriptions |= {topic_filter: qos for topic_filter, qos, _ in subs.add}
            for topic_filter in subs.remove:
                session.subscriptions.pop(topic_filter, None)

    def _detach(self, detach: Detach) -> None:
        session = self.session(detach.client_id)
        if session.attached == detach.epoch:
            if detach.will:
                self._due(session)
            session.attached = None

    def _due(self, session: OracleSession) -> None:
        if session.will is not None:
            self.due.append(number_of(session.will.payload))


class Position(NamedTuple):
    """Where a message stands."""

    partition: int
    offset: int


@dataclass(slots=True)
class Stream:
    """What counts of the bus.

    Attributes:
        positions: Message -> where it stands, once for each time that it counts.
        places: Payload of a transmission -> where it stands.
        landed: Payload of a transmission -> the step at which it came to stand there.
        dropped: Client -> partition -> below which its queue was dropped.
    """

    positions: dict[int, list[Position]] = field(default_factory=dict)
    places: dict[bytes, Position] = field(default_factory=dict)
    landed: dict[bytes, int] = field(default_factory=dict)
    dropped: dict[str, dict[int, int]] = field(default_factory=dict)

    def is_dropped(self, client_id: str, position: Position) -> bool:
        """Whether a message was dropped at the limit of a queue (S5)."""
        below = self.dropped.get(client_id, {}).get(position.partition, 0)
        return position.offset < below


def read_stream(partitions: Sequence[Sequence[LogEntry]]) -> Stream:
    """Read the bus from its beginning (R1, R3)."""
    stream = Stream()
    for partition, entries in enumerate(partitions):
        unread, fences = Unread(), dict[str, int]()
        for entry in entries:
            if not unread.is_new(entry):
                continue
            record = entry.record()
            for fact in entry.facts:
                if isinstance(fact, Marker):
                    fences[fact.client_id] = max(fact.epoch, fences.get(fact.client_id, -1))
                elif isinstance(fact, Drop):
                    below = stream.dropped.setdefault(fact.client_id, {})
                    below[partition] = max(fact.below, below.get(partition, 0))
            if entry.kind or (
                isinstance(record, StampedRecord)
                and record.epoch < fences.get(record.client_id, -1)
            ):
                continue
            position = Position(partition, entry.offset)
            stream.positions.setdefault(number_of(record.payload), []).append(position)
            stream.places[record.payload] = position
            stream.landed[record.payload] = entry.landed
    return stream
