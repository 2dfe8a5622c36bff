"""The facts of a control record, as every reader takes them: all of them, or it stops there (R6).

Edges and workers act on different facts, and must agree on which records there are. So what each
of them looks into is checked here, in the same way, whatever it makes of it.
"""

from collections.abc import Collection, Iterable, Sequence

from monstermq_shared.bus.control import decode_facts, kind_of
from monstermq_shared.bus.facts import (
    EXPIRY_S_MAX,
    Ack,
    Claim,
    Detach,
    Drop,
    Fact,
    Marker,
    Open,
    Release,
    Subs,
)
from monstermq_shared.bus.header import KIND_SHIFT, Kind
from monstermq_shared.bus.ports import Entry
from monstermq_shared.errors import InvalidRecord, UnknownFact
from monstermq_shared.messages import Subscription
from monstermq_shared.records import PACKET_ID_MAX

BUS_KINDS = frozenset({Kind.CONTROL, Kind.ACKS})
"""Of control records in the log of messages."""

SESSION_KINDS = frozenset({Kind.FACTS, Kind.LEASE})
"""Of records in the sessions log."""

FACTS_MAX = 65_536
"""Facts of one record: the wills that they make due have sequences of their own (S2)."""

POSITION_MAX = 2**63 - 1
"""What a row can hold of an offset, and of an epoch."""

PARTITION_MAX = 2**31 - 1

_QOS = {0, 1, 2}


def facts_of(entry: Entry, kinds: Collection[Kind]) -> Sequence[Fact]:
    """Return the facts of a control record, in order.

    Args:
        entry: The record, none that is foreign.
        kinds: Those that its log has.

    Raises:
        UnknownFact: Nobody can say here what it means, or no writer of this release writes it
            (R6): whoever passes it over disagrees with all others.
    """
    kind = entry.flags >> KIND_SHIFT
    if kind not in kinds:
        raise UnknownFact(f"a record of kind {kind}, which this release does not know in this log")
    try:
        facts = decode_facts(entry.record().payload)
    except InvalidRecord as exc:
        # It may have been a cut: to pass it over would be a guess.
        raise UnknownFact(f"a control record that cannot be read: {exc}") from exc
    check_facts(Kind(kind), facts)
    return facts


def check_facts(kind: Kind, facts: Sequence[Fact]) -> None:
    """Refuse facts of which one cannot be taken: then none of its record may be.

    Args:
        kind: Of their record.
        facts: All of it.

    Raises:
        UnknownFact: See ``facts_of``.
    """
    if len(facts) > FACTS_MAX:
        raise UnknownFact(f"{len(facts)} facts in one record")
    claimed: set[str] = set()
    for fact in facts:
        if not _fits(kind_of(fact), kind):
            name = type(fact).__name__.lower()
            raise UnknownFact(f"a fact {name} in a record of kind {kind}, where it does not belong")
        _check_fact(fact)
        if isinstance(fact, Claim):
            if fact.client_id in claimed:
                raise UnknownFact(f"two claims of {fact.client_id!r:.100} in one record")
            claimed.add(fact.client_id)


def _fits(kind: Kind, record: Kind) -> bool:
    """Whether a fact of a kind may stand in a record: acknowledgements may stand with others."""
    return kind == record or (kind, record) == (Kind.ACKS, Kind.CONTROL)


def _check_fact(fact: Fact) -> None:
    """Refuse what no row or record could say."""
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
