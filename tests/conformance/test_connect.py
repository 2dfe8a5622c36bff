"""CONNECT and CONNACK (sections 3.1 and 3.2), wills and sessions aside."""

import string as characters
from collections.abc import Callable

import pytest
from tests.conformance.requirements import requirement
from tests.conformance.scene import Scene
from tests.support.mqtt_client_frames import (
    PINGREQ,
    encode_publish,
    encode_subscribe,
    frame,
    string,
)
from tests.support.mqtt_peer import Connack, ConnectOptions, Pingresp, Publish, Will, connect_packet


@requirement("MQTT-3.1.0-1")
@pytest.mark.parametrize(
    "wire",
    [
        PINGREQ,
        encode_publish("a", b""),
        encode_subscribe(1, [("a", 0)]),
        b"\xe0\x00",
        b"GET / HTTP/1.1",
    ],
    ids=["PINGREQ", "PUBLISH", "SUBSCRIBE", "DISCONNECT", "HTTP"],
)
async def test_a_first_packet_other_than_connect_closes_the_connection(
    scene: Scene, wire: bytes
) -> None:
    client = await scene.open()
    await client.send(wire)
    await client.closed()


@requirement("MQTT-3.1.0-2")
async def test_a_second_connect_closes_the_connection(scene: Scene) -> None:
    client = await scene.connect("a")
    await client.send(connect_packet(scene.client_id("a")))
    await client.closed()


@requirement("MQTT-3.1.4-4", "MQTT-3.2.0-1", "MQTT-3.2.2-1")
async def test_a_valid_connect_is_answered_with_connack_zero(scene: Scene) -> None:
    client = await scene.open()
    await client.send(connect_packet(scene.client_id("a")), PINGREQ)
    await client.expect_bytes(b"\x20\x02\x00\x00" + b"\xd0\x00")


@requirement("MQTT-3.1.2-1", "MQTT-3.1.4-1")
@pytest.mark.parametrize("name", ["", "mqtt", "MQTT ", "MQTTT", "HTTP", b"\xff\xff"])
async def test_an_unknown_protocol_name_closes_without_connack(
    scene: Scene, name: str | bytes
) -> None:
    client = await scene.open()
    await client.send(connect_packet(scene.client_id("a"), ConnectOptions(protocol=name)))
    await client.closed()


@requirement("MQTT-3.1.2-2", "MQTT-3.2.2-4", "MQTT-3.2.2-5")
@pytest.mark.parametrize("level", [0, 6, 0x7F])
async def test_an_unknown_protocol_level_gets_code_1_and_the_end(scene: Scene, level: int) -> None:
    client = await scene.open()
    await client.send(connect_packet(scene.client_id("a"), ConnectOptions(level=level)))
    await client.expect_bytes(b"\x20\x02\x00\x01")
    await client.closed()


@requirement("MQTT-3.1.2-2", "MQTT-3.2.2-5")
async def test_a_connect_of_mqtt_5_gets_code_1_and_the_end(scene: Scene) -> None:
    properties = b"\x05\x11\x00\x00\x00\x3c"
    body = string("MQTT") + b"\x05\x02\x00\x00" + properties + string(scene.client_id("a"))
    client = await scene.open()
    await client.send(frame(0x10, body))
    await client.expect_bytes(b"\x20\x02\x00\x01")
    await client.closed()


@requirement("MQTT-3.1.4-5")
async def test_what_follows_a_rejected_connect_is_not_processed(scene: Scene) -> None:
    rejected = await scene.open()
    await rejected.send(
        connect_packet(scene.client_id("a"), ConnectOptions(level=6)),
        encode_publish(scene.topic(), b"never", retain=True),
    )
    await rejected.expect(Connack(code=1))
    await rejected.closed()
    client = await scene.connect("b")
    await client.subscribe((scene.topic(), 0))
    assert await scene.received(client, after=client) == []


@pytest.mark.parametrize(("name", "level"), [("MQIsdp", 3), ("MQIsdp", 0x83), ("MQTT", 0x84)])
async def test_older_clients_and_bridges_are_served(scene: Scene, name: str, level: int) -> None:
    other = await scene.connect("other")
    client = await scene.connect("a", ConnectOptions(protocol=name, level=level))
    for sender, receiver in ((other, client), (client, other)):
        assert await receiver.subscribe((scene.topic(), 2)) == (2,)
        await sender.publish(scene.topic(), b"payload", qos=2)
        assert await receiver.take() == Publish(scene.topic(), b"payload", qos=2)
        await receiver.unsubscribe(scene.topic())


@pytest.mark.parametrize("clean", [True, False], ids=["clean", "persistent"])
async def test_an_empty_client_id_is_rejected_in_mqtt_3_1(scene: Scene, clean: bool) -> None:
    client = await scene.open()
    options = ConnectOptions(protocol="MQIsdp", level=3, clean=clean)
    assert await client.connect("", options) == Connack(code=2)
    await client.closed()


async def test_a_client_id_longer_than_mqtt_3_1_allows_is_accepted_in_it(scene: Scene) -> None:
    options = ConnectOptions(protocol="MQIsdp", level=3)
    await scene.connect("longer than the 23 characters of MQTT 3.1", options)


@requirement("MQTT-3.1.2-3", "MQTT-3.1.4-1")
async def test_the_reserved_connect_flag_closes_the_connection(scene: Scene) -> None:
    client = await scene.open()
    await client.send(connect_packet(scene.client_id("a"), ConnectOptions(flags=0x03)))
    await client.closed()


WILL = Will(topic="will")
NON_CONFORMING = {
    "will QoS without will": ConnectOptions(flags=0x02 | 0x08),
    "will retain without will": ConnectOptions(flags=0x02 | 0x20),
    "will QoS 3": ConnectOptions(will=WILL, flags=0x02 | 0x04 | 0x18),
    "will flag without will": ConnectOptions(flags=0x02 | 0x04),
    "will without will flag": ConnectOptions(will=WILL, flags=0x02),
    "user name without its flag": ConnectOptions(user_name="user", flags=0x02),
    "user name flag without user name": ConnectOptions(flags=0x02 | 0x80),
    "password without its flag": ConnectOptions(
        user_name="user", password=b"secret", flags=0x02 | 0x80
    ),
    "password flag without password": ConnectOptions(user_name="user", flags=0x02 | 0xC0),
    "password flag without user name flag": ConnectOptions(password=b"secret"),
}


@requirement(
    "MQTT-3.1.2-9",
    "MQTT-3.1.2-11",
    "MQTT-3.1.2-13",
    "MQTT-3.1.2-14",
    "MQTT-3.1.2-15",
    "MQTT-3.1.2-18",
    "MQTT-3.1.2-19",
    "MQTT-3.1.2-20",
    "MQTT-3.1.2-21",
    "MQTT-3.1.2-22",
    "MQTT-3.1.4-1",
)
@pytest.mark.parametrize("what", NON_CONFORMING)
async def test_flags_and_payload_that_disagree_close_without_connack(
    scene: Scene, what: str
) -> None:
    client = await scene.open()
    await client.send(connect_packet(scene.client_id("a"), NON_CONFORMING[what]))
    await client.closed()


@requirement("MQTT-3.1.3-3", "MQTT-3.1.4-1")
@pytest.mark.parametrize("payload", [b"", b"\x00", b"\x00\x05abc"])
async def test_a_connect_without_a_client_id_closes_without_connack(
    scene: Scene, payload: bytes
) -> None:
    client = await scene.open()
    await client.send(frame(0x10, string("MQTT") + b"\x04\x02\x00\x00" + payload))
    await client.closed()


@requirement("MQTT-3.1.4-1", "MQTT-3.2.2-6")
async def test_bytes_behind_the_payload_of_connect_close_without_connack(scene: Scene) -> None:
    client = await scene.open()
    body = string("MQTT") + b"\x04\x02\x00\x00" + string(scene.client_id("a")) + b"\x00"
    await client.send(frame(0x10, body))
    await client.closed()


@requirement("MQTT-3.1.3-1", "MQTT-3.1.2-9")
async def test_the_payload_is_read_in_the_order_of_the_standard(scene: Scene) -> None:
    watcher = await scene.connect("watcher")
    await watcher.subscribe((scene.topic("will"), 2))
    everything = ConnectOptions(
        will=Will(topic=scene.topic("will"), payload=b"message", qos=2),
        user_name="user",
        password=b"secret",
    )
    client = await scene.connect("a", everything)
    client.drop()
    assert await watcher.take() == Publish(scene.topic("will"), b"message", qos=2)


@requirement("MQTT-3.1.3-5")
@pytest.mark.parametrize(
    "client_id",
    ["a", "Z", "0", *(characters.digits + characters.ascii_letters)[:62:23]]
    + [(characters.digits + characters.ascii_letters)[i : i + 23] for i in (0, 23, 39)],
)
async def test_client_ids_of_letters_and_digits_are_accepted(scene: Scene, client_id: str) -> None:
    client = await scene.open()
    assert await client.connect(client_id) == Connack()


@pytest.mark.parametrize("client_id", ["x" * 24, "x" * 1_000, "with blank", "a/b+#", "größe/€/𝄞"])
async def test_longer_and_stranger_client_ids_are_accepted_too(
    scene: Scene, client_id: str
) -> None:
    client = await scene.open()
    assert await client.connect(scene.name + client_id) == Connack()


@requirement("MQTT-3.1.3-6", "MQTT-3.1.3-7")
async def test_clients_without_an_id_get_different_ones(scene: Scene) -> None:
    first, second = await scene.open(), await scene.open()
    assert await first.connect("") == Connack()
    assert await second.connect("") == Connack()
    await first.subscribe((scene.topic(), 1))
    await second.publish(scene.topic(), b"to the other", qos=1)
    assert await first.take() == Publish(scene.topic(), b"to the other", qos=1)
    assert await second.ping() == []


@requirement("MQTT-3.1.3-8", "MQTT-3.1.3-9", "MQTT-3.2.2-4", "MQTT-3.2.2-5")
async def test_no_client_id_and_clean_session_0_get_code_2_and_the_end(scene: Scene) -> None:
    client = await scene.open()
    await client.send(connect_packet("", ConnectOptions(clean=False)))
    await client.expect_bytes(b"\x20\x02\x00\x02")
    await client.closed()


@requirement("MQTT-3.12.4-1")
async def test_every_pingreq_is_answered(scene: Scene) -> None:
    client = await scene.connect("a")
    await client.send(PINGREQ * 3)
    for _ in range(3):
        await client.expect(Pingresp())


@pytest.mark.parametrize(
    "make", [lambda name: name.encode(), lambda name: b"\x00\xff" + name.encode()]
)
async def test_user_name_and_any_bytes_as_password_are_accepted(
    scene: Scene, make: Callable[[str], bytes]
) -> None:
    options = ConnectOptions(user_name="user", password=make(scene.name))
    _, connack = await scene.attach("a", options)
    assert connack == Connack()
