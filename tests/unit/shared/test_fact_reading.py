"""What a reader takes of a control record, and where it stops (R6)."""

from dataclasses import replace

import pytest
from tests.support.followed_log import FollowedLog

from monstermq_shared.bus.control import encode_facts, kind_of
from monstermq_shared.bus.fact_reading import (
    BUS_KINDS,
    FACTS_MAX,
    SESSION_KINDS,
    check_facts,
    facts_of,
)
from monstermq_shared.bus.facts import (
    Ack,
    Claim,
    Detach,
    Drop,
    Fact,
    Gap,
    Lease,
    Marker,
    Open,
    Release,
    Subs,
)
from monstermq_shared.bus.header import Kind
from monstermq_shared.errors import UnknownFact
from monstermq_shared.messages import Will
from monstermq_shared.records import CONTROL_TOPIC, ControlRecord
from monstermq_shared.testing.builders import NOON_MS

RUN = b"edge-one"
WILL = Will(topic="gone", payload=b"away", qos=1, retain=True)
CLAIM = Claim(client_id="a", clean=False, expiry_s=3_600, will=WILL, run=RUN, protocol=4)
MARKER = Marker(client_id="a", epoch=1, incarnation=1)
ACK = Ack(client_id="a", offsets=(1,))
RELEASE = Release(client_id="a", packet_id=1, since=1)
DROP = Drop(client_id="a", below=1, count=1)
SUBS = Subs(client_id="a", epoch=1)
OPEN = Open(client_id="a", epoch=1, packet_id=1, partition=None, offset=None)
DETACH = Detach(client_id="a", epoch=1, will=True, in_flight=(1,), sent=((1, 1),))
LEASE = Lease(run=RUN, for_ms=1_000)
GAP = Gap(partition=1, to=2)

BELONGS: dict[Kind, list[Fact]] = {
    Kind.CONTROL: [MARKER, RELEASE, DROP, ACK],
    Kind.ACKS: [ACK],
    Kind.FACTS: [CLAIM, SUBS, OPEN, DETACH],
    Kind.LEASE: [LEASE, GAP],
}
EVERY = [MARKER, RELEASE, DROP, ACK, CLAIM, SUBS, OPEN, DETACH, LEASE, GAP]


def read(kind: int, text: str, kinds: frozenset[Kind] = BUS_KINDS | SESSION_KINDS) -> list[Fact]:
    """Return what a reader takes of a record."""
    record = ControlRecord(CONTROL_TOPIC, text.encode(), NOON_MS, 0, kind)
    return [*facts_of(FollowedLog().append(record), kinds)]


@pytest.mark.parametrize("kind", BELONGS)
def test_a_record_has_facts_of_its_kind(kind: Kind) -> None:
    assert read(kind, encode_facts(BELONGS[kind])) == BELONGS[kind]


@pytest.mark.parametrize(
    ("kind", "fact"),
    [(kind, fact) for kind, facts in BELONGS.items() for fact in EVERY if fact not in facts],
)
def test_a_fact_in_a_record_of_another_kind_stops_the_reader(kind: Kind, fact: Fact) -> None:
    with pytest.raises(UnknownFact, match=f"in a record of kind {kind}"):
        read(kind, encode_facts([BELONGS[kind][0], fact]))


@pytest.mark.parametrize(
    ("kind", "kinds"),
    [
        *((kind, SESSION_KINDS) for kind in (Kind.MESSAGE, *BUS_KINDS, 5)),
        *((kind, BUS_KINDS) for kind in (*SESSION_KINDS, 5)),
    ],
)
def test_a_record_of_the_other_log_stops_the_reader(kind: int, kinds: frozenset[Kind]) -> None:
    with pytest.raises(UnknownFact, match=f"a record of kind {kind}"):
        read(kind, encode_facts([]), kinds)


@pytest.mark.parametrize(
    "text",
    ['{"v":2,"facts":[]}', '{"v":1,"facts":[{"f":"novel"}]}', '{"v":1,"facts":[5]}', "{"],
    ids=["version", "fact", "no fact", "half"],
)
def test_what_cannot_be_read_stops_the_reader(text: str) -> None:
    with pytest.raises(UnknownFact):
        read(Kind.CONTROL, text)


def test_two_claims_of_a_client_in_one_record_stop_the_reader() -> None:
    """They would have one epoch."""
    others = [replace(CLAIM, client_id=name) for name in ("b", "c")]
    assert read(Kind.FACTS, encode_facts([CLAIM, *others])) == [CLAIM, *others]
    with pytest.raises(UnknownFact, match="two claims of 'a'"):
        read(Kind.FACTS, encode_facts([CLAIM, *others, CLAIM]))


def test_more_facts_than_wills_have_sequences_for_stop_the_reader() -> None:
    check_facts(Kind.FACTS, [DETACH] * FACTS_MAX)
    with pytest.raises(UnknownFact, match="65537 facts"):
        check_facts(Kind.FACTS, [DETACH] * (FACTS_MAX + 1))


@pytest.mark.parametrize(
    "fact",
    [
        replace(CLAIM, client_id="a\0b"),
        replace(CLAIM, will=replace(WILL, topic="a\0b")),
        replace(CLAIM, will=replace(WILL, qos=3)),
        replace(CLAIM, expiry_s=2**32),
        Subs(client_id="a", epoch=0, add=(("a\0b", 1, 0),)),
        Subs(client_id="a", epoch=0, add=(("", 1, 0),)),
        Subs(client_id="a", epoch=0, add=(("a", 3, 0),)),
        Subs(client_id="a", epoch=0, add=(("a", 1, 4),)),
        Subs(client_id="a", epoch=0, remove=("a\0b",)),
        Open(client_id="a", epoch=0, packet_id=0, partition=1, offset=1),
        Open(client_id="a", epoch=0, packet_id=65_536, partition=1, offset=1),
        Open(client_id="a", epoch=0, packet_id=1, partition=None, offset=1),
        Open(client_id="a", epoch=0, packet_id=1, partition=1, offset=2**63),
        Detach(client_id="a", epoch=0, will=False, sent=((2**31, 1),)),
        Marker(client_id="a\0b", epoch=0, incarnation=0),
        Marker(client_id="a", epoch=2**63, incarnation=0),
        Marker(client_id="a", epoch=0, incarnation=2**63),
        Marker(client_id="a", epoch=0, incarnation=0, whole=(("a\0b", 1, 0),)),
        Marker(client_id="a", epoch=0, incarnation=0, add=(("a", 3, 0),)),
        Marker(client_id="a", epoch=0, incarnation=0, remove=("a\0b",)),
        Ack(client_id="a\0b", offsets=(1,)),
        Ack(client_id="a", offsets=(1, 2**63)),
        Release(client_id="a\0b", packet_id=1, since=1),
        Drop(client_id="a\0b", below=1, count=1),
        Drop(client_id="a", below=2**63, count=1),
    ],
)
def test_a_fact_that_nobody_can_take_is_refused(fact: Fact) -> None:
    """R6."""
    with pytest.raises(UnknownFact):
        check_facts(kind_of(fact), [fact])
