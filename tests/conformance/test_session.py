"""Sessions: what is kept, what is sent again, and what ends with the connection."""

import pytest
from tests.conformance.requirements import requirement
from tests.conformance.scene import Scene
from tests.support.mqtt_client_frames import encode_publish
from tests.support.mqtt_peer import (
    Connack,
    ConnectOptions,
    Puback,
    Publish,
    Pubrec,
    Pubrel,
)

PERSISTENT = ConnectOptions(clean=False)
CLEAN = ConnectOptions(clean=True)


@requirement(
    "MQTT-3.2.2-1", "MQTT-3.2.2-2", "MQTT-3.2.2-3", "MQTT-3.1.2-4", "MQTT-3.1.2-6", "MQTT-3.1.4-3"
)
async def test_session_present_says_whether_there_is_a_session(scene: Scene) -> None:
    for options, present in [
        (PERSISTENT, False),
        (PERSISTENT, True),
        (PERSISTENT, True),
        (CLEAN, False),
        (PERSISTENT, False),
        (PERSISTENT, True),
    ]:
        client, connack = await scene.attach("a", options)
        assert connack == Connack(session_present=present)
        await client.disconnect()


@requirement("MQTT-3.2.2-2", "MQTT-3.1.2-4")
async def test_a_session_without_subscriptions_is_a_session_after_a_lost_connection(
    scene: Scene,
) -> None:
    client = await scene.connect("a", PERSISTENT)
    client.drop()
    _, connack = await scene.attach("a", PERSISTENT)
    assert connack == Connack(session_present=True)


@requirement("MQTT-3.2.2-3")
async def test_a_will_alone_makes_no_session_present(scene: Scene) -> None:
    refused = await scene.open()
    assert await refused.connect("", PERSISTENT) == Connack(code=2)
    _, connack = await scene.attach("a", PERSISTENT)
    assert connack == Connack()


@requirement("MQTT-3.1.2-5", "MQTT-4.5.0-1", "MQTT-4.1.0-1")
@pytest.mark.parametrize("graceful", [True, False])
async def test_messages_for_an_absent_client_are_kept_in_order(
    scene: Scene, graceful: bool
) -> None:
    publisher, subscriber = await scene.connect("a"), await scene.connect("b", PERSISTENT)
    await subscriber.subscribe((scene.topic(), 2))
    if graceful:
        await subscriber.disconnect()
    else:
        subscriber.drop()
    for n in range(150):
        await publisher.publish(scene.topic(), str(n).encode(), qos=1 + n % 2)
    subscriber = await scene.connect("b", PERSISTENT)
    came = [await subscriber.take() for _ in range(150)]
    for qos in (1, 2):
        payloads = [int(message.payload) for message in came if message.qos == qos]
        assert payloads == list(range(qos - 1, 150, 2))
    assert not any(message.retain for message in came)
    assert await scene.received(subscriber, after=publisher) == []


async def test_messages_of_qos_0_are_not_kept(scene: Scene) -> None:
    publisher, subscriber = await scene.connect("a"), await scene.connect("b", PERSISTENT)
    await subscriber.subscribe((scene.topic("0"), 0), (scene.topic("1"), 1))
    await subscriber.disconnect()
    await publisher.publish(scene.topic("0"), b"granted 0", qos=1)
    await publisher.publish(scene.topic("1"), b"published 0", qos=0)
    await publisher.publish(scene.topic("1"), b"kept", qos=1)
    subscriber = await scene.connect("b", PERSISTENT)
    assert await subscriber.take() == Publish(scene.topic("1"), b"kept", qos=1)
    assert await scene.received(subscriber, after=publisher) == []


@requirement("MQTT-3.1.2-4", "MQTT-4.1.0-1", "MQTT-3.1.3-2")
async def test_subscriptions_belong_to_the_client_id(scene: Scene) -> None:
    first = await scene.connect("a", PERSISTENT)
    await first.subscribe((scene.topic("old"), 1), (scene.topic("gone"), 1))
    await first.unsubscribe(scene.topic("gone"))
    await first.disconnect()
    other = await scene.connect("b", PERSISTENT)
    again = await scene.connect("a", PERSISTENT)
    await other.publish(scene.topic("gone"), b"no", qos=1)
    await other.publish(scene.topic("old"), b"yes", qos=1)
    assert await again.take() == Publish(scene.topic("old"), b"yes", qos=1)
    assert await scene.received(again, after=other) == []
    assert await scene.received(other, after=other) == []


@requirement("MQTT-3.1.2-6", "MQTT-3.1.4-3")
async def test_a_clean_connect_discards_all_of_the_session_before(scene: Scene) -> None:
    publisher, subscriber = await scene.connect("a"), await scene.connect("b", PERSISTENT)
    await subscriber.subscribe((scene.topic(), 2))
    await publisher.publish(scene.topic(), b"in flight", qos=2)
    await subscriber.receive()
    await subscriber.send(encode_publish(scene.topic("x"), b"open", qos=2, packet_id=5))
    await subscriber.expect(Pubrec(5))
    subscriber.drop()
    await publisher.publish(scene.topic(), b"queued", qos=1)
    subscriber = await scene.connect("b", CLEAN)
    await publisher.publish(scene.topic(), b"no longer subscribed", qos=1)
    assert await scene.received(subscriber, after=publisher) == []
    await subscriber.subscribe((scene.topic("x"), 0))
    await subscriber.send(encode_publish(scene.topic("x"), b"new", qos=2, packet_id=5))
    await subscriber.send(Pubrel(5).encode())
    packets = [await subscriber.read_packet() for _ in range(3)]
    assert Publish(scene.topic("x"), b"new") in packets


@requirement("MQTT-3.1.2-6")
@pytest.mark.parametrize("graceful", [True, False])
async def test_a_clean_session_ends_with_its_connection(scene: Scene, graceful: bool) -> None:
    client = await scene.connect("a", CLEAN)
    await client.subscribe((scene.topic(), 1))
    if graceful:
        await client.disconnect()
    else:
        client.drop()
    client, connack = await scene.attach("a", PERSISTENT)
    assert connack == Connack()
    await client.publish(scene.topic(), b"payload", qos=1)
    assert await scene.received(client, after=client) == []


@requirement("MQTT-4.1.0-2")
async def test_a_session_lasts_while_its_client_is_connected(scene: Scene) -> None:
    client = await scene.connect("a", CLEAN)
    await client.subscribe((scene.topic(), 1))
    for other in "bcd":
        await (await scene.connect(other, CLEAN)).disconnect()
    await client.publish(scene.topic(), b"payload", qos=1)
    assert await client.take() == Publish(scene.topic(), b"payload", qos=1)


@requirement("MQTT-3.1.4-2", "MQTT-3.1.2-4", "MQTT-4.4.0-1")
async def test_a_takeover_loses_nothing_and_doubles_nothing(scene: Scene) -> None:
    publisher, old = await scene.connect("a"), await scene.connect("b", PERSISTENT)
    await old.subscribe((scene.topic(), 1))
    await publisher.publish(scene.topic(), b"acknowledged", qos=1)
    await old.take()
    assert await old.ping() == []
    await publisher.publish(scene.topic(), b"seen", qos=1)
    seen = await old.receive()
    new, connack = await scene.attach("b", PERSISTENT)
    assert connack == Connack(session_present=True)
    await publisher.publish(scene.topic(), b"later", qos=1)
    again = await new.take()
    assert again == Publish(scene.topic(), b"seen", qos=1, dup=True)
    assert again.packet_id == seen.packet_id
    assert await new.take() == Publish(scene.topic(), b"later", qos=1)
    assert await scene.received(new, after=publisher) == []


@requirement(
    "MQTT-4.4.0-1",
    "MQTT-3.3.1-1",
    "MQTT-2.3.1-4",
    "MQTT-4.6.0-1",
    "MQTT-4.3.2-1",
    "MQTT-4.3.3-1",
)
async def test_what_is_unacknowledged_is_sent_again_in_order_with_its_ids(scene: Scene) -> None:
    publisher, subscriber = await scene.connect("a"), await scene.connect("b", PERSISTENT)
    await subscriber.subscribe((scene.topic(), 2))
    for payload, qos in [(b"1", 1), (b"2", 2), (b"3", 1), (b"4", 2), (b"5", 1)]:
        await publisher.publish(scene.topic(), payload, qos)
    first, second, third, fourth, fifth = [await subscriber.receive() for _ in range(5)]
    await subscriber.send(Puback(third.packet_id).encode(), Pubrec(second.packet_id).encode())
    await subscriber.expect(Pubrel(second.packet_id))
    subscriber.drop()

    for _ in range(2):
        subscriber = await scene.connect("b", PERSISTENT)
        again = [await subscriber.read_packet() for _ in range(4)]
        publishes = [packet for packet in again if isinstance(packet, Publish)]
        assert publishes == [
            Publish(scene.topic(), b"1", qos=1, dup=True),
            Publish(scene.topic(), b"4", qos=2, dup=True),
            Publish(scene.topic(), b"5", qos=1, dup=True),
        ]
        assert [m.packet_id for m in publishes] == [m.packet_id for m in (first, fourth, fifth)]
        assert Pubrel(second.packet_id) in again
        assert await subscriber.ping() == []
        subscriber.drop()


@requirement("MQTT-4.3.3-1")
async def test_a_publish_of_qos_2_is_not_repeated_after_pubrel(scene: Scene) -> None:
    publisher, subscriber = await scene.connect("a"), await scene.connect("b", PERSISTENT)
    await subscriber.subscribe((scene.topic(), 2))
    await publisher.publish(scene.topic(), b"once", qos=2)
    delivery = await subscriber.receive()
    await subscriber.send(Pubrec(delivery.packet_id).encode())
    await subscriber.expect(Pubrel(delivery.packet_id))
    subscriber.drop()
    subscriber = await scene.connect("b", PERSISTENT)
    await subscriber.expect(Pubrel(delivery.packet_id))
    await subscriber.send(b"\x70\x02" + delivery.packet_id.to_bytes(2, "big"))
    assert await scene.received(subscriber, after=publisher) == []
    await subscriber.disconnect()
    subscriber = await scene.connect("b", PERSISTENT)
    assert await subscriber.ping() == []


@requirement("MQTT-3.3.1-1", "MQTT-4.3.2-1")
async def test_nothing_is_sent_again_while_the_connection_lasts(scene: Scene) -> None:
    publisher, subscriber = await scene.connect("a"), await scene.connect("b")
    await subscriber.subscribe((scene.topic(), 1))
    await publisher.publish(scene.topic(), b"payload", qos=1)
    await subscriber.receive()
    assert await scene.received(subscriber, after=publisher) == []
