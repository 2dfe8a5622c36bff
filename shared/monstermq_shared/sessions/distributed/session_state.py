"""One client's session as the facts of the sessions log make it (R2).

Whoever folds the same facts comes to the same session: the worker of the sessions log, which writes
rows of it, and every edge, which lays what is newer over those rows. There may be a million of
them in a process, so a session takes little: its subscriptions are one text.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from monstermq_shared.bus.facts import Claim, Detach, Fact, Open, Subs
from monstermq_shared.messages import Subscription, Will
from monstermq_shared.stores.queues import KeptRow

InFlight = Mapping[int, tuple[int | None, int | None]]
"""Packet id of an outgoing QoS 2 delivery -> (partition, offset), both None if it is retained."""

_NOTHING: InFlight = MappingProxyType({})
_SEPARATOR = "\0"


class Taken(NamedTuple):
    """What a fact did.

    Attributes:
        valid: Whether it counts (R2); if not, nothing has changed.
        will: The will that it made due (S2).
    """

    valid: bool
    will: Will | None


_INVALID = Taken(False, None)
_VALID = Taken(True, None)


class SessionState:
    """A session as of the last fact, or none: then ``epoch`` is -1.

    Attributes:
        epoch: Of the newest valid claim.
        incarnation: Of the claim that began the session.
        expiry_s: How long it outlives its connection; 0: not at all.
        attached: Its connection is not detached.
        changed_ms: When it was claimed or detached.
        run: The edge that has, or had, the connection.
        protocol: The MQTT level of it.
        will: Of a connection that is attached.
        in_flight: What the client may know of by packet id. Not to be changed.
        sent: (partition, offset) of QoS 1 deliveries that were not acknowledged when the connection
            before ended, or this one if it has; None: not known (E9).
    """

    __slots__ = (
        "_packed",
        "attached",
        "changed_ms",
        "epoch",
        "expiry_s",
        "in_flight",
        "incarnation",
        "protocol",
        "run",
        "sent",
        "will",
    )

    def __init__(self) -> None:
        self.epoch = -1
        self.incarnation = -1
        self.expiry_s = 0
        self.attached = False
        self.changed_ms = 0
        self.run = b""
        self.protocol = 0
        self.will: Will | None = None
        self.in_flight = _NOTHING
        self.sent: tuple[tuple[int, int], ...] | None = ()
        self._packed = ""

    @classmethod
    def of_row(cls, row: KeptRow) -> "SessionState":
        """Return what a row says; it names no will and no run, which concern the worker alone."""
        state = cls()
        state.epoch, state.incarnation = row.epoch, row.incarnation
        state.expiry_s, state.attached = row.expiry_s, row.attached
        state.sent = None if row.sent is None else tuple(row.sent)
        state.load(row.in_flight, {name: qos for name, (qos, _) in row.subscriptions.items()})
        return state

    def load(self, in_flight: InFlight, subscriptions: Mapping[str, int]) -> None:
        """Take what rows of their own say: of packet ids, and filter -> QoS."""
        self.in_flight = dict(in_flight) if in_flight else _NOTHING
        self._packed = _pack(subscriptions)

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """All of them."""
        return tuple((name, qos, 0) for name, qos in _unpack(self._packed).items())

    def take(self, fact: Fact, offset: int, time_ms: int) -> Taken:
        """Take the next fact of this client, one that ``fact_reading`` does not refuse.

        Args:
            fact: A claim, a detach, subscriptions or an open id.
            offset: Of its record.
            time_ms: The same.
        """
        if isinstance(fact, Claim):
            return self._claim(fact, offset, time_ms)
        # R2
        if isinstance(fact, Detach | Subs | Open) and self.attached and fact.epoch == self.epoch:
            if isinstance(fact, Detach):
                return self._detach(fact, time_ms)
            if isinstance(fact, Subs):
                self._subscribe(fact)
            else:
                self._open(fact)
            return _VALID
        return _INVALID

    def _claim(self, claim: Claim, offset: int, time_ms: int) -> Taken:
        is_end = claim.only_if is not None
        if is_end and (self.epoch < 0 or claim.only_if != self.epoch):  # R2, S4
            return _INVALID
        due = self.will if self.attached else None  # S2
        if claim.clean or self.epoch < 0 or not self.expiry_s:  # R2
            self.incarnation = offset
            self.in_flight, self._packed, self.sent = _NOTHING, "", ()
        elif self.attached:
            # E9: the connection before ended without saying so.
            self.sent = None
        self.epoch = offset
        self.expiry_s = claim.expiry_s
        # Nobody is connected by an end.
        self.attached = not is_end
        self.changed_ms = time_ms
        self.run = claim.run
        self.protocol = claim.protocol
        self.will = None if is_end else claim.will
        return _VALID if due is None else Taken(True, due)

    def _detach(self, detach: Detach, time_ms: int) -> Taken:
        due = self.will if detach.will else None  # S2
        self.attached = False
        self.changed_ms = time_ms
        self.will = None
        self.sent = detach.sent
        if detach.in_flight is not None:  # S1
            left = self.in_flight.keys() & set(detach.in_flight)
            self.in_flight = {i: self.in_flight[i] for i in left} if left else _NOTHING
        return _VALID if due is None else Taken(True, due)

    def _open(self, fact: Open) -> None:
        """Note it where the others are: there may be all packet ids, and one more each time."""
        in_flight = self.in_flight
        if not isinstance(in_flight, dict):  # nothing, which all sessions share
            in_flight = self.in_flight = {}
        in_flight[fact.packet_id] = (fact.partition, fact.offset)

    def _subscribe(self, subs: Subs) -> None:
        subscriptions = _unpack(self._packed)
        subscriptions.update((name, qos) for name, qos, _ in subs.add)
        for name in subs.remove:
            subscriptions.pop(name, None)
        self._packed = _pack(subscriptions)


def _pack(subscriptions: Mapping[str, int]) -> str:
    """Filters hold no NUL, and a dictionary of them would take five times as much."""
    return _SEPARATOR.join([f"{qos}{name}" for name, qos in subscriptions.items()])


def _unpack(packed: str) -> dict[str, int]:
    return {at[1:]: int(at[0]) for at in packed.split(_SEPARATOR)} if packed else {}
