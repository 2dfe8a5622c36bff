"""What one partition of the sessions log makes of its facts: who is connected where (R2).

A pure fold: facts in; rows, and what the worker has to append, out. The same facts give the same
rows and the same wills with the same sequences, whoever folds them and however often (S2).

In this release edges serve clean connections only. A kept session is claimed, subscribed and
detached here as the protocol says, but nobody owes it anything yet: facts that only such a debt
has stop the partition, because to pass them over would lose it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from monstermq_shared.bus.facts import Claim, Detach, Fact, Gap, Lease, Subs
from monstermq_shared.errors import UnknownFact
from monstermq_shared.messages import Will
from monstermq_shared.stores.changes import ClientChanges, SessionChanges, SessionRow, StoredSession

FACTS_MAX = 65_536
"""Facts of one record whose wills have sequences of their own (S2)."""

LEASE_MS_MAX = 10 * 60 * 1000
"""What an edge says of its lease counts up to this: else one odd record would keep clients."""

EXPIRY_S_MAX = 2**32 - 1
"""The longest expiry that MQTT knows."""

REASON_LEASE = "lease"
"""Why the worker detaches the clients of an edge that says nothing any more."""


class WillDue(NamedTuple):
    """A will to append (S2).

    Attributes:
        client_id: Whose.
        will: What it says.
        sequence: Of the fact that made it due; it grows from will to will of one partition.
    """

    client_id: str
    will: Will
    sequence: int


class _Session:
    """A session as of the last fact.

    Attributes:
        attached: Whether its connection is not detached.
        changed_ms: When it was claimed or detached.
    """

    __slots__ = (
        "attached",
        "changed_ms",
        "epoch",
        "expiry_s",
        "incarnation",
        "protocol",
        "run",
        "will",
    )

    def __init__(self, claim: Claim, epoch: int, incarnation: int, time_ms: int) -> None:
        self.attached = True
        self.changed_ms = time_ms
        self.epoch = epoch
        self.expiry_s = claim.expiry_s
        self.incarnation = incarnation
        self.protocol = claim.protocol
        self.run = claim.run
        self.will = claim.will

    @classmethod
    def stored(cls, row: SessionRow) -> "_Session":
        """Return what a row says."""
        claim = Claim(
            client_id=row.client_id,
            clean=row.clean,
            expiry_s=row.expiry_s or 0,
            will=row.will,
            run=bytes.fromhex(row.run),
            protocol=int(row.information.get(_PROTOCOL, 0)),
        )
        session = cls(claim, row.epoch or 0, row.incarnation, row.updated_ms)
        session.attached = row.connected
        return session

    def row(self, client_id: str) -> SessionRow:
        """Return its row."""
        return SessionRow(
            client_id=client_id,
            incarnation=self.incarnation,
            clean=not self.expiry_s,
            connected=self.attached,
            updated_ms=self.changed_ms,
            information={_PROTOCOL: self.protocol},
            will=self.will,
            epoch=self.epoch,
            run=self.run.hex(),
            expiry_s=self.expiry_s,
        )


_PROTOCOL = "ProtocolVersion"
_QOS = {0, 1, 2}


class Claims:
    """The sessions of one partition.

    Args:
        sessions: As the rows have them.
        lease_ms: How long an edge may be silent that has said nothing yet.

    Attributes:
        invalid: Facts that did not count (R2).
    """

    def __init__(self, sessions: Iterable[StoredSession], lease_ms: int) -> None:
        self.invalid = 0
        self._lease_ms = lease_ms
        self._sessions = {at.row.client_id: _Session.stored(at.row) for at in sessions}
        self._changes: dict[str, ClientChanges] = {}
        self._wills: list[WillDue] = []
        # run -> its attached clients, and the time of reading at which it is overdue.
        self._clients: dict[bytes, set[str]] = {}
        self._read_ms = 0
        for client_id, session in self._sessions.items():
            if session.attached:
                self._clients.setdefault(session.run, set()).add(client_id)
        self._due_ms: dict[bytes, int] = dict.fromkeys(self._clients, lease_ms)

    def __len__(self) -> int:
        """Return how many sessions there are."""
        return len(self._sessions)

    @property
    def holds_changes(self) -> bool:
        """Whether ``flush`` would return something."""
        return bool(self._changes or self._wills)

    def attached(self) -> Mapping[str, int]:
        """Return run, in hex -> how many clients its edge has."""
        return {run.hex(): len(clients) for run, clients in self._clients.items()}

    @staticmethod
    def check(facts: Sequence[Fact]) -> None:
        """Refuse facts of which one cannot be taken: then none of its record may be.

        Raises:
            UnknownFact: Nobody can say here what it means (R6), or no edge can have written it.
        """
        if len(facts) > FACTS_MAX:
            raise UnknownFact(f"{len(facts)} facts in one record")
        for fact in facts:
            _check(fact)

    def take(self, facts: Sequence[Fact], offset: int, time_ms: int) -> None:
        """Take the facts of one record, which were checked.

        Args:
            facts: In order.
            offset: Of their record.
            time_ms: The same.
        """
        for index, fact in enumerate(facts):
            sequence = offset * FACTS_MAX + index
            match fact:
                case Claim():
                    self._claim(fact, offset, sequence, time_ms)
                case Detach():
                    self._detach(fact, sequence, time_ms)
                case Lease():
                    self._lease(fact)
                case Subs():
                    self._subscribe(fact)
                case _:
                    # A gap: clean connections are owed nothing by rows, so they miss nothing.
                    pass

    def flush(self) -> tuple[SessionChanges, list[WillDue]]:
        """Return what has changed since, and the wills that became due, in order of the facts."""
        changes, self._changes = self._changes, {}
        wills, self._wills = self._wills, []
        for client_id, change in changes.items():
            session = self._sessions.get(client_id)
            change.session = None if session is None else session.row(client_id)
        return changes, wills

    # -- facts -----------------------------------------------------------------------------------

    def _claim(self, claim: Claim, offset: int, sequence: int, time_ms: int) -> None:
        client_id = claim.client_id
        before = self._sessions.get(client_id)
        is_end = claim.only_if is not None
        if is_end and (before is None or before.epoch != claim.only_if):
            self.invalid += 1  # R2
            return
        if before is not None and before.attached:
            self._let_go(client_id, before)
            self._due(client_id, before, sequence)
        is_new = claim.clean or before is None or not before.expiry_s
        if is_new and before is not None and before.expiry_s:
            self._ended(client_id)
        if is_end:
            # Nobody is connected by it.
            self._ended(client_id)
            return
        session = _Session(
            claim, offset, offset if is_new or before is None else before.incarnation, time_ms
        )
        self._sessions[client_id] = session
        self._clients.setdefault(claim.run, set()).add(client_id)
        self._due_ms.setdefault(claim.run, self._read_ms + self._lease_ms)
        self._changed(client_id)

    def _detach(self, detach: Detach, sequence: int, time_ms: int) -> None:
        session = self._valid(detach.client_id, detach.epoch)
        if session is None:
            return
        self._let_go(detach.client_id, session)
        if detach.will:
            self._due(detach.client_id, session, sequence)
        session.attached = False
        session.changed_ms = time_ms
        session.will = None
        if session.expiry_s:
            self._changed(detach.client_id)
        else:
            self._ended(detach.client_id)  # S1

    def _subscribe(self, subs: Subs) -> None:
        if self._valid(subs.client_id, subs.epoch) is None:
            return
        subscriptions = self._changed(subs.client_id).subscriptions
        for topic_filter, qos, _ in subs.add:
            subscriptions[topic_filter] = qos
        for topic_filter in subs.remove:
            subscriptions[topic_filter] = None

    def _valid(self, client_id: str, epoch: int) -> _Session | None:
        """R2: return the session if the fact's epoch is the newest, and attached."""
        session = self._sessions.get(client_id)
        if session is None or session.epoch != epoch or not session.attached:
            self.invalid += 1
            return None
        return session

    def _changed(self, client_id: str) -> ClientChanges:
        return self._changes.setdefault(client_id, ClientChanges())

    def _ended(self, client_id: str) -> None:
        """All there was of the client goes."""
        self._sessions.pop(client_id, None)
        self._changes[client_id] = ClientChanges(ended=True)

    def _due(self, client_id: str, session: _Session, sequence: int) -> None:
        if session.will is not None:
            self._wills.append(WillDue(client_id, session.will, sequence))

    # -- leases (S3) -----------------------------------------------------------------------------

    def _let_go(self, client_id: str, session: _Session) -> None:
        """The session's edge does not have the client any more."""
        clients = self._clients[session.run]
        clients.discard(client_id)
        if not clients:
            del self._clients[session.run]
            self._due_ms.pop(session.run, None)

    def _lease(self, lease: Lease) -> None:
        if lease.run in self._clients:
            self._due_ms[lease.run] = self._read_ms + min(lease.for_ms, LEASE_MS_MAX)

    def at_end(self, elapsed_ms: int) -> Mapping[bytes, Sequence[Detach]]:
        """Time has passed in which the log was read, and nothing more was in it.

        Args:
            elapsed_ms: How much; time in which nothing could be read does not count.

        Returns:
            What to append, by the run of each edge that was silent for a whole lease: its clients.
            What is not read back is returned once more, a lease later.
        """
        self._read_ms += elapsed_ms
        silent = [run for run, due_ms in self._due_ms.items() if due_ms <= self._read_ms]
        for run in silent:
            self._due_ms[run] = self._read_ms + self._lease_ms
        return {run: [*map(self._detach_of, self._clients[run])] for run in silent}

    def _detach_of(self, client_id: str) -> Detach:
        epoch = self._sessions[client_id].epoch
        return Detach(client_id=client_id, epoch=epoch, will=True, reason=REASON_LEASE)


def _check(fact: Fact) -> None:
    """Refuse what no edge of this release writes, and no row or record could say."""
    if isinstance(fact, Claim):
        _check_claim(fact)
    elif isinstance(fact, Subs):
        _check_subs(fact)
    elif not isinstance(fact, Detach | Lease | Gap):
        raise UnknownFact(
            f"a fact {type(fact).__name__.lower()} of client {fact.client_id!r:.100} in the "
            "sessions log, which this release cannot keep"
        )


def _check_claim(claim: Claim) -> None:
    texts = [claim.client_id]
    will = claim.will
    if will is not None:
        texts.append(will.topic)
        if will.qos not in _QOS:
            raise UnknownFact(f"a claim whose will has QoS {will.qos}")
    if any("\0" in text for text in texts):
        raise UnknownFact("a claim with a NUL in a text")
    if claim.expiry_s > EXPIRY_S_MAX:
        raise UnknownFact(f"a claim that expires after {claim.expiry_s} s")


def _check_subs(subs: Subs) -> None:
    if any("\0" in topic_filter for topic_filter in [*(at[0] for at in subs.add), *subs.remove]):
        raise UnknownFact("a subscription with a NUL in its filter")
    if any(qos not in _QOS for _, qos, _ in subs.add):
        raise UnknownFact("a subscription with a QoS that there is not")
