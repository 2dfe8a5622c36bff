"""Strings, fixed headers and packet ids as they stand on the wire (sections 1.5 and 2)."""

from collections.abc import Callable

import pytest
from tests.conformance.requirements import requirement
from tests.conformance.scene import Scene
from tests.support.mqtt_client_frames import (
    DISCONNECT,
    PINGREQ,
    encode_publish,
    encode_subscribe,
    encode_unsubscribe,
    frame,
    string,
)
from tests.support.mqtt_peer import (
    ConnectOptions,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Unsuback,
    Will,
    connect_packet,
)

ILL_FORMED = {
    "surrogate": b"a\xed\xa0\x80",
    "overlong": b"a\xc1\x81",
    "truncated": b"a\xe2\x82",
    "lone continuation": b"a\x80",
    "beyond U+10FFFF": b"\xf4\x90\x80\x80",
    "Latin-1": "Tür".encode("latin-1"),
}
WITH_NUL = {"NUL": b"a\x00b", "only NUL": b"\x00"}
Build = Callable[[bytes], bytes]
IN_PACKETS: dict[str, Build] = {
    "PUBLISH": lambda text: frame(0x30, string(text)),
    "SUBSCRIBE": lambda text: frame(0x82, b"\0\1" + string("valid") + b"\0" + string(text) + b"\0"),
    "UNSUBSCRIBE": lambda text: frame(0xA2, b"\0\1" + string("valid") + string(text)),
}
IN_CONNECT: dict[str, Build] = {
    "client id": connect_packet,
    "will topic": lambda text: connect_packet("x", ConnectOptions(will=Will(topic=text))),
    "user name": lambda text: connect_packet("x", ConnectOptions(user_name=text)),
}


async def assert_closes(scene: Scene, wire: bytes) -> None:
    """Assert that an accepted client that sends this is disconnected without an answer."""
    client = await scene.connect("bad")
    await client.send(wire)
    await client.closed()


@requirement("MQTT-1.5.3-1", "MQTT-3.3.2-1", "MQTT-3.8.3-1", "MQTT-3.10.3-1", "MQTT-4.8.0-1")
@pytest.mark.parametrize("where", IN_PACKETS)
@pytest.mark.parametrize("what", ILL_FORMED)
async def test_a_topic_that_is_not_utf8_closes_the_connection(
    scene: Scene, where: str, what: str
) -> None:
    await assert_closes(scene, IN_PACKETS[where](ILL_FORMED[what]))


@requirement("MQTT-1.5.3-2", "MQTT-4.7.3-2")
@pytest.mark.parametrize("where", IN_PACKETS)
@pytest.mark.parametrize("what", WITH_NUL)
async def test_a_topic_with_a_null_character_closes_the_connection(
    scene: Scene, where: str, what: str
) -> None:
    await assert_closes(scene, IN_PACKETS[where](WITH_NUL[what]))


@requirement(
    "MQTT-1.5.3-1",
    "MQTT-1.5.3-2",
    "MQTT-3.1.3-4",
    "MQTT-3.1.3-10",
    "MQTT-3.1.3-11",
    "MQTT-3.1.4-1",
    "MQTT-3.2.2-6",
)
@pytest.mark.parametrize("where", IN_CONNECT)
@pytest.mark.parametrize("what", ILL_FORMED | WITH_NUL)
async def test_a_string_in_connect_that_is_not_utf8_closes_without_connack(
    scene: Scene, where: str, what: str
) -> None:
    client = await scene.open()
    await client.send(IN_CONNECT[where]((ILL_FORMED | WITH_NUL)[what]))
    await client.closed()


@requirement("MQTT-1.5.3-3", "MQTT-4.7.3-4")
async def test_a_byte_order_mark_is_part_of_a_topic(scene: Scene) -> None:
    with_mark, without = f"\ufeff{scene.name}", scene.name
    client = await scene.connect("a")
    await client.subscribe((with_mark, 0))
    await client.publish(without, b"another topic")
    await client.publish(with_mark, b"this topic")
    await client.expect(Publish(with_mark, b"this topic"))


@requirement("MQTT-2.2.2-1", "MQTT-2.2.2-2", "MQTT-4.8.0-1")
@pytest.mark.parametrize(
    "wire",
    [
        frame(0x41, b"\0\1"),
        frame(0x51, b"\0\1"),
        frame(0x71, b"\0\1"),
        frame(0xC1, b""),
        frame(0xC8, b""),
    ],
    ids=["PUBACK", "PUBREC", "PUBCOMP", "PINGREQ", "PINGREQ high bit"],
)
async def test_reserved_flags_close_the_connection(scene: Scene, wire: bytes) -> None:
    await assert_closes(scene, wire)


@requirement("MQTT-2.2.2-2", "MQTT-3.1.4-1")
async def test_reserved_flags_of_connect_close_the_connection(scene: Scene) -> None:
    client = await scene.open()
    wire = connect_packet(scene.client_id("a"))
    await client.send(bytes([wire[0] | 1]) + wire[1:])
    await client.closed()


@requirement("MQTT-3.6.1-1")
@pytest.mark.parametrize("flags", [0, 1, 3, 6, 15])
async def test_pubrel_with_other_flags_closes_the_connection(scene: Scene, flags: int) -> None:
    await assert_closes(scene, frame(0x60 | flags, b"\0\1"))


@requirement("MQTT-3.8.1-1")
@pytest.mark.parametrize("flags", [0, 1, 3, 6, 15])
async def test_subscribe_with_other_flags_closes_the_connection(scene: Scene, flags: int) -> None:
    await assert_closes(scene, frame(0x80 | flags, b"\0\1" + string("a") + b"\0"))


@requirement("MQTT-3.10.1-1")
@pytest.mark.parametrize("flags", [0, 1, 3, 6, 15])
async def test_unsubscribe_with_other_flags_closes_the_connection(scene: Scene, flags: int) -> None:
    await assert_closes(scene, frame(0xA0 | flags, b"\0\1" + string("a")))


@requirement("MQTT-4.8.0-1")
@pytest.mark.parametrize(
    "wire",
    [
        frame(0x20, b"\0\0"),
        frame(0x90, b"\0\1\0"),
        frame(0xB0, b"\0\1"),
        frame(0xD0, b""),
        frame(0x00, b""),
        frame(0xF0, b""),
    ],
    ids=["CONNACK", "SUBACK", "UNSUBACK", "PINGRESP", "type 0", "type 15"],
)
async def test_a_packet_no_client_may_send_closes_the_connection(scene: Scene, wire: bytes) -> None:
    await assert_closes(scene, wire)


@requirement("MQTT-4.8.0-1")
@pytest.mark.parametrize(
    "wire",
    [
        b"\x30\xff\xff\xff\xff\x01",
        frame(0x30, b"\x00"),
        frame(0x30, b"\x00\x05abc"),
        frame(0x32, string("a")),
        frame(0x32, string("a") + b"\x00"),
        frame(0x40, b"\x01"),
        frame(0x40, b"\x00\x01\x00"),
        frame(0xC0, b"\x00"),
        frame(0x82, b"\x00\x01" + string("a")),
        frame(0x82, b"\x00\x01" + string("a") + b"\x00\x00"),
        frame(0xA2, b"\x00\x01\x00"),
    ],
    ids=[
        "remaining length of five bytes",
        "PUBLISH of one byte",
        "PUBLISH shorter than its topic",
        "PUBLISH QoS 1 without id",
        "PUBLISH QoS 1 with half an id",
        "PUBACK too short",
        "PUBACK too long",
        "PINGREQ with a body",
        "SUBSCRIBE without QoS",
        "SUBSCRIBE with half a filter",
        "UNSUBSCRIBE with half a filter",
    ],
)
async def test_a_packet_that_does_not_parse_closes_the_connection(
    scene: Scene, wire: bytes
) -> None:
    await assert_closes(scene, wire)


@requirement("MQTT-4.8.0-1")
async def test_a_protocol_violation_touches_no_other_connection(scene: Scene) -> None:
    good = await scene.connect("good")
    await good.subscribe((scene.topic(), 1))
    await assert_closes(scene, encode_publish("", b"no topic"))
    await good.publish(scene.topic(), b"still here", qos=1)
    assert await good.take() == Publish(scene.topic(), b"still here", qos=1)


@requirement("MQTT-2.3.1-1")
@pytest.mark.parametrize(
    "wire",
    [
        encode_publish("a", b"", qos=1, packet_id=0),
        encode_publish("a", b"", qos=2, packet_id=0),
        encode_subscribe(0, [("a", 0)]),
        encode_unsubscribe(0, ["a"]),
    ],
    ids=["PUBLISH QoS 1", "PUBLISH QoS 2", "SUBSCRIBE", "UNSUBSCRIBE"],
)
async def test_packet_id_zero_closes_the_connection(scene: Scene, wire: bytes) -> None:
    await assert_closes(scene, wire)


@requirement("MQTT-2.3.1-6", "MQTT-2.3.1-7", "MQTT-3.8.4-2", "MQTT-3.10.4-4")
@pytest.mark.parametrize("packet_id", [1, 0x00FF, 0xFF00, 0xFFFF])
async def test_every_answer_carries_the_id_of_its_request(scene: Scene, packet_id: int) -> None:
    client = await scene.connect("a")
    low_high = packet_id.to_bytes(2, "big")
    await client.send(encode_subscribe(packet_id, [(scene.topic("other"), 1)]))
    await client.expect(Suback(packet_id, (1,)))
    await client.send(encode_unsubscribe(packet_id, [scene.topic("other")]))
    await client.expect(Unsuback(packet_id))
    await client.send(encode_publish(scene.topic(), b"", qos=1, packet_id=packet_id))
    await client.expect(Puback(packet_id))
    await client.send(encode_publish(scene.topic(), b"", qos=2, packet_id=packet_id))
    await client.expect_bytes(b"\x50\x02" + low_high)
    await client.send(b"\x62\x02" + low_high)
    await client.expect_bytes(b"\x70\x02" + low_high)


@requirement("MQTT-2.3.1-5", "MQTT-4.3.1-1")
async def test_a_delivery_of_qos_0_has_no_packet_id(scene: Scene) -> None:
    client, publisher = await scene.connect("a"), await scene.connect("b")
    await client.subscribe((scene.topic(), 0))
    await publisher.publish(scene.topic(), b"payload", qos=2)
    await client.expect_bytes(encode_publish(scene.topic(), b"payload"))


@requirement("MQTT-7.1.1-1", "MQTT-7.0.0-2")
async def test_packets_may_arrive_byte_by_byte(scene: Scene) -> None:
    client = await scene.open()
    wire = connect_packet(scene.client_id("a")) + encode_subscribe(1, [(scene.topic(), 0)])
    for byte in wire + encode_publish(scene.topic(), b"slowly") + PINGREQ:
        await client.send(bytes([byte]))
    await client.expect_bytes(b"\x20\x02\x00\x00" + b"\x90\x03\x00\x01\x00")
    await client.expect(Publish(scene.topic(), b"slowly"))
    await client.expect(Pingresp())


@requirement("MQTT-7.1.1-1")
async def test_packets_may_arrive_all_at_once(scene: Scene) -> None:
    client = await scene.open()
    await client.send(
        connect_packet(scene.client_id("a")),
        encode_subscribe(1, [(scene.topic(), 0)]),
        encode_publish(scene.topic(), b"quickly"),
        PINGREQ,
        DISCONNECT,
    )
    await client.expect_bytes(b"\x20\x02\x00\x00" + b"\x90\x03\x00\x01\x00")
    await client.expect(Publish(scene.topic(), b"quickly"))
    await client.expect(Pingresp())
    await client.closed()


async def test_a_remaining_length_may_use_more_bytes_than_it_needs(scene: Scene) -> None:
    client = await scene.connect("a")
    await client.send(b"\xc0\x80\x80\x00")
    await client.expect(Pingresp())


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 300_000])
async def test_payloads_of_every_length_encoding_arrive_unchanged(scene: Scene, size: int) -> None:
    payload = bytes(range(256)) * (size // 256) + bytes(range(size % 256))
    client = await scene.connect("a")
    await client.subscribe((scene.topic(), 0))
    await client.publish(scene.topic(), payload)
    assert await client.receive() == Publish(scene.topic(), payload)
