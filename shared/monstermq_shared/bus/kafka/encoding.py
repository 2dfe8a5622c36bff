"""Messages as the value of a Kafka record: the JSON of ``encode_record``, a run at a time.

All that the messages of a run have in common is written once: two constant pieces, and between and
behind them a payload and the last digits of an id.
"""

import base64
from collections.abc import Sequence
from functools import lru_cache
from random import Random
from typing import Final

import orjson

from monstermq_shared.bus.header import QOS, RETAIN
from monstermq_shared.messages import MessageRun
from monstermq_shared.records import base64_size, format_timestamp, uuid7

_COUNTER_BITS: Final = 47
"""Ids have their last 48 bits from a counter that begins below 2**47."""

_KEPT_MAX: Final = 8192
"""How many topics and client ids are kept as JSON."""

_SHORT_MAX: Final = 256

# Ids must be unique, not secret.
_random_bits: Final = Random().getrandbits  # noqa: S311


@lru_cache(maxsize=_KEPT_MAX)
def _short_text(text: str) -> bytes:
    return orjson.dumps(text)


def _json_text(text: str) -> bytes:
    """Return a text as JSON; only short ones are kept, because anybody may send long ones."""
    return _short_text(text) if len(text) <= _SHORT_MAX else orjson.dumps(text)


@lru_cache(maxsize=_KEPT_MAX)
def _short_beginning(topic: bytes) -> bytes:
    return _begin(topic)


def _begin(topic: bytes) -> bytes:
    return b'{"topic":%b,"payload":' % _json_text(topic.decode())


# What the flags of a message (QoS, retain) make of the members between time and client id.
_BETWEEN: Final = [
    b'%d,"retained":%b,"clientId":' % (flags & QOS, b"true" if flags & RETAIN else b"false")
    for flags in range(8)
]


class RunEncoder:
    """Writes runs. What messages of one millisecond have in common is kept from run to run.

    Ids are UUIDs of version 7 whose order within a millisecond is that of the messages: below it
    some random bits stand still, and a counter that began at random goes on (RFC 9562, 6.2,
    method 1).
    """

    __slots__ = ("_client_id", "_flags", "_id", "_number", "_tail", "_time", "_time_ms")

    def __init__(self) -> None:
        self._time_ms = -1
        self._time = b""
        self._id = b""
        self._number = 0
        # What follows the payloads of a run: clients that publish much publish it at once.
        self._tail = b""
        self._client_id: str | None = None
        self._flags = 0

    def encode(self, topic: bytes, run: MessageRun, client_id: str, time_ms: int) -> list[bytes]:
        """Return the value of each message of a run.

        Args:
            topic: The topic name, valid.
            run: The messages.
            client_id: Who published them.
            time_ms: The time of all of them.
        """
        flags = run.qos | run.retain << 2
        if time_ms != self._time_ms or client_id != self._client_id or flags != self._flags:
            self._begin(time_ms, client_id, flags)
        head = _short_beginning(topic) if len(topic) <= _SHORT_MAX else _begin(topic)
        tail, number, dumps = self._tail, self._number, orjson.dumps
        values = []
        for payload in run.payloads:
            try:
                text = dumps(payload.decode())
            except UnicodeDecodeError:
                values.append(_as_base64(head, payload, tail, number))
            else:
                # With escapes it is longer than it was, and base64 may be shorter.
                size = len(payload)
                if len(text) == size + 2 or len(text) - 2 <= base64_size(size):
                    values.append(b'%b%b%b%012x"}' % (head, text, tail, number))
                else:
                    values.append(_as_base64(head, payload, tail, number))
            number += 1
        self._number = number
        return values if run.epoch is None else _stamped(values, run.packet_ids, run.epoch)

    def _begin(self, time_ms: int, client_id: str, flags: int) -> None:
        if time_ms != self._time_ms:
            self._time_ms = time_ms
            self._time = b',"timestamp":"%b","qos":' % format_timestamp(time_ms).encode()
            # All of an id but its last group, which is the counter.
            self._id = b',"id":"%b' % uuid7(time_ms)[:24].encode()
            self._number = _random_bits(_COUNTER_BITS)
        self._client_id, self._flags = client_id, flags
        self._tail = b"%b%b%b%b" % (self._time, _BETWEEN[flags], _json_text(client_id), self._id)


def _as_base64(head: bytes, payload: bytes, tail: bytes, number: int) -> bytes:
    name = head.removesuffix(b'":') + b'Base64":"'
    return b'%b%b"%b%012x"}' % (name, base64.b64encode(payload), tail, number)


def _stamped(values: Sequence[bytes], packet_ids: Sequence[int], epoch: int) -> list[bytes]:
    """Return the same with the members of a publish that can be fenced (R3)."""
    return [
        b'%b,"packetId":%d,"epoch":%d}' % (value[:-1], packet_id, epoch)
        for value, packet_id in zip(values, packet_ids, strict=True)
    ]
