"""SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK (sections 3.8 to 3.11)."""

import pytest
from tests.conformance.requirements import requirement
from tests.conformance.scene import Scene
from tests.support.mqtt_client_frames import (
    encode_publish,
    encode_subscribe,
    encode_unsubscribe,
    frame,
    string,
)
from tests.support.mqtt_peer import Puback, Publish, Suback, Unsuback


@requirement(
    "MQTT-3.8.4-1", "MQTT-3.8.4-4", "MQTT-3.8.4-5", "MQTT-3.9.3-1", "MQTT-3.9.3-2", "MQTT-3.8.3-2"
)
async def test_suback_has_a_code_per_filter_in_their_order(scene: Scene) -> None:
    client = await scene.connect("a")
    filters = [(scene.topic(f"{n}/+/#"), qos) for n, qos in enumerate((2, 0, 1, 1, 0, 2))]
    await client.send(encode_subscribe(513, filters))
    await client.expect(Suback(513, (2, 0, 1, 1, 0, 2)))


@requirement("MQTT-3.8.4-4")
async def test_several_filters_in_one_subscribe_all_hold(scene: Scene) -> None:
    client = await scene.connect("a")
    topics = [scene.topic(str(n)) for n in range(5)]
    await client.subscribe(*((topic, 1) for topic in topics))
    for topic in topics:
        await client.publish(topic, b"payload", qos=1)
        assert await client.take() == Publish(topic, b"payload", qos=1)


@requirement("MQTT-3.8.4-1", "MQTT-4.5.0-1")
async def test_nothing_published_after_suback_is_missed(scene: Scene) -> None:
    publisher, subscriber = await scene.connect("a"), await scene.connect("b")
    for n in range(50):
        await subscriber.subscribe((scene.topic(str(n)), 0))
        await publisher.publish(scene.topic(str(n)), b"payload")
        assert await subscriber.receive() == Publish(scene.topic(str(n)), b"payload")


@requirement("MQTT-3.8.3-3")
async def test_a_subscribe_without_filters_closes_the_connection(scene: Scene) -> None:
    client = await scene.connect("a")
    await client.send(encode_subscribe(1, []))
    await client.closed()


@requirement("MQTT-3.8.3-4")
@pytest.mark.parametrize("options", [3, 4, 0x40, 0x80, 0xFF])
async def test_a_reserved_qos_closes_the_connection(scene: Scene, options: int) -> None:
    client = await scene.connect("a")
    await client.send(frame(0x82, b"\0\1" + string(scene.topic()) + bytes([options])))
    await client.closed()


async def test_a_subscribe_with_one_wrong_filter_changes_nothing(scene: Scene) -> None:
    watcher, client = await scene.connect("watcher"), await scene.connect("a")
    await client.send(
        encode_subscribe(1, [(scene.topic(), 0), ("wrong/#/filter", 0)]),
        encode_publish(scene.topic(), b"payload"),
    )
    await client.closed()
    await watcher.subscribe((scene.topic(), 0))
    assert await scene.received(watcher, after=watcher) == []


@requirement("MQTT-3.8.4-3")
@pytest.mark.parametrize(("first", "second"), [(0, 2), (2, 0), (1, 2), (1, 1)])
async def test_the_same_filter_again_replaces_the_subscription(
    scene: Scene, first: int, second: int
) -> None:
    publisher, subscriber = await scene.connect("a"), await scene.connect("b")
    await subscriber.subscribe((scene.topic(), first))
    await subscriber.subscribe((scene.topic(), second))
    await publisher.publish(scene.topic(), b"payload", qos=2)
    assert await subscriber.take() == Publish(scene.topic(), b"payload", second)
    assert await scene.received(subscriber, after=publisher) == []
    await subscriber.unsubscribe(scene.topic())
    await publisher.publish(scene.topic(), b"payload", qos=2)
    assert await scene.received(subscriber, after=publisher) == []


@requirement("MQTT-3.8.4-3")
async def test_subscribing_again_does_not_interrupt_delivery(scene: Scene) -> None:
    publisher, subscriber = await scene.connect("a"), await scene.connect("b")
    await subscriber.subscribe((scene.topic(), 0))
    numbers = [str(n).encode() for n in range(300)]
    for n, number in enumerate(numbers):
        await publisher.send(encode_publish(scene.topic(), number))
        if n % 10 == 0:
            await subscriber.send(encode_subscribe(n + 1, [(scene.topic(), 0)]))
    came = [
        p.payload
        for p in await scene.received(subscriber, after=publisher)
        if isinstance(p, Publish)
    ]
    assert came == numbers


@requirement("MQTT-3.3.5-1")
@pytest.mark.parametrize(
    ("filters", "qos"),
    [
        ([("a/b", 0), ("a/+", 1), ("a/#", 2)], 2),
        ([("a/#", 2), ("a/+", 1), ("a/b", 0)], 2),
        ([("a/+", 1), ("a/b", 0)], 1),
        ([("a/b", 0), ("+/b", 0)], 0),
        ([("a/b", 1), ("a/+", 1)], 1),
    ],
)
async def test_overlapping_filters_deliver_once_with_the_highest_qos(
    scene: Scene, filters: list[tuple[str, int]], qos: int
) -> None:
    publisher, subscriber = await scene.connect("a"), await scene.connect("b")
    for rest, granted in filters:
        await subscriber.subscribe((scene.topic(rest), granted))
    await publisher.publish(scene.topic("a/b"), b"payload", qos=2)
    assert await subscriber.take() == Publish(scene.topic("a/b"), b"payload", qos)
    assert await scene.received(subscriber, after=publisher) == []


@requirement("MQTT-3.10.4-2", "MQTT-3.10.4-4")
async def test_nothing_is_delivered_after_unsuback(scene: Scene) -> None:
    publisher, subscriber = await scene.connect("a"), await scene.connect("b")
    await subscriber.subscribe((scene.topic(), 2))
    await subscriber.unsubscribe(scene.topic())
    for qos in range(3):
        await publisher.publish(scene.topic(), b"payload", qos)
    assert await scene.received(subscriber, after=publisher) == []


@requirement("MQTT-3.10.4-1")
@pytest.mark.parametrize("other", ["a/#", "a/+", "+/b", "a/B", "a/b/", "a", "#"])
async def test_unsubscribe_removes_only_the_very_same_filter(scene: Scene, other: str) -> None:
    publisher, subscriber = await scene.connect("a"), await scene.connect("b")
    await subscriber.subscribe((scene.topic("a/b"), 0))
    await subscriber.unsubscribe(scene.topic(other))
    await publisher.publish(scene.topic("a/b"), b"payload")
    assert await subscriber.receive() == Publish(scene.topic("a/b"), b"payload")


@requirement("MQTT-3.10.4-1")
async def test_unsubscribing_a_wildcard_leaves_the_filters_it_covers(scene: Scene) -> None:
    publisher, subscriber = await scene.connect("a"), await scene.connect("b")
    await subscriber.subscribe((scene.topic("#"), 0), (scene.topic("a/b"), 1))
    await subscriber.unsubscribe(scene.topic("#"))
    await publisher.publish(scene.topic("a/b"), b"payload", qos=2)
    assert await subscriber.take() == Publish(scene.topic("a/b"), b"payload", qos=1)
    assert await scene.received(subscriber, after=publisher) == []


@requirement("MQTT-3.10.4-5")
async def test_unsubscribing_the_unknown_is_answered(scene: Scene) -> None:
    client = await scene.connect("a")
    await client.send(encode_unsubscribe(77, [scene.topic("unknown")]))
    await client.expect(Unsuback(77))


@requirement("MQTT-3.10.4-6")
async def test_several_filters_in_one_unsubscribe_are_all_removed(scene: Scene) -> None:
    client = await scene.connect("a")
    filters = [scene.topic("a"), scene.topic("+"), scene.topic("#")]
    await client.subscribe(*((name, 1) for name in filters))
    await client.send(encode_unsubscribe(77, filters))
    await client.expect(Unsuback(77))
    await client.publish(scene.topic("a"), b"payload", qos=1)
    assert await scene.received(client, after=client) == []


@requirement("MQTT-3.10.3-2")
async def test_an_unsubscribe_without_filters_closes_the_connection(scene: Scene) -> None:
    client = await scene.connect("a")
    await client.send(encode_unsubscribe(1, []))
    await client.closed()


@requirement("MQTT-3.10.4-3")
@pytest.mark.parametrize("qos", [1, 2])
async def test_a_delivery_that_has_begun_is_completed_after_unsubscribe(
    scene: Scene, qos: int
) -> None:
    publisher, subscriber = await scene.connect("a"), await scene.connect("b")
    await subscriber.subscribe((scene.topic(), qos))
    await publisher.publish(scene.topic(), b"payload", qos)
    delivery = await subscriber.receive()
    await subscriber.unsubscribe(scene.topic())
    await subscriber.answer(delivery)
    assert await scene.received(subscriber, after=publisher) == []


async def test_a_client_hears_its_own_messages(scene: Scene) -> None:
    client = await scene.connect("a")
    await client.subscribe((scene.topic(), 1))
    await client.send(encode_publish(scene.topic(), b"echo", qos=1, packet_id=5))
    packets = [await client.read_packet(), await client.read_packet()]
    assert Puback(5) in packets
    assert Publish(scene.topic(), b"echo", qos=1) in packets
