"""Control facts: their text, and what a reader does with one it does not know."""

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monstermq_shared.bus.control import (
    TEXT_SIZE_MAX,
    control_texts,
    decode_facts,
    encode_facts,
    kind_of,
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
from monstermq_shared.errors import InvalidRecord, UnknownFact
from monstermq_shared.messages import Will
from monstermq_shared.records import CONTROL_TOPIC, ControlRecord, encode_record

RUN = bytes.fromhex("00112233aabbccdd")
WILL = Will(topic="state/c", payload=b"gone", qos=1, retain=True)


def a_claim(client_id: str = "c", will: Will | None = None, only_if: int | None = None) -> Claim:
    return Claim(
        client_id=client_id,
        clean=True,
        expiry_s=0,
        will=will,
        run=RUN,
        protocol=4,
        only_if=only_if,
    )


EVERY: list[tuple[Fact, Kind, dict[str, object]]] = [
    (
        a_claim(will=WILL, only_if=9),
        Kind.FACTS,
        {
            "f": "claim",
            "c": "c",
            "clean": True,
            "expiry": 0,
            "will": {"topic": "state/c", "payload": "gone", "qos": 1, "retain": True},
            "run": "00112233aabbccdd",
            "protocol": 4,
            "if": 9,
        },
    ),
    (
        Subs(client_id="c", epoch=3, add=(("a/#", 1, 0),), remove=("b",)),
        Kind.FACTS,
        {"f": "subs", "c": "c", "e": 3, "add": [["a/#", 1, 0]], "del": ["b"]},
    ),
    (
        Open(client_id="c", epoch=3, packet_id=7, partition=2, offset=90),
        Kind.FACTS,
        {"f": "open", "c": "c", "e": 3, "id": 7, "p": 2, "o": 90},
    ),
    (
        Detach(client_id="c", epoch=3, will=True, in_flight=(7,), sent=((2, 90),), reason="eof"),
        Kind.FACTS,
        {
            "f": "detach",
            "c": "c",
            "e": 3,
            "will": True,
            "inflight": [7],
            "sent": [[2, 90]],
            "reason": "eof",
        },
    ),
    (Lease(run=RUN, for_ms=10_000), Kind.LEASE, {"f": "lease", "run": RUN.hex(), "for_ms": 10000}),
    (Gap(partition=3, to=77), Kind.LEASE, {"f": "gap", "p": 3, "to": 77}),
    (
        Marker(client_id="c", epoch=3, incarnation=1, whole=(("a", 2, 0),)),
        Kind.CONTROL,
        {"f": "marker", "c": "c", "e": 3, "inc": 1, "set": [["a", 2, 0]]},
    ),
    (Ack(client_id="c", offsets=(1, 2)), Kind.ACKS, {"f": "ack", "c": "c", "os": [1, 2]}),
    (
        Release(client_id="c", packet_id=7, since=80),
        Kind.CONTROL,
        {"f": "release", "c": "c", "id": 7, "since": 80},
    ),
    (
        Drop(client_id="c", below=80, count=4),
        Kind.CONTROL,
        {"f": "drop", "c": "c", "below": 80, "count": 4},
    ),
]


@pytest.mark.parametrize(("fact", "kind", "members"), EVERY)
def test_each_fact_has_the_members_of_the_protocol(
    fact: Fact, kind: Kind, members: dict[str, object]
) -> None:
    text = encode_facts([fact])
    assert json.loads(text) == {"v": 1, "facts": [members]}
    assert decode_facts(text) == [fact]
    assert decode_facts(text.encode()) == [fact]
    assert kind_of(fact) == kind


def test_what_is_not_known_is_null_and_what_says_nothing_is_left_out() -> None:
    detach = Detach(client_id="c", epoch=3, will=False)
    marker = Marker(client_id="c", epoch=3, incarnation=3)
    assert json.loads(encode_facts([detach, marker]))["facts"] == [
        {"f": "detach", "c": "c", "e": 3, "will": False, "inflight": None, "sent": None},
        {"f": "marker", "c": "c", "e": 3, "inc": 3, "set": None},
    ]
    assert decode_facts(encode_facts([detach, marker])) == [detach, marker]
    assert "if" not in json.loads(encode_facts([a_claim()]))["facts"][0]


@given(st.text(st.characters(exclude_categories=["Cs"])), st.binary(max_size=50))
def test_any_client_id_and_will_come_back(client_id: str, payload: bytes) -> None:
    fact = a_claim(client_id, Will(topic="t", payload=payload, qos=0, retain=False))
    assert decode_facts(encode_facts([fact])) == [fact]


# -- reading what others wrote -------------------------------------------------------------------


def test_members_nobody_knows_yet_are_ignored() -> None:
    text = '{"v":1,"facts":[{"f":"gap","p":1,"to":2,"why":"x"}],"by":"later"}'
    assert decode_facts(text) == [Gap(partition=1, to=2)]


@pytest.mark.parametrize(
    "text",
    ['{"v":2,"facts":[]}', '{"v":"1","facts":[]}', '{"v":true,"facts":[]}'],
)
def test_an_unknown_version_stops_the_reader(text: str) -> None:
    with pytest.raises(UnknownFact, match="version"):
        decode_facts(text)


def test_an_unknown_fact_stops_the_reader_and_is_named() -> None:
    with pytest.raises(UnknownFact, match="'teleport'"):
        decode_facts('{"v":1,"facts":[{"f":"gap","p":1,"to":2},{"f":"teleport"}]}')


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"v":1}',
        '{"v":1,"facts":{}}',
        '{"v":1,"facts":[5]}',
        '{"v":1,"facts":[{}]}',
        '{"v":1,"facts":[{"f":5}]}',
        '{"v":1,"facts":[{"f":"gap","p":1}]}',
        '{"v":1,"facts":[{"f":"gap","p":true,"to":1}]}',
        '{"v":1,"facts":[{"f":"gap","p":-1,"to":1}]}',
        '{"v":1,"facts":[{"f":"lease","run":"0011","for_ms":1}]}',
        '{"v":1,"facts":[{"f":"lease","run":"xx","for_ms":1}]}',
        '{"v":1,"facts":[{"f":"marker","c":"c","e":1,"inc":1,"set":[["a",1]]}]}',
        '{"v":1,"facts":[{"f":"ack","c":"c","os":5}]}',
        '{"v":1,"facts":[{"f":"subs","c":1,"e":1}]}',
    ],
)
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(InvalidRecord):
        decode_facts(text)


@pytest.mark.parametrize("will", [5, [], {}, {"topic": "t", "payloadBase64": "*"}])
def test_a_claim_with_a_will_that_is_none_is_refused(will: object) -> None:
    members = EVERY[0][2] | {"will": will}
    with pytest.raises(InvalidRecord, match="claim"):
        decode_facts(json.dumps({"v": 1, "facts": [members]}))


# -- several facts in few records ----------------------------------------------------------------


def test_facts_of_a_turn_stand_in_one_text_in_order() -> None:
    facts: list[Fact] = [Ack(client_id="c", offsets=(1,)), Drop(client_id="d", below=1, count=1)]
    ((kind, text),) = control_texts(facts)
    assert kind == Kind.CONTROL
    assert decode_facts(text) == facts
    assert text.decode() == encode_facts(facts)
    assert control_texts(facts[:1])[0][0] == Kind.ACKS
    assert control_texts([]) == []


def test_leases_stand_apart_from_what_belongs_to_clients() -> None:
    lease = Lease(run=RUN, for_ms=1)
    texts = control_texts([lease, a_claim(), lease, lease])
    assert [kind for kind, _ in texts] == [Kind.LEASE, Kind.FACTS, Kind.LEASE]


def test_two_claims_of_one_client_never_stand_in_one_record() -> None:
    texts = control_texts([a_claim("a"), a_claim("b"), a_claim("a")])
    assert [len(decode_facts(text)) for _, text in texts] == [2, 1]


def test_a_text_is_bounded_as_its_record_writes_it() -> None:
    facts = [Subs(client_id="\1" * 1_000, epoch=number) for number in range(200)]
    texts = control_texts(facts)
    assert [fact for _, text in texts for fact in decode_facts(text)] == facts
    sizes = [len(orjson.dumps(text.decode())) for _, text in texts]
    assert len(texts) > 1
    assert max(sizes) <= TEXT_SIZE_MAX
    assert min(sizes[:-1]) > TEXT_SIZE_MAX * 0.9


def test_a_fact_that_is_larger_stands_alone() -> None:
    large = a_claim("b", Will(topic="t", payload=bytes(500_000), qos=0, retain=False))
    texts = control_texts([a_claim("a"), large, a_claim("c")])
    assert [decode_facts(text) for _, text in texts] == [[a_claim("a")], [large], [a_claim("c")]]


def test_a_record_of_facts_has_exactly_three_members() -> None:
    text = encode_facts([Gap(partition=1, to=2)])
    record = ControlRecord(CONTROL_TOPIC, text.encode(), 0, 0, Kind.LEASE)
    assert json.loads(encode_record(record)) == {
        "topic": "$SYS/bus/control",
        "timestamp": "1970-01-01T00:00:00.000Z",
        "control": text,
    }
