"""Packets out: the wire forms of MQTT 3.1 and 3.1.1 that a server sends.

What all receivers of a run share is made once and kept with it: the whole bytes at QoS 0 in
``run.frames``, and everything but the packet ids at QoS 1 and 2 in ``run.encodings``.
"""

from collections.abc import Sequence
from typing import Final

from monstermq_edge.mqtt.wire import PacketType, encode_remaining_length
from monstermq_shared.messages import MessageRun
from monstermq_shared.sessions.ports import Answer

QOS0: Final = 0x30
"""The first byte of a PUBLISH at QoS 0."""

QOS1: Final = 0x32
"""Key in ``run.encodings`` of the parts of all messages at QoS 1; with ``DUP`` added, of their
repetition.

Three of each message: what precedes the packet id, an empty place for it, the payload.
"""

QOS2: Final = 0x34
"""The same at QoS 2."""

DUP: Final = 0x08
"""The DUP flag in the first byte of a PUBLISH."""

ANSWER_SIZE: Final = 4
"""Bytes of a PUBACK, PUBREC, PUBREL or PUBCOMP."""

PINGRESP = bytes((PacketType.PINGRESP << 4, 0))
"""PINGRESP."""

_RETAIN: Final = 0x01
_BYTES: Final = tuple(bytes((number,)) for number in range(0x100))
_PACKET_ID_BYTES: Final = tuple(number.to_bytes(2, "big") for number in range(0x10000))
_packet_id_bytes: Final = _PACKET_ID_BYTES.__getitem__
_ANSWER_HEADS: Final = {
    Answer.PUBACK: b"\x40\x02",
    Answer.PUBREC: b"\x50\x02",
    Answer.PUBREL: b"\x62\x02",
    Answer.PUBCOMP: b"\x70\x02",
}


def encode_connack(session_present: bool, code: int) -> bytes:
    """Write CONNACK; session present is only ever said with code 0 [MQTT-3.2.2-4].

    MQTT 3.1 calls that byte reserved: pass False to such a client.
    """
    return bytes((PacketType.CONNACK << 4, 2, session_present and not code, code))


def encode_suback(packet_id: int, codes: Sequence[int]) -> bytes:
    """Write SUBACK: one code per filter, in the order of SUBSCRIBE [MQTT-3.9.3-1]."""
    return b"".join(
        (
            bytes((PacketType.SUBACK << 4,)),
            encode_remaining_length(2 + len(codes)),
            _packet_id_bytes(packet_id),
            bytes(codes),
        )
    )


def encode_unsuback(packet_id: int) -> bytes:
    """Write UNSUBACK."""
    return bytes((PacketType.UNSUBACK << 4, 2)) + _packet_id_bytes(packet_id)


def encode_answers(kind: Answer, packet_ids: Sequence[int]) -> bytes:
    """Write one answer per id, in this order; nothing if there is none."""
    if not packet_ids:
        return b""
    head = _ANSWER_HEADS[kind]
    if len(packet_ids) == 1:
        return head + _PACKET_ID_BYTES[packet_ids[0]]
    return head + head.join(map(_packet_id_bytes, packet_ids))


def encode_run_qos0(run: MessageRun) -> bytes:
    """Write all messages of the run at QoS 0; every receiver gets the same bytes.

    The retain flag is that of a stored copy [MQTT-3.3.1-8], never the publisher's [MQTT-3.3.1-9].
    """
    encoded = run.frames
    if encoded is None:
        payloads = run.payloads
        heads = _heads(run, QOS0)
        if len(heads) == 1:
            head = heads[len(payloads[0])]
            encoded = head + head.join(payloads)
        else:
            encoded = b"".join([part for p in payloads for part in (heads[len(p)], p)])
        run.frames = encoded
    return encoded


def encode_stored(messages: Sequence[tuple[str, bytes]]) -> bytes:
    """Write stored (topic, payload) at QoS 0 with the retain flag [MQTT-3.3.1-8]."""
    first = bytes((QOS0 | _RETAIN,))
    parts: list[bytes] = []
    for topic, payload in messages:
        name = topic.encode()
        size = len(name)
        parts += (
            first,
            encode_remaining_length(2 + size + len(payload)),
            _packet_id_bytes(size),
            name,
            payload,
        )
    return b"".join(parts)


def encode_run(
    run: MessageRun, first: int, packet_ids: Sequence[int], qos: int, dup: bool
) -> bytes:
    """Write messages ``first``, ``first + 1``, ... of the run at QoS 1 or 2, one per packet id."""
    key = (QOS1 if qos == 1 else QOS2) | (DUP if dup else 0)
    encodings = run.encodings
    if encodings is None:
        encodings = run.encodings = {}
    shared: Sequence[bytes] | None = encodings.get(key)
    if shared is None:
        shared = encodings[key] = _parts(run, key)
    if len(packet_ids) == 1:
        return shared[3 * first] + _PACKET_ID_BYTES[packet_ids[0]] + shared[3 * first + 2]
    parts = [*shared[3 * first : 3 * (first + len(packet_ids))]]
    parts[1::3] = map(_packet_id_bytes, packet_ids)
    return b"".join(parts)


def _parts(run: MessageRun, first_byte: int) -> list[bytes]:
    """Return head, room for the packet id, and payload of every message in one flat list."""
    payloads = run.payloads
    if run.count == 1:
        payload = payloads[0]
        return [_head(run, first_byte, len(payload)), b"", payload]
    heads = _heads(run, first_byte)
    parts = [b""] * (3 * run.count)
    parts[0::3] = [heads[len(payload)] for payload in payloads]
    parts[2::3] = payloads
    return parts


def _heads(run: MessageRun, first_byte: int) -> dict[int, bytes]:
    """Return what precedes packet id and payload, by the payload's length."""
    return {size: _head(run, first_byte, size) for size in set(map(len, run.payloads))}


def _head(run: MessageRun, first_byte: int, payload_size: int) -> bytes:
    """Return the fixed header and the topic of a message with a payload of that length."""
    topic = run.topic
    size = len(topic)
    rest = 2 + size + payload_size + (0 if first_byte == QOS0 else 2)
    first = first_byte | _RETAIN if run.retained_copy else first_byte
    return b"".join((_BYTES[first], encode_remaining_length(rest), _PACKET_ID_BYTES[size], topic))
