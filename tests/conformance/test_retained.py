"""Retained messages (section 3.3.1.3)."""

import pytest
from tests.conformance.requirements import requirement
from tests.conformance.scene import Scene
from tests.support.mqtt_client_frames import encode_publish, encode_subscribe
from tests.support.mqtt_peer import ConnectOptions, Publish, Suback


@requirement("MQTT-3.3.1-5", "MQTT-3.3.1-6", "MQTT-3.3.1-8", "MQTT-3.8.4-6")
@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
async def test_a_new_subscription_gets_what_is_retained_with_the_lower_qos(
    scene: Scene, published: int, granted: int
) -> None:
    publisher, subscriber = await scene.connect("a"), await scene.connect("b")
    await publisher.publish(scene.topic(), b"kept", published, retain=True)
    await publisher.ping()  # a QoS 0 message is there when this is answered
    await subscriber.subscribe((scene.topic(), granted))
    expected = Publish(scene.topic(), b"kept", min(published, granted), retain=True)
    assert await subscriber.take() == expected


@requirement("MQTT-3.3.1-6")
async def test_a_message_retained_in_the_same_breath_is_there(scene: Scene) -> None:
    client = await scene.connect("a")
    await client.send(
        encode_publish(scene.topic(), b"just now", retain=True),
        encode_subscribe(1, [(scene.topic(), 0)]),
    )
    packets = [await client.read_packet(), await client.read_packet()]
    assert Suback(1, (0,)) in packets
    assert Publish(scene.topic(), b"just now", retain=True) in packets


@requirement("MQTT-3.3.1-9")
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_a_live_delivery_never_has_the_retain_flag(scene: Scene, qos: int) -> None:
    publisher, subscriber = await scene.connect("a"), await scene.connect("b")
    await subscriber.subscribe((scene.topic(), qos))
    await publisher.publish(scene.topic(), b"kept", qos, retain=True)
    assert await subscriber.take() == Publish(scene.topic(), b"kept", qos)


@requirement("MQTT-3.3.1-9", "MQTT-3.1.2-5")
async def test_a_queued_delivery_never_has_the_retain_flag(scene: Scene) -> None:
    persistent = ConnectOptions(clean=False)
    publisher, subscriber = await scene.connect("a"), await scene.connect("b", persistent)
    await subscriber.subscribe((scene.topic(), 1))
    await subscriber.disconnect()
    await publisher.publish(scene.topic(), b"kept", qos=1, retain=True)
    subscriber = await scene.connect("b", persistent)
    assert await subscriber.take() == Publish(scene.topic(), b"kept", qos=1)


@requirement("MQTT-3.3.1-6", "MQTT-3.3.2-3")
async def test_a_wildcard_gets_what_is_retained_on_every_topic_it_matches(scene: Scene) -> None:
    client = await scene.connect("a")
    for rest in ("a", "a/b", "a/b/c", "b"):
        await client.publish(scene.topic(rest), rest.encode(), qos=1, retain=True)
    subscriber = await scene.connect("b")
    await subscriber.subscribe((scene.topic("a/#"), 0))
    came = {(await subscriber.receive()).topic for _ in range(3)}
    assert came == {scene.topic("a"), scene.topic("a/b"), scene.topic("a/b/c")}
    assert await scene.received(subscriber, after=client) == []


@requirement("MQTT-3.3.1-5", "MQTT-3.3.1-7")
@pytest.mark.parametrize(("first", "second"), [(1, 0), (2, 0), (0, 1), (1, 1), (0, 0)])
async def test_the_last_retained_message_replaces_the_one_before(
    scene: Scene, first: int, second: int
) -> None:
    client = await scene.connect("a")
    await client.publish(scene.topic(), b"old", first, retain=True)
    await client.publish(scene.topic(), b"new", second, retain=True)
    await client.subscribe((scene.topic(), 2))
    assert await client.take() == Publish(scene.topic(), b"new", second, retain=True)
    assert await scene.received(client, after=client) == []


@requirement("MQTT-3.3.1-10", "MQTT-3.3.1-11")
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_an_empty_retained_message_is_delivered_and_clears(scene: Scene, qos: int) -> None:
    publisher, subscriber = await scene.connect("a"), await scene.connect("b")
    await publisher.publish(scene.topic(), b"kept", qos=1, retain=True)
    await subscriber.subscribe((scene.topic("+"), qos))
    await subscriber.take()
    await publisher.publish(scene.topic(), b"", qos, retain=True)
    assert await subscriber.take() == Publish(scene.topic(), b"", qos)
    later = await scene.connect("c")
    await later.subscribe((scene.topic(), qos))
    assert await scene.received(later, after=publisher) == []


@requirement("MQTT-3.3.1-12")
@pytest.mark.parametrize("payload", [b"passing", b""])
async def test_a_message_without_the_flag_leaves_what_is_retained_alone(
    scene: Scene, payload: bytes
) -> None:
    client = await scene.connect("a")
    await client.publish(scene.topic(), b"kept", qos=1, retain=True)
    await client.publish(scene.topic(), payload, qos=1)
    await client.publish(scene.topic("other"), payload, qos=1)
    await client.subscribe((scene.topic("+"), 1))
    assert await client.take() == Publish(scene.topic(), b"kept", qos=1, retain=True)
    assert await scene.received(client, after=client) == []


@requirement("MQTT-3.1.2-7")
@pytest.mark.parametrize("clean", [True, False])
async def test_retained_messages_outlive_the_session_of_their_publisher(
    scene: Scene, clean: bool
) -> None:
    publisher = await scene.connect("a", ConnectOptions(clean=clean))
    await publisher.publish(scene.topic(), b"kept", qos=1, retain=True)
    await publisher.disconnect()
    await (await scene.connect("a")).disconnect()
    subscriber = await scene.connect("b")
    await subscriber.subscribe((scene.topic(), 1))
    assert await subscriber.take() == Publish(scene.topic(), b"kept", qos=1, retain=True)


@requirement("MQTT-3.8.4-3")
@pytest.mark.parametrize("granted", [0, 1, 2])
async def test_subscribing_again_sends_what_is_retained_again(scene: Scene, granted: int) -> None:
    client = await scene.connect("a")
    await client.publish(scene.topic(), b"kept", qos=2, retain=True)
    for _ in range(2):
        await client.subscribe((scene.topic(), granted))
        assert await client.take() == Publish(scene.topic(), b"kept", granted, retain=True)


async def test_a_resumed_session_gets_nothing_retained_again(scene: Scene) -> None:
    persistent = ConnectOptions(clean=False)
    client = await scene.connect("a", persistent)
    await client.publish(scene.topic(), b"kept", qos=1, retain=True)
    await client.subscribe((scene.topic(), 1))
    await client.take()
    await client.disconnect()
    client = await scene.connect("a", persistent)
    assert await scene.received(client, after=client) == []


@requirement("MQTT-4.7.2-1")
async def test_a_leading_wildcard_gets_nothing_retained_below_a_dollar(scene: Scene) -> None:
    client = await scene.connect("a")
    await client.publish(f"$other/{scene.name}", b"kept", qos=1, retain=True)
    await client.subscribe((f"+/{scene.name}", 0))
    await client.subscribe((f"$other/{scene.name}", 0))
    assert await scene.received(client, after=client) == [
        Publish(f"$other/{scene.name}", b"kept", retain=True)
    ]
