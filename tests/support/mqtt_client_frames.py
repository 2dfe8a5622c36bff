"""The packets a client sends, as bytes: MQTT 3.1.1, written down independently of the decoder.

Nothing is checked here, so that tests can also build what MQTT forbids.
"""

from collections.abc import Iterable

from monstermq_edge.mqtt.wire import encode_remaining_length

PINGREQ = b"\xc0\x00"
DISCONNECT = b"\xe0\x00"


def frame(first: int, body: bytes) -> bytes:
    """Put a fixed header before a body."""
    return bytes((first,)) + encode_remaining_length(len(body)) + body


def string(text: str | bytes) -> bytes:
    """Put its length before a string or binary field."""
    raw = text.encode() if isinstance(text, str) else text
    return len(raw).to_bytes(2, "big") + raw


def encode_connect(
    client_id: str,
    *,
    clean: bool = True,
    keep_alive_s: int = 60,
    will: tuple[str, bytes, int, bool] | None = None,
    user_name: str | None = None,
    password: bytes | None = None,
    level: int = 4,
) -> bytes:
    """Write CONNECT; ``will`` is topic, payload, QoS and retain."""
    flags = 0x02 if clean else 0
    fields = [string(client_id)]
    if will is not None:
        topic, payload, qos, retain = will
        flags |= 0x04 | qos << 3 | (0x20 if retain else 0)
        fields += [string(topic), string(payload)]
    if user_name is not None:
        flags |= 0x80
        fields.append(string(user_name))
    if password is not None:
        flags |= 0x40
        fields.append(string(password))
    name = "MQIsdp" if level & 0x7F == 3 else "MQTT"
    head = string(name) + bytes((level, flags)) + keep_alive_s.to_bytes(2, "big")
    return frame(0x10, head + b"".join(fields))


def encode_publish(
    topic: str | bytes,
    payload: bytes,
    *,
    qos: int = 0,
    packet_id: int = 0,
    retain: bool = False,
    dup: bool = False,
) -> bytes:
    """Write PUBLISH."""
    first = 0x30 | (0x08 if dup else 0) | qos << 1 | (1 if retain else 0)
    number = packet_id.to_bytes(2, "big") if qos else b""
    return frame(first, string(topic) + number + payload)


def encode_subscribe(packet_id: int, filters: Iterable[tuple[str, int]]) -> bytes:
    """Write SUBSCRIBE for (filter, QoS)."""
    fields = b"".join(string(topic_filter) + bytes((qos,)) for topic_filter, qos in filters)
    return frame(0x82, packet_id.to_bytes(2, "big") + fields)


def encode_unsubscribe(packet_id: int, filters: Iterable[str]) -> bytes:
    """Write UNSUBSCRIBE."""
    return frame(0xA2, packet_id.to_bytes(2, "big") + b"".join(map(string, filters)))
