"""Messages as the value of a Kafka record: the JSON of ``encode_record``, a run at a time.

All that the messages of a run have in common is written once: two constant pieces, and between and
behind them a payload and the last digits of an id.
"""

import base64
from collections.abc import Sequence
from functools import lru_cache
from random import Random

import orjson

from monstermq_shared.messages import MessageRun
from monstermq_shared.records import base64_size, format_timestamp, uuid7

_COUNTER_BITS = 47
"""The ids of a run have their last 48 bits from a counter that begins below 2**47."""

_KEPT_MAX = 8192
"""How many topics and client ids are kept as JSON."""

_SHORT_MAX = 256

# Ids must be unique, not secret.
_random_bits = Random().getrandbits  # noqa: S311


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
    return b'{"topic":%b,"payload' % _json_text(topic.decode())


def encode_run(topic: bytes, run: MessageRun, client_id: str, time_ms: int) -> list[bytes]:
    """Return the value of each message of a run.

    Ids are UUIDs of version 7 whose order is that of the messages: below the millisecond, random
    bits stand still and a counter goes on (RFC 9562, 6.2, method 2).

    Args:
        topic: The topic name, valid.
        run: The messages.
        client_id: Who published them.
        time_ms: The time of all of them.
    """
    head = _short_beginning(topic) if len(topic) <= _SHORT_MAX else _begin(topic)
    tail = b',"timestamp":"%b","qos":%d,"retained":%b,"clientId":%b,"id":"%b' % (
        format_timestamp(time_ms).encode(),
        run.qos,
        b"true" if run.retain else b"false",
        _json_text(client_id),
        # All of an id but its last group.
        uuid7(time_ms)[:24].encode(),
    )
    return _values(head, tail, run.payloads, _random_bits(_COUNTER_BITS))


def _values(head: bytes, tail: bytes, payloads: Sequence[bytes], number: int) -> list[bytes]:
    dumps = orjson.dumps
    values = []
    as_text, as_base64 = head + b'":', head + b'Base64":"'
    for payload in payloads:
        size = len(payload)
        try:
            text = dumps(payload.decode())
        except UnicodeDecodeError:
            text = b""
        # Escapes make it longer than it is, and base64 may be shorter.
        if text and (len(text) <= size + 2 or len(text) - 2 <= base64_size(size)):
            values.append(b'%b%b%b%012x"}' % (as_text, text, tail, number))
        else:
            encoded = base64.b64encode(payload)
            values.append(b'%b%b"%b%012x"}' % (as_base64, encoded, tail, number))
        number += 1
    return values
