"""One client's session as the facts of the sessions log make it (R2).

Whoever folds the same facts comes to the same session: the worker of the sessions log, which writes
rows of it, and every edge, which lays what is newer over those rows. There may be a million of
them in a process, so a session takes little: its subscriptions are one text.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from monstermq_shared.bus.facts import Ack, Claim, Detach, Drop, Fact, Marker, Open, Release, Subs
from monstermq_shared.errors import UnknownFact
from monstermq_shared.messages import Subscription, Will
from monstermq_shared.stores.queues import KeptRow

EXPIRY_S_MAX = 2**32 - 1
"""The longest expiry that MQTT 5 knows; it stands for never."""

PACKET_ID_MAX = 65_535
POSITION_MAX = 2**63 - 1
"""What a row can hold of an offset, and of an epoch."""

PARTITION_MAX = 2**31 - 1

InFlight = Mapping[int, tuple[int | None, int | None]]
"""Packet id of an outgoing QoS 2 delivery -> (partition, offset), both None if it is retained."""

_NOTHING: InFlight = MappingProxyType({})
_QOS = {0, 1, 2}
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
        """Take the next fact of this client, one that ``check_fact`` does not refuse.

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


# -- what nobody can take ------------------------------------------------------------------------


def check_fact(fact: Fact) -> None:
    """Refuse what no writer of this release writes, and no row or record could say.

    Raises:
        UnknownFact: It is such a fact (R6): whoever passes it over disagrees with all others.
    """
    if isinstance(fact, Claim):
        _check_claim(fact)
    elif isinstance(fact, Subs):
        _check_subs(fact)
    elif isinstance(fact, Open):
        _check_open(fact)
    elif isinstance(fact, Detach):
        for partition, offset in fact.sent or ():
            _check_position(partition, offset)
    else:
        _check_bus_fact(fact)


def _check_bus_fact(fact: Fact) -> None:
    """Check what stands in the log of messages."""
    if isinstance(fact, Ack):
        _check_texts([fact.client_id])
        _check_position(0, max(fact.offsets, default=0))
    elif isinstance(fact, Marker):
        _check_texts([fact.client_id])
        _check_position(0, max(fact.epoch, fact.incarnation))
        _check_subscriptions(fact.add)
        _check_subscriptions(fact.whole or ())
        _check_texts(fact.remove)
    elif isinstance(fact, Release):
        _check_texts([fact.client_id])
    elif isinstance(fact, Drop):
        _check_texts([fact.client_id])
        _check_position(0, fact.below)


def _check_claim(claim: Claim) -> None:
    _check_texts([claim.client_id])
    will = claim.will
    if will is not None:
        _check_texts([will.topic])
        if will.qos not in _QOS:
            raise UnknownFact(f"a claim whose will has QoS {will.qos}")
    if claim.expiry_s > EXPIRY_S_MAX:
        raise UnknownFact(f"a claim that expires after {claim.expiry_s} s")


def _check_subs(subs: Subs) -> None:
    _check_subscriptions(subs.add)
    _check_texts(subs.remove)


def _check_subscriptions(subscriptions: Sequence[Subscription]) -> None:
    _check_texts([name for name, _, _ in subscriptions])
    for name, qos, options in subscriptions:
        if not name:
            raise UnknownFact("a subscription without a filter")
        if qos not in _QOS or options:
            raise UnknownFact(f"a subscription with QoS {qos} and options {options}")


def _check_open(fact: Open) -> None:
    if not 1 <= fact.packet_id <= PACKET_ID_MAX:
        raise UnknownFact(f"packet id {fact.packet_id}")
    if (fact.partition is None) != (fact.offset is None):
        raise UnknownFact("an open id with half a position")
    if fact.partition is not None and fact.offset is not None:
        _check_position(fact.partition, fact.offset)


def _check_position(partition: int, offset: int) -> None:
    if partition > PARTITION_MAX or offset > POSITION_MAX:
        raise UnknownFact(f"the position {partition}:{offset}")


def _check_texts(texts: Iterable[str]) -> None:
    if any("\0" in text for text in texts):
        raise UnknownFact("a fact with a NUL in a text")
