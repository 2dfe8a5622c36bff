"""Topic names and filters (section 4.7), and the matching the original got wrong."""

import pytest
from tests.conformance.requirements import requirement
from tests.conformance.scene import Scene
from tests.support.mqtt_client_frames import encode_publish, encode_subscribe, encode_unsubscribe
from tests.support.mqtt_peer import Packet, Publish

MATCHING = [
    ("sport/#", "sport"),
    ("sport/#", "sport/"),
    ("sport/#", "sport/tennis/player1"),
    ("sport/tennis/+", "sport/tennis/player1"),
    ("sport/+", "sport/"),
    ("+/+", "/finance"),
    ("/+", "/finance"),
    ("+", "finance"),
    ("+/#", "a"),
    ("#", "a"),
    ("#", "/"),
    ("#", "a/b/c"),
    ("+/tennis/#", "sport/tennis"),
    ("+//+", "a//b"),
    ("a/+/c", "a//c"),
    ("a/$b/+", "a/$b/c"),
    ("a/+", "a/$b"),
]
NOT_MATCHING = [
    ("sport/+", "sport"),
    ("sport/", "sport"),
    ("sport", "sport/"),
    ("sport/tennis/+", "sport/tennis/player1/ranking"),
    ("+", "/finance"),
    ("+", "a/b"),
    ("+/+", "a"),
    ("a/#", "ab"),
    ("a/b", "a/c"),
    ("a/b", "a/b/c"),
    ("a/+/c", "a/b/b/c"),
]
BELOW_DOLLAR = [
    ("#", "$foo/x", False),
    ("+/#", "$foo/x", False),
    ("+/x", "$foo/x", False),
    ("$foo/#", "$foo/x", True),
    ("$foo/+", "$foo/x", True),
    ("$foo/x", "$foo/x", True),
    ("#", "$", False),
    ("+", "$", False),
    ("$", "$", True),
]
DIFFERENT_TOPICS = [
    ("ACCOUNTS", "Accounts"),
    ("a b", "a  b"),
    ("a", "a "),
    ("a/b", "a//b"),
    ("caf\u00e9", "cafe\u0301"),
    ("\u212b", "\u00c5"),
]


async def deliveries(scene: Scene, topic_filter: str, topic: str) -> list[Packet]:
    publisher, subscriber = await scene.connect("a"), await scene.connect("b")
    await subscriber.subscribe((topic_filter, 0))
    await publisher.publish(topic, b"payload")
    return await scene.received(subscriber, after=publisher)


@requirement("MQTT-4.7.1-2", "MQTT-4.7.1-3", "MQTT-3.3.2-3")
@pytest.mark.parametrize(("topic_filter", "topic"), MATCHING)
async def test_a_filter_matches(scene: Scene, topic_filter: str, topic: str) -> None:
    came = await deliveries(scene, scene.topic(topic_filter), scene.topic(topic))
    assert came == [Publish(scene.topic(topic), b"payload")]


@requirement("MQTT-4.7.1-2", "MQTT-4.7.1-3", "MQTT-3.3.2-3")
@pytest.mark.parametrize(("topic_filter", "topic"), NOT_MATCHING)
async def test_a_filter_does_not_match(scene: Scene, topic_filter: str, topic: str) -> None:
    assert await deliveries(scene, scene.topic(topic_filter), scene.topic(topic)) == []


@requirement("MQTT-4.7.2-1")
@pytest.mark.parametrize(("topic_filter", "topic", "matches"), BELOW_DOLLAR)
async def test_a_leading_wildcard_matches_nothing_below_a_dollar(
    scene: Scene, topic_filter: str, topic: str, matches: bool
) -> None:
    last_of_filter = "" if topic_filter.endswith("#") else f"/{scene.name}"
    topic = f"{topic}/{scene.name}"
    came = await deliveries(scene, topic_filter + last_of_filter, topic)
    assert came == ([Publish(topic, b"payload")] if matches else [])


@requirement("MQTT-4.7.2-1")
async def test_the_brokers_own_topics_are_for_filters_that_name_them(scene: Scene) -> None:
    client = await scene.connect("a")
    await client.subscribe(("#", 0), ("+/#", 0), ("+/broker/+", 0))
    await client.subscribe(("$SYS/broker/version", 0))
    while (packet := await client.receive()).topic != "$SYS/broker/version":
        assert not packet.topic.startswith("$SYS")


@requirement("MQTT-4.7.3-4")
@pytest.mark.parametrize(("one", "other"), DIFFERENT_TOPICS)
async def test_topics_are_not_normalized(scene: Scene, one: str, other: str) -> None:
    assert await deliveries(scene, scene.topic(one), scene.topic(other)) == []
    client = await scene.connect("c")
    await client.subscribe((scene.topic(other), 0))
    await client.publish(scene.topic(other), b"payload")
    assert await client.receive() == Publish(scene.topic(other), b"payload")


@requirement("MQTT-3.3.2-2", "MQTT-4.7.1-1")
@pytest.mark.parametrize("topic", ["#", "+", "a/#", "a/+/b", "a+", "a#b"])
async def test_a_topic_name_with_a_wildcard_closes_the_connection(scene: Scene, topic: str) -> None:
    client = await scene.connect("a")
    await client.send(encode_publish(topic, b"payload"))
    await client.closed()


@requirement("MQTT-4.7.1-2", "MQTT-4.7.1-3")
@pytest.mark.parametrize("topic_filter", ["a/#/b", "#/a", "a#", "a/b#", "##", "a+", "+a/b", "a/++"])
async def test_a_misplaced_wildcard_closes_the_connection(scene: Scene, topic_filter: str) -> None:
    for wire in (
        encode_subscribe(1, [(topic_filter, 0)]),
        encode_unsubscribe(1, [topic_filter]),
    ):
        client = await scene.connect("a")
        await client.send(wire)
        await client.closed()


@requirement("MQTT-4.7.3-1")
@pytest.mark.parametrize(
    "wire",
    [
        encode_publish("", b"payload"),
        encode_subscribe(1, [("", 0)]),
        encode_unsubscribe(1, [""]),
    ],
    ids=["PUBLISH", "SUBSCRIBE", "UNSUBSCRIBE"],
)
async def test_an_empty_topic_closes_the_connection(scene: Scene, wire: bytes) -> None:
    client = await scene.connect("a")
    await client.send(wire)
    await client.closed()


@pytest.mark.parametrize("topic", ["/", "//", "/a", "a/", " ", "\u00e9/\U0001d11e", "a\tb"])
async def test_unusual_topics_are_topics_like_any_other(scene: Scene, topic: str) -> None:
    topic = f"{topic}{scene.name}"
    assert await deliveries(scene, topic, topic) == [Publish(topic, b"payload")]


@requirement("MQTT-4.7.3-3")
async def test_a_topic_of_65535_bytes_is_delivered(scene: Scene) -> None:
    topic = scene.topic("").ljust(65_535, "x")
    came = await deliveries(scene, scene.topic("+"), topic)
    assert came == [Publish(topic, b"payload")]
