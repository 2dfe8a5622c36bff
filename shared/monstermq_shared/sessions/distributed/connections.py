"""Connections come and go on a bus: claims, takeovers, and ends.

Who has a client is decided by the sessions log alone: the newest claim there, wherever it was made
(E2, E12).
"""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import takewhile

from monstermq_shared.bus.fact_reading import SESSION_KINDS, facts_of
from monstermq_shared.bus.facts import Claim, Detach, Fact, Lease, Open, Subs
from monstermq_shared.bus.header import Kind
from monstermq_shared.bus.ports import Entry, RecordBatch
from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.counters import Counters
from monstermq_shared.errors import UnknownFact
from monstermq_shared.sessions.distributed.kept import KeptSession
from monstermq_shared.sessions.distributed.kept_states import KeptStates
from monstermq_shared.sessions.distributed.kept_subscribing import FactRead
from monstermq_shared.sessions.distributed.ports import FactWriter, Ticket
from monstermq_shared.sessions.distributed.read_back import ReadBack
from monstermq_shared.sessions.distributed.session import BusSession, Refusable
from monstermq_shared.sessions.ports import AttachRequest, Link

PIECE_SIZE = 32 * 1024
"""Bytes of records of facts that are handled at once: about a millisecond. A record may have one
fact, or thousands."""

_RECORD_SIZE = 300
"""What a record costs beside its facts, in bytes of facts."""

CLAIMS_MAX = 20_000
"""Claims that may wait to be read back before nobody is let in: while the log is away, clients give
up and come again, and each time leaves a claim."""

TAKEN_MAX = 10_000
"""Clients that were taken by other edges and are remembered; beyond it, it begins anew."""


class _DetachTicket:
    """Of a detach, which is appended again until the log has it (R1)."""

    def __init__(self, again: Callable[[], None]) -> None:
        self._again = again

    def appended(self) -> None:
        """See ``Ticket``."""

    def refused(self) -> None:
        """See ``Ticket``."""
        self._again()


class Connections:
    """All connections of this edge, by what the sessions log says of them.

    Attributes:
        sessions: Client id -> the session whose claim is the newest.
        positions: Partition of the sessions log -> the next offset to handle.
        stopped: Partition -> why it is read no more (R6).
        hands_over: The edge stops, and its clients find another one: no will is due (E11).
        others: Writers of leases beside this edge -> when the newest was read.
        now_s: Monotonic seconds, as the last tick brought them.
        wall_ms: The same for milliseconds UTC.

    Args:
        facts: The sessions log.
        states: Keeps what the rows of kept sessions do not show.
        read_back: Who waits for facts that were appended here, beside claims.
        left: Called when a connection has gone, before anything else may ask for it.
        begun: Called when a claim was read back and its connection is there.
        counters: What is counted.
    """

    def __init__(
        self,
        facts: FactWriter,
        states: KeptStates,
        read_back: ReadBack[FactRead],
        left: Callable[[BusSession, Link], None],
        begun: Callable[[BusSession, Link], None],
        counters: Counters,
    ) -> None:
        self.sessions: dict[str, BusSession] = {}
        self.positions: dict[int, int] = {}
        self.stopped: dict[int, str] = {}
        self.hands_over = False
        self.others: dict[bytes, float] = {}
        self.now_s = 0.0
        self.wall_ms = 0
        self._facts = facts
        self._states = states
        self._read_facts = read_back
        self._left = left
        self._begun = begun
        self._counters = counters
        # Those whose claim is not read back (R4); and client id -> how many of them are its.
        self._claims = ReadBack[BusSession](facts.partitions)
        self._claiming: dict[str, int] = {}
        # Connections without CONNACK -> when their claim was made, oldest first.
        self._beginning: dict[BusSession, float] = {}
        # Clients that another edge took from here and has, as far as the log says.
        self._taken: set[str] = set()
        self._batches: deque[RecordBatch] = deque()
        self._index = 0

    # -- what connections ask --------------------------------------------------------------------

    def attach(
        self, session: BusSession, link: Link, request: AttachRequest, expiry_s: int
    ) -> None:
        """Claim a client (E2); its packets wait until the claim is read back, at least.

        Args:
            session: Of the connection.
            link: The connection.
            request: What it asks for.
            expiry_s: How long the session outlives it, 0: not at all.
        """
        session.link = link
        session.will = request.will
        link.hold()
        protocol = request.information.get("ProtocolVersion", 0)
        claim = Claim(
            client_id=request.client_id,
            clean=request.clean,
            expiry_s=expiry_s,
            will=request.will,
            run=self._facts.run,
            protocol=int(protocol),
        )
        place = self._append(session.partition, claim, Refusable(session))
        self._claims.expect(session.partition, place, session)
        self._claiming[session.client_id] = self._claiming.get(session.client_id, 0) + 1
        self._beginning[session] = self.now_s

    def _append(self, partition: int, fact: Claim | Detach, ticket: Ticket) -> tuple[int, int]:
        return self._facts.append_facts(partition, [fact], self.wall_ms, ticket)

    def detach(self, session: BusSession, reason: CloseReason) -> None:
        """A connection has ended (E11)."""
        link = session.link
        if link is None:
            return
        will = session.will is not None and self._is_will_due(reason)
        in_flight, sent = session.unfinished() if isinstance(session, KeptSession) else (None, None)
        self._leave(session, link)
        if session.epoch is None:
            session.will_is_due = will
            return
        self._append_detach(
            session.partition,
            Detach(
                client_id=session.client_id,
                epoch=session.epoch,
                will=will,
                in_flight=in_flight,
                sent=sent,
                reason=reason.name.lower(),
            ),
        )

    def _is_will_due(self, reason: CloseReason) -> bool:
        if reason is CloseReason.SHUTTING_DOWN:
            return not self.hands_over
        return reason is not CloseReason.CLIENT_DISCONNECTED

    def _leave(self, session: BusSession, link: Link) -> None:
        if self.sessions.get(session.client_id) is session:
            del self.sessions[session.client_id]
        self._beginning.pop(session, None)
        session.link = None
        session.owed.clear()
        self._left(session, link)

    def _append_detach(self, partition: int, fact: Detach) -> None:
        """It is appended until the log has it (R1); by what is read meanwhile it counts or not."""
        again = partial(self._append_detach, partition, fact)
        self._append(partition, fact, _DetachTicket(again))

    def is_connected(self, client_id: str) -> bool:
        """Whether a connection has the client, or is about to; also one of another edge.

        Of those of other edges, only who was taken from here is known: two edges' clients that
        take each other over are as many as two of one edge (E12).
        """
        return client_id in self.sessions or client_id in self._claiming or client_id in self._taken

    def take_overdue(self, before_s: float) -> list[BusSession]:
        """Return sessions that were to begin before a time, once, for the caller to end.

        Nothing is read from them, so it would not even be seen that their clients give up.
        """
        made = self._beginning.items()
        overdue = [session for session, _ in takewhile(lambda each: each[1] <= before_s, made)]
        for session in overdue:
            del self._beginning[session]
        return overdue

    def is_full(self, partition: int) -> bool:
        """Whether nobody is to be let in whose claim would stand in this partition."""
        return self._facts.is_full(partition) or self.claiming >= CLAIMS_MAX

    @property
    def claiming(self) -> int:
        """Claims that have not been read back."""
        return len(self._claims)

    # -- what is read ----------------------------------------------------------------------------

    def add(self, batch: RecordBatch) -> None:
        """Take what was read of the sessions log."""
        self._batches.append(batch)

    @property
    def waiting(self) -> int:
        """Entries that are not handled yet."""
        return sum(len(batch.entries) for batch in self._batches) - self._index

    @property
    def batches(self) -> int:
        """Batches that hold them."""
        return len(self._batches)

    def work(self) -> bool:
        """Handle some of what was read; return whether there is more."""
        left = PIECE_SIZE
        while self._batches and left > 0:
            batch = self._batches[0]
            left -= self._some_of(batch, left)
            if self._index >= len(batch.entries):
                self._index = 0
                self._batches.popleft()
                if batch.partition not in self.stopped:
                    self.positions[batch.partition] = batch.upto
        return bool(self._batches)

    def _some_of(self, batch: RecordBatch, size_max: int) -> int:
        """Handle the next entries of a batch; return their bytes, about."""
        partition, entries = batch.partition, batch.entries
        size = 0
        while self._index < len(entries) and size < size_max:
            entry = entries[self._index]
            self._index += 1
            size += entry.size + _RECORD_SIZE
            if partition not in self.stopped:
                self._handle(partition, entry)
        return size

    def _handle(self, partition: int, entry: Entry) -> None:
        if entry.foreign:
            self._counters.records_unreadable += 1
            return
        try:
            facts = facts_of(entry, SESSION_KINDS)
        except UnknownFact as exc:  # R6
            self._stop(partition, entry, str(exc))
            return
        if entry.kind == Kind.FACTS:
            self._take(partition, entry, facts)
        elif entry.writer == self._facts.run:
            self._read_back(partition, (entry.sequence, 0))
        elif any(isinstance(fact, Lease) for fact in facts):
            # Workers tell of gaps in such records.
            self.others[entry.writer] = self.now_s

    def _take(self, partition: int, entry: Entry, facts: Sequence[Fact]) -> None:
        is_own = entry.writer == self._facts.run
        for index, fact in enumerate(facts):
            self._states.take(partition, entry.offset, fact, entry.time_ms)
            if isinstance(fact, Claim):
                self._claimed(partition, entry, index, fact)
            elif isinstance(fact, Detach):
                self._detached(fact)
            elif is_own and isinstance(fact, Subs | Open):
                self._read_own(partition, (entry.sequence, index), fact)

    def _read_own(self, partition: int, place: tuple[int, int], fact: Subs | Open) -> None:
        """R4: act on what counts (R2): its connection is here, and nobody has the client since."""
        waiter, _ = self._read_facts.read(partition, place)
        if waiter is not None:
            session = self.sessions.get(fact.client_id)
            waiter(session is not None and session.epoch == fact.epoch)

    def _stop(self, partition: int, entry: Entry, why: str) -> None:
        """Read a partition no more (R6): who waits for it is ended by its deadline (E2, E14)."""
        self.stopped[partition] = f"stopped at offset {entry.offset}: {why}"
        self.positions[partition] = entry.offset
        self._read_facts.stop(partition)
        for session in self._claims.stop(partition):
            self._claims_no_more(session)

    def _claimed(self, partition: int, entry: Entry, index: int, fact: Claim) -> None:
        """The client is whose claim this is, unless it is conditional on another one (R2)."""
        newest = self.sessions.get(fact.client_id)
        if fact.only_if is not None and newest is not None and newest.epoch != fact.only_if:
            return
        session = None
        if entry.writer == self._facts.run:
            session = self._read_back(partition, (entry.sequence, index))
        if newest is not None:
            self._counters.takeovers += 1
            self._end(newest, CloseReason.TAKEN_OVER)
        if entry.writer == self._facts.run:
            self._taken.discard(fact.client_id)
        elif newest is not None:
            self._note_taken(fact.client_id)
        if session is not None:
            self._begin(session, entry.offset)

    def _note_taken(self, client_id: str) -> None:
        if len(self._taken) >= TAKEN_MAX:
            self._taken.clear()
        self._taken.add(client_id)

    def _read_back(self, partition: int, place: tuple[int, int]) -> BusSession | None:
        """Return whose claim this is; what was to come before it was refused (R1)."""
        session, refused = self._claims.read(partition, place)
        for each in refused if session is None else (*refused, session):
            self._claims_no_more(each)
        return session

    def _claims_no_more(self, session: BusSession) -> None:
        self._claiming[session.client_id] -= 1
        if not self._claiming[session.client_id]:
            del self._claiming[session.client_id]

    def _begin(self, session: BusSession, epoch: int) -> None:
        session.epoch = epoch
        link = session.link
        if link is None:
            # It has gone meanwhile (E11).
            fact = Detach(
                client_id=session.client_id,
                epoch=epoch,
                will=session.will_is_due,
                reason="gone before its claim",
            )
            self._append_detach(session.partition, fact)
            return
        self.sessions[session.client_id] = session
        self._counters.clients_maximum = max(self._counters.clients_maximum, len(self.sessions))
        self._begun(session, link)

    def serve(self, session: BusSession, *, present: bool) -> None:
        """CONNACK is due."""
        link = session.link
        assert link is not None
        self._beginning.pop(session, None)
        link.attached(present)
        link.resume()

    def _detached(self, fact: Detach) -> None:
        """Another process has ended a connection of ours: an operator, or a missed lease (E12)."""
        self._taken.discard(fact.client_id)
        session = self.sessions.get(fact.client_id)
        if session is not None and session.epoch == fact.epoch:
            self._end(session, CloseReason.DETACHED)

    def _end(self, session: BusSession, reason: CloseReason) -> None:
        """Close a connection of which the log says already that it has ended."""
        link = session.link
        assert link is not None
        self._leave(session, link)
        link.close(reason)

    def others_live(self, within_s: float) -> bool:
        """Whether another edge has written a lease that recently."""
        now = self.now_s
        self.others = {run: at for run, at in self.others.items() if now - at < within_s}
        return bool(self.others)
