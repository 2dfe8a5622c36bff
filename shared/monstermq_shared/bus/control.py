"""The text that control facts stand in: ``{"v": 1, "facts": [{"f": "claim", ...}]}``.

Facts of one record share its offset and hold in order.
"""

import base64
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import orjson

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
from monstermq_shared.bus.header import RUN_SIZE, Kind
from monstermq_shared.errors import InvalidRecord, UnknownFact
from monstermq_shared.messages import Subscription, Will
from monstermq_shared.records import payload_member

VERSION = 1
"""Of the text. A reader stops at another one (R6)."""

TEXT_SIZE_MAX = 256 * 1024
"""Bytes of one record's text, as the record's JSON has it; what is more goes into another record.
A single fact may be larger: a claim with a large will."""

_NUMBERS_SIZE = 150
"""Bytes of a fact of a few numbers beside its client id, at most."""

T = TypeVar("T")


class _Member(NamedTuple):
    """How one attribute stands in the text.

    Attributes:
        name: Of the member.
        attribute: Of the dataclass.
        read: Returns the attribute's value; raises ValueError or TypeError.
        write: Returns what JSON is made of.
        left_out: The value for which the member is left out, if there is one.
    """

    name: str
    attribute: str
    read: Callable[[object], object]
    write: Callable[[Any], object]
    left_out: object = ...


# -- reading and writing values ------------------------------------------------------------------


def _same(value: object) -> object:
    return value


def _is(kind: type[T]) -> Callable[[object], T]:
    def read(value: object) -> T:
        # A bool is an int to isinstance; in JSON it is not.
        if type(value) is not kind:
            raise TypeError(f"{value!r:.100} is not of type {kind.__name__}")
        return value

    return read


_text, _flag, _list = _is(str), _is(bool), _is(list)
_members = _is(dict)


def _number(value: object) -> int:
    if type(value) is not int or value < 0:
        raise TypeError(f"{value!r:.100} is not a whole number")
    return value


def _run(value: object) -> bytes:
    run = bytes.fromhex(_text(value))
    if len(run) != RUN_SIZE:
        raise ValueError(f"{value!r:.100} is not a run")
    return run


def _or_null(read: Callable[[object], T]) -> Callable[[object], T | None]:
    return lambda value: None if value is None else read(value)


def _all(read: Callable[[object], T]) -> Callable[[object], tuple[T, ...]]:
    return lambda value: tuple(map(read, _list(value)))


def _subscription(value: object) -> Subscription:
    topic_filter, qos, options = _list(value)
    return _text(topic_filter), _number(qos), _number(options)


def _position(value: object) -> tuple[int, int]:
    partition, offset = _list(value)
    return _number(partition), _number(offset)


def _will(value: object) -> Will:
    members = _members(value)
    if "payloadBase64" in members:
        payload = base64.b64decode(_text(members["payloadBase64"]), validate=True)
    else:
        payload = _text(members["payload"]).encode()
    return Will(
        topic=_text(members["topic"]),
        payload=payload,
        qos=_number(members["qos"]),
        retain=_flag(members["retain"]),
    )


def _will_members(will: Will | None) -> dict[str, object] | None:
    if will is None:
        return None
    name, text = payload_member(will.payload)
    return {
        "topic": will.topic,
        name: orjson.Fragment(text),
        "qos": will.qos,
        "retain": will.retain,
    }


_CLIENT = _Member("c", "client_id", _text, _same)
_EPOCH = _Member("e", "epoch", _number, _same)
_RUN = _Member("run", "run", _run, bytes.hex)
_ID = _Member("id", "packet_id", _number, _same)
_ADD = _Member("add", "add", _all(_subscription), _same, ())
_DEL = _Member("del", "remove", _all(_text), _same, ())

_CLAIM = (
    _CLIENT,
    _Member("clean", "clean", _flag, _same),
    _Member("expiry", "expiry_s", _number, _same),
    _Member("will", "will", _or_null(_will), _will_members),
    _RUN,
    _Member("protocol", "protocol", _number, _same),
    _Member("if", "only_if", _number, _same, None),
)
_DETACH = (
    _CLIENT,
    _EPOCH,
    _Member("will", "will", _flag, _same),
    _Member("inflight", "in_flight", _or_null(_all(_number)), _same),
    _Member("sent", "sent", _or_null(_all(_position)), _same),
    _Member("reason", "reason", _text, _same, ""),
)
_MARKER = (
    _CLIENT,
    _EPOCH,
    _Member("inc", "incarnation", _number, _same),
    _Member("set", "whole", _or_null(_all(_subscription)), _same),
    _ADD,
    _DEL,
)
_OPEN = (
    _CLIENT,
    _EPOCH,
    _ID,
    _Member("p", "partition", _or_null(_number), _same),
    _Member("o", "offset", _or_null(_number), _same),
)

_FACTS: dict[str, tuple[type[Any], Kind, tuple[_Member, ...]]] = {
    "claim": (Claim, Kind.FACTS, _CLAIM),
    "subs": (Subs, Kind.FACTS, (_CLIENT, _EPOCH, _ADD, _DEL)),
    "open": (Open, Kind.FACTS, _OPEN),
    "detach": (Detach, Kind.FACTS, _DETACH),
    "lease": (Lease, Kind.LEASE, (_RUN, _Member("for_ms", "for_ms", _number, _same))),
    "gap": (
        Gap,
        Kind.LEASE,
        (_Member("p", "partition", _number, _same), _Member("to", "to", _number, _same)),
    ),
    "marker": (Marker, Kind.CONTROL, _MARKER),
    "ack": (Ack, Kind.ACKS, (_CLIENT, _Member("os", "offsets", _all(_number), _same))),
    "release": (
        Release,
        Kind.CONTROL,
        (_CLIENT, _ID, _Member("since", "since", _number, _same)),
    ),
    "drop": (
        Drop,
        Kind.CONTROL,
        (
            _CLIENT,
            _Member("below", "below", _number, _same),
            _Member("count", "count", _number, _same),
        ),
    ),
}
_NAMES = {kind: name for name, (kind, _, _) in _FACTS.items()}


# -- the text ------------------------------------------------------------------------------------


def kind_of(fact: Fact) -> Kind:
    """Return the kind of record a fact stands in."""
    return _FACTS[_NAMES[type(fact)]][1]


def encode_facts(facts: Iterable[Fact]) -> str:
    """Write the control text of facts, in order."""
    return _envelope([_encode(fact) for fact in facts]).decode()


def _envelope(members: Sequence[bytes]) -> bytes:
    return b'{"v":%d,"facts":[%b]}' % (VERSION, b",".join(members))


_EMPTY_SIZE = len(orjson.dumps(_envelope([]).decode()))


def _encode(fact: Fact) -> bytes:
    name = _NAMES[type(fact)]
    members: dict[str, object] = {"f": name}
    for member in _FACTS[name][2]:
        value = getattr(fact, member.attribute)
        if value != member.left_out:
            members[member.name] = member.write(value)
    return orjson.dumps(members)


def control_texts(facts: Iterable[Fact]) -> list[tuple[Kind, bytes]]:
    """Write facts of one partition and loop turn as few texts as may be, in order.

    What may stand in one text: see ``ControlText.add``.
    """
    texts: list[tuple[Kind, bytes]] = []
    text = ControlText()
    for fact in facts:
        if not text.add(fact):
            texts.append((text.kind, text.close()))
            text = ControlText()
            text.add(fact)
    if text.count:
        texts.append((text.kind, text.close()))
    return texts


class ControlText:
    """The text of one record, while facts are added to it.

    Attributes:
        kind: Of the record.
        count: How many facts it has.
        size: Bytes of the text as the record's JSON has it.
    """

    __slots__ = ("_claimed", "_members", "kind", "size")

    def __init__(self) -> None:
        self.kind = Kind.ACKS
        self.size = _EMPTY_SIZE
        self._members: list[bytes] = []
        self._claimed: set[str] = set()

    @property
    def count(self) -> int:
        """How many facts it has."""
        return len(self._members)

    def add(self, *facts: Fact) -> bool:
        """Add facts, all of them or none: those that do not belong or fit to what is there.

        One text has facts of kinds that a reader skips together, is at most ``TEXT_SIZE_MAX``, and
        has no two claims of one client. Into an empty one goes whatever is added together.
        """
        encoded = [_encode(fact) for fact in facts]
        size = sum(map(_escaped_size, encoded))
        if self._members and not self._takes(facts, size):
            return False
        for fact in facts:
            kind = kind_of(fact)
            if kind != Kind.ACKS:
                self.kind = kind
            if isinstance(fact, Claim):
                self._claimed.add(fact.client_id)
        self._members += encoded
        self.size += size
        return True

    def _takes(self, facts: Sequence[Fact], size: int) -> bool:
        if self.size + size > TEXT_SIZE_MAX:
            return False
        for fact in facts:
            if (kind_of(fact) == Kind.LEASE) != (self.kind == Kind.LEASE):
                return False
            if isinstance(fact, Claim) and fact.client_id in self._claimed:
                return False
        return True

    def close(self) -> bytes:
        """Return the text."""
        return _envelope(self._members)


def _escaped_size(encoded: bytes) -> int:
    """Return the bytes of a fact and its comma within the string of a record's JSON."""
    return len(orjson.dumps(encoded.decode())) - 1


def subscription_size(topic_filter: str) -> int:
    """Return the bytes that a subscription takes in the ``set`` of a marker, as a record has it."""
    return _escaped_size(orjson.dumps([topic_filter, 0, 0]))


def in_records(client_id: str, items: Sequence[T]) -> list[Sequence[T]]:
    """Part what facts of a client say, a few numbers each, so that each part fits one record."""
    size = _escaped_size(orjson.dumps(client_id)) + _NUMBERS_SIZE
    count_max = max(TEXT_SIZE_MAX // size, 1)
    return [items[first : first + count_max] for first in range(0, len(items), count_max)]


def decode_facts(text: str | bytes) -> list[Fact]:
    """Read the facts of a control text; members it does not know are ignored.

    Raises:
        UnknownFact: Its version, or a fact, is of a later release (R6).
        InvalidRecord: It is not a control text.
    """
    try:
        whole = _members(orjson.loads(text))
        version, facts = whole["v"], whole["facts"]
    except (ValueError, KeyError, TypeError) as exc:
        raise InvalidRecord(f"not a control text: {exc}") from exc
    if version != VERSION or type(version) is not int:
        raise UnknownFact(f"control text of version {version!r:.100}; this release knows {VERSION}")
    if type(facts) is not list:
        raise InvalidRecord("not a control text: facts is not a list")
    return [_decode(fact) for fact in facts]


def _decode(value: object) -> Fact:
    try:
        members = _members(value)
        name = _text(members["f"])
    except (KeyError, TypeError) as exc:
        raise InvalidRecord(f"not a fact: {value!r:.200}") from exc
    known = _FACTS.get(name)
    if known is None:
        raise UnknownFact(f"fact {name!r:.100}, which this release does not know")
    try:
        values = {
            member.attribute: member.read(members[member.name])
            for member in known[2]
            if member.left_out is ... or member.name in members
        }
    except (ValueError, KeyError, TypeError) as exc:
        raise InvalidRecord(f"not a {name}: {exc}") from exc
    fact: Fact = known[0](**values)
    return fact
