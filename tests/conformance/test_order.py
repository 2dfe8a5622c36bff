"""Order, and the window of messages in flight (section 4.6)."""

import pytest
from tests.conformance.requirements import requirement
from tests.conformance.scene import Scene
from tests.support.broker import INFLIGHT_MAX
from tests.support.mqtt_client_frames import encode_publish
from tests.support.mqtt_peer import (
    ConnectOptions,
    Peer,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
)

_ANSWERS: tuple[list[type[Puback | Pubrec | Pubcomp]], ...] = ([], [Puback], [Pubrec, Pubcomp])


def numbered(topic: str, count: int, qos: int) -> list[bytes]:
    """Encode messages whose payloads count up, with packet ids from 1."""
    return [encode_publish(topic, str(n).encode(), qos=qos, packet_id=n + 1) for n in range(count)]


async def publish_numbers(publisher: Peer, topic: str, count: int, qos: int) -> None:
    """Publish counting payloads in one piece, then see all the exchanges through."""
    await publisher.send(*numbered(topic, count, qos))
    for answer in _ANSWERS[qos]:
        for n in range(1, count + 1):
            await publisher.expect(answer(n))
        if answer is Pubrec:
            await publisher.send(*(Pubrel(n).encode() for n in range(1, count + 1)))


async def take_numbers(subscriber: Peer, count: int) -> list[int]:
    return [int((await subscriber.take()).payload) for _ in range(count)]


@requirement("MQTT-4.6.0-2")
async def test_pubacks_go_out_in_publish_order(scene: Scene) -> None:
    client = await scene.connect("a")
    ids = [*range(300, 0, -1)]
    await client.send(
        *(encode_publish(scene.topic(str(n % 7)), b"", qos=1, packet_id=n) for n in ids)
    )
    assert [await client.read_packet() for _ in ids] == [Puback(n) for n in ids]


@requirement("MQTT-4.6.0-3")
async def test_pubrecs_go_out_in_publish_order(scene: Scene) -> None:
    client = await scene.connect("a")
    ids = [*range(300, 0, -1)]
    await client.send(
        *(encode_publish(scene.topic(str(n % 7)), b"", qos=2, packet_id=n) for n in ids)
    )
    assert [await client.read_packet() for _ in ids] == [Pubrec(n) for n in ids]
    await client.send(*(Pubrel(n).encode() for n in ids))
    assert [await client.read_packet() for _ in ids] == [Pubcomp(n) for n in ids]


@requirement("MQTT-4.6.0-2", "MQTT-4.6.0-3")
async def test_answers_keep_the_order_of_publishes_that_mean_different_work(
    scene: Scene,
) -> None:
    await (await scene.connect("absent", ConnectOptions(clean=False))).subscribe(
        (scene.topic("stored"), 2)
    )
    client = await scene.connect("a")
    wires, expected = [], []
    for n in range(1, 121):
        qos = 1 + n % 2
        topic = scene.topic("stored" if n % 3 else "nobody")
        wires.append(encode_publish(topic, b"", qos=qos, packet_id=n, retain=n % 5 == 0))
        expected.append(Puback(n) if qos == 1 else Pubrec(n))
    await client.send(*wires)
    assert [await client.read_packet() for _ in expected] == expected


@requirement("MQTT-4.6.0-4")
async def test_pubrels_go_out_in_pubrec_order(scene: Scene) -> None:
    publisher, subscriber = await scene.connect("a"), await scene.connect("b")
    await subscriber.subscribe((scene.topic(), 2))
    await publish_numbers(publisher, scene.topic(), 50, qos=2)
    ids = [(await subscriber.receive()).packet_id for _ in range(50)]
    await subscriber.send(*(Pubrec(n).encode() for n in ids))
    assert [await subscriber.read_packet() for _ in ids] == [Pubrel(n) for n in ids]


@requirement("MQTT-4.6.0-5", "MQTT-4.6.0-6")
@pytest.mark.parametrize("granted", [0, 1, 2])
@pytest.mark.parametrize("published", [0, 1, 2])
async def test_messages_of_a_topic_keep_their_order(
    scene: Scene, published: int, granted: int
) -> None:
    publisher = await scene.connect("p")
    subscribers = [await scene.connect(who) for who in "ab"]
    for subscriber in subscribers:
        await subscriber.subscribe((scene.topic(), granted))
    await publish_numbers(publisher, scene.topic(), 80, published)
    for subscriber in subscribers:
        assert await take_numbers(subscriber, 80) == list(range(80))


@requirement("MQTT-4.6.0-6")
async def test_two_publishers_each_keep_their_order(scene: Scene) -> None:
    first, second = await scene.connect("a"), await scene.connect("b")
    subscriber = await scene.connect("c")
    await subscriber.subscribe((scene.topic("+"), 1))
    for start in range(0, 200, 20):
        for who, publisher in (("a", first), ("b", second)):
            wires = numbered(scene.topic(who), start + 20, qos=1)[start:]
            await publisher.send(*wires)
    came = [await subscriber.take() for _ in range(400)]
    for who in "ab":
        own = [int(m.payload) for m in came if m.topic == scene.topic(who)]
        assert own == list(range(200))


@requirement("MQTT-4.3.2-1", "MQTT-4.3.3-1", "MQTT-2.3.1-4")
@pytest.mark.parametrize("qos", [1, 2])
async def test_a_whole_window_is_in_flight_and_no_more(scene: Scene, qos: int) -> None:
    publisher, subscriber = await scene.connect("a"), await scene.connect("b")
    await subscriber.subscribe((scene.topic(), qos))
    await publish_numbers(publisher, scene.topic(), INFLIGHT_MAX + 20, qos)
    window = [await subscriber.receive() for _ in range(INFLIGHT_MAX)]
    assert len({message.packet_id for message in window}) == INFLIGHT_MAX
    assert await subscriber.ping() == []

    await subscriber.answer(window[0])
    extra = await subscriber.receive()
    assert extra.payload == str(INFLIGHT_MAX).encode()
    assert extra.packet_id not in {message.packet_id for message in window[1:]}
    for message in [*window[1:], extra]:
        await subscriber.answer(message)
    assert await take_numbers(subscriber, 19) == list(range(INFLIGHT_MAX + 1, INFLIGHT_MAX + 20))


@requirement("MQTT-2.3.1-4")
async def test_an_id_in_flight_is_not_used_again(scene: Scene) -> None:
    publisher, subscriber = await scene.connect("a"), await scene.connect("b")
    await subscriber.subscribe((scene.topic(), 2))
    await publisher.publish(scene.topic(), b"held", qos=1)
    held = await subscriber.receive()
    for n in range(300):
        await publisher.publish(scene.topic(), str(n).encode(), qos=1 + n % 2)
        assert (await subscriber.take()).packet_id != held.packet_id


@requirement("MQTT-4.6.0-1", "MQTT-4.6.0-6", "MQTT-4.4.0-1")
async def test_a_full_window_and_its_queue_come_in_order_after_a_reconnect(
    scene: Scene,
) -> None:
    persistent = ConnectOptions(clean=False)
    publisher, subscriber = await scene.connect("a"), await scene.connect("b", persistent)
    await subscriber.subscribe((scene.topic(), 1))
    count = INFLIGHT_MAX + 50
    await publish_numbers(publisher, scene.topic(), count, qos=1)
    window = [await subscriber.receive() for _ in range(INFLIGHT_MAX)]
    subscriber.drop()
    subscriber = await scene.connect("b", persistent)
    again = [await subscriber.receive() for _ in range(INFLIGHT_MAX)]
    assert [(m.packet_id, m.payload) for m in again] == [(m.packet_id, m.payload) for m in window]
    assert all(message.dup for message in again)
    for message in again:
        await subscriber.answer(message)
    rest = [await subscriber.take() for _ in range(50)]
    assert rest == [
        Publish(scene.topic(), str(n).encode(), qos=1) for n in range(INFLIGHT_MAX, count)
    ]
