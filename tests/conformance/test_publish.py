"""PUBLISH and its exchanges, in both directions (sections 3.3 and 4.3)."""

import itertools

import pytest
from tests.conformance.requirements import requirement
from tests.conformance.scene import Scene
from tests.support.mqtt_client_frames import encode_publish
from tests.support.mqtt_peer import (
    ConnectOptions,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
)


@requirement("MQTT-3.8.4-6", "MQTT-3.3.4-1", "MQTT-4.5.0-1")
@pytest.mark.parametrize(("published", "granted"), [*itertools.product(range(3), range(3))])
async def test_a_message_is_delivered_with_the_lower_qos(
    scene: Scene, published: int, granted: int
) -> None:
    publisher, subscriber = await scene.connect("a"), await scene.connect("b")
    assert await subscriber.subscribe((scene.topic(), granted)) == (granted,)
    await publisher.publish(scene.topic(), b"payload", published)
    qos = min(published, granted)
    assert await subscriber.take() == Publish(scene.topic(), b"payload", qos)
    assert await scene.received(subscriber, after=publisher) == []


@requirement("MQTT-3.3.4-1")
async def test_a_publish_of_qos_0_is_not_answered(scene: Scene) -> None:
    client = await scene.connect("a")
    await client.publish(scene.topic(), b"payload")
    assert await client.ping() == []


@requirement("MQTT-4.3.2-2", "MQTT-4.5.0-1")
@pytest.mark.parametrize("dup", [False, True])
async def test_after_puback_the_same_id_is_a_new_message(scene: Scene, dup: bool) -> None:
    publisher, subscriber = await scene.connect("a"), await scene.connect("b")
    await subscriber.subscribe((scene.topic(), 1))
    for payload in (b"first", b"second"):
        await publisher.send(encode_publish(scene.topic(), payload, qos=1, packet_id=7, dup=dup))
        await publisher.expect(Puback(7))
    assert await subscriber.take() == Publish(scene.topic(), b"first", qos=1)
    assert await subscriber.take() == Publish(scene.topic(), b"second", qos=1)


@requirement("MQTT-3.3.1-3", "MQTT-3.3.1-2")
@pytest.mark.parametrize(("published", "granted"), [(1, 0), (1, 1), (2, 0), (2, 1), (2, 2)])
async def test_dup_is_not_passed_on(scene: Scene, published: int, granted: int) -> None:
    publisher, subscriber = await scene.connect("a"), await scene.connect("b")
    await subscriber.subscribe((scene.topic(), granted))
    await publisher.send(
        encode_publish(scene.topic(), b"again", qos=published, packet_id=1, dup=True)
    )
    if published == 2:
        await publisher.expect(Pubrec(1))
        await publisher.send(Pubrel(1).encode())
    assert await subscriber.take() == Publish(scene.topic(), b"again", min(published, granted))


@requirement("MQTT-4.3.3-2")
async def test_a_message_of_qos_2_is_delivered_once_however_often_it_is_sent(
    scene: Scene,
) -> None:
    publisher, subscriber = await scene.connect("a"), await scene.connect("b")
    await subscriber.subscribe((scene.topic(), 2))
    for dup in (False, True, True):
        await publisher.send(encode_publish(scene.topic(), b"once", qos=2, packet_id=9, dup=dup))
        await publisher.expect(Pubrec(9))
    for _ in range(2):
        await publisher.send(Pubrel(9).encode())
        await publisher.expect(Pubcomp(9))
    assert await subscriber.take() == Publish(scene.topic(), b"once", qos=2)
    assert await scene.received(subscriber, after=publisher) == []


@requirement("MQTT-4.3.3-2")
async def test_after_pubcomp_the_same_id_is_a_new_message(scene: Scene) -> None:
    publisher, subscriber = await scene.connect("a"), await scene.connect("b")
    await subscriber.subscribe((scene.topic(), 2))
    for payload in (b"first", b"second"):
        await publisher.send(
            encode_publish(scene.topic(), payload, qos=2, packet_id=9, dup=payload == b"second")
        )
        await publisher.expect(Pubrec(9))
        await publisher.send(Pubrel(9).encode())
        await publisher.expect(Pubcomp(9))
        assert await subscriber.take() == Publish(scene.topic(), payload, qos=2)


@requirement("MQTT-4.3.3-2", "MQTT-4.1.0-1", "MQTT-2.3.1-3")
async def test_an_open_id_of_qos_2_is_remembered_over_a_reconnect(scene: Scene) -> None:
    persistent = ConnectOptions(clean=False)
    publisher, subscriber = await scene.connect("a", persistent), await scene.connect("b")
    await subscriber.subscribe((scene.topic(), 2))
    await publisher.send(encode_publish(scene.topic(), b"once", qos=2, packet_id=9))
    await publisher.expect(Pubrec(9))
    publisher.drop()
    publisher = await scene.connect("a", persistent)
    await publisher.send(encode_publish(scene.topic(), b"once", qos=2, packet_id=9, dup=True))
    await publisher.expect(Pubrec(9))
    await publisher.send(Pubrel(9).encode())
    await publisher.expect(Pubcomp(9))
    assert await subscriber.take() == Publish(scene.topic(), b"once", qos=2)
    assert await scene.received(subscriber, after=publisher) == []


@requirement("MQTT-4.3.3-2")
async def test_a_pubrel_of_an_unknown_id_is_answered_with_pubcomp(scene: Scene) -> None:
    client = await scene.connect("a")
    await client.send(Pubrel(4_711).encode())
    await client.expect(Pubcomp(4_711))


@requirement("MQTT-4.3.3-1", "MQTT-2.3.1-6")
async def test_a_pubrec_is_answered_with_pubrel_and_its_id(scene: Scene) -> None:
    client = await scene.connect("a")
    await client.subscribe((scene.topic(), 2))
    await client.publish(scene.topic(), b"payload", qos=2)
    delivery = await client.receive()
    assert not delivery.dup
    await client.send(Pubrec(delivery.packet_id).encode())
    await client.expect(Pubrel(delivery.packet_id))
    await client.send(Pubcomp(delivery.packet_id).encode())
    assert await client.ping() == []


@pytest.mark.parametrize("answer", [Puback, Pubrec, Pubcomp])
async def test_an_acknowledgement_of_nothing_is_harmless(
    scene: Scene, answer: type[Puback | Pubrec | Pubcomp]
) -> None:
    client = await scene.connect("a")
    await client.subscribe((scene.topic(), 1))
    await client.send(answer(4_711).encode())
    await client.publish(scene.topic(), b"payload", qos=1)
    while not isinstance(packet := await client.read_packet(), Publish):
        assert packet == Pubrel(4_711)
    assert packet == Publish(scene.topic(), b"payload", qos=1)


@requirement("MQTT-3.3.1-4")
async def test_qos_3_closes_the_connection(scene: Scene) -> None:
    client = await scene.connect("a")
    await client.send(encode_publish(scene.topic(), b"payload", qos=3, packet_id=1))
    await client.closed()


@requirement("MQTT-3.3.5-2")
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_a_publish_to_sys_is_acknowledged_and_ignored(scene: Scene, qos: int) -> None:
    publisher, subscriber = await scene.connect("a"), await scene.connect("b")
    topic = f"$SYS/{scene.name}/forged"
    await subscriber.subscribe((topic, 0))
    await publisher.publish(topic, b"forged", qos, retain=True)
    await subscriber.subscribe((topic, 0))
    assert await scene.received(subscriber, after=publisher) == []
