"""How connections end: DISCONNECT, keep-alive, takeover, loss; and what becomes of the will."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from tests.conformance.requirements import requirement
from tests.conformance.scene import Scene
from tests.support.mqtt_client_frames import DISCONNECT, PINGREQ, encode_publish
from tests.support.mqtt_peer import (
    Connack,
    ConnectOptions,
    Peer,
    Publish,
    Will,
    connect_packet,
)

Ending = Callable[[Scene, Peer], Awaitable[None]]


async def lose_the_connection(_scene: Scene, client: Peer) -> None:
    client.drop()


async def break_the_protocol(_scene: Scene, client: Peer) -> None:
    await client.send(b"\xf0\x00")


async def break_the_form_of_disconnect(_scene: Scene, client: Peer) -> None:
    await client.send(b"\xe1\x00")


async def fall_silent(_scene: Scene, client: Peer) -> None:
    await client.closed()


async def be_taken_over(scene: Scene, _client: Peer) -> None:
    await scene.connect("mortal")


UNGRACEFUL: list[Ending] = [
    lose_the_connection,
    break_the_protocol,
    break_the_form_of_disconnect,
    fall_silent,
    be_taken_over,
]


@requirement("MQTT-3.1.2-8", "MQTT-3.1.2-24", "MQTT-3.14.1-1", "MQTT-3.1.4-2")
@pytest.mark.parametrize("end", UNGRACEFUL)
async def test_the_will_is_published_at_every_end_without_disconnect(
    scene: Scene, end: Ending
) -> None:
    watcher = await scene.connect("watcher")
    await watcher.subscribe((scene.topic("will"), 1))
    will = Will(topic=scene.topic("will"), payload=b"gone", qos=1)
    client = await scene.connect("mortal", ConnectOptions(will=will, keep_alive_s=1))
    await end(scene, client)
    assert await watcher.take() == Publish(scene.topic("will"), b"gone", qos=1)
    assert await scene.received(watcher, after=watcher) == []


@requirement("MQTT-3.14.1-1")
async def test_a_disconnect_with_reserved_bits_closes_the_connection(scene: Scene) -> None:
    client = await scene.connect("a")
    await client.send(b"\xe1\x00")
    await client.closed()


@requirement("MQTT-3.14.4-3", "MQTT-3.1.2-10", "MQTT-3.14.4-1")
async def test_disconnect_ends_the_connection_without_the_will(scene: Scene) -> None:
    watcher = await scene.connect("watcher")
    await watcher.subscribe((scene.topic("will"), 1))
    will = Will(topic=scene.topic("will"), qos=1)
    client = await scene.connect("mortal", ConnectOptions(will=will))
    await client.send(DISCONNECT)
    await client.closed()
    assert await scene.received(watcher, after=watcher) == []


@requirement("MQTT-3.14.4-2")
async def test_what_follows_disconnect_is_not_processed(scene: Scene) -> None:
    watcher = await scene.connect("watcher")
    await watcher.subscribe((scene.topic(), 1))
    client = await scene.connect("a")
    await client.send(DISCONNECT, encode_publish(scene.topic(), b"too late"), PINGREQ)
    await client.closed()
    assert await scene.received(watcher, after=watcher) == []


@requirement("MQTT-3.1.2-12")
async def test_without_a_will_nothing_is_published(scene: Scene) -> None:
    watcher = await scene.connect("watcher")
    await watcher.subscribe((scene.topic("#"), 1))
    await scene.connect("mortal")
    await be_taken_over(scene, watcher)
    assert await scene.received(watcher, after=watcher) == []


@requirement("MQTT-3.1.2-10")
async def test_the_will_of_one_connection_is_not_published_for_the_next(scene: Scene) -> None:
    watcher = await scene.connect("watcher")
    await watcher.subscribe((scene.topic("will"), 1))
    will = Will(topic=scene.topic("will"), qos=1)
    first = await scene.connect("mortal", ConnectOptions(will=will, clean=False))
    first.drop()
    await watcher.take()
    second = await scene.connect("mortal", ConnectOptions(clean=False))
    second.drop()
    await be_taken_over(scene, second)
    assert await scene.received(watcher, after=watcher) == []


@requirement("MQTT-3.1.2-9", "MQTT-3.1.2-14")
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_the_will_has_its_own_qos(scene: Scene, qos: int) -> None:
    watcher = await scene.connect("watcher")
    await watcher.subscribe((scene.topic("will"), 2))
    will = Will(topic=scene.topic("will"), payload=b"", qos=qos)
    client = await scene.connect("mortal", ConnectOptions(will=will))
    client.drop()
    assert await watcher.take() == Publish(scene.topic("will"), b"", qos=qos)


@requirement("MQTT-3.1.2-16", "MQTT-3.1.2-17")
@pytest.mark.parametrize("retain", [False, True])
async def test_the_will_is_retained_if_it_says_so(scene: Scene, retain: bool) -> None:
    topic = scene.topic("will")
    watcher = await scene.connect("watcher")
    await watcher.subscribe((topic, 0))
    client = await scene.connect("mortal", ConnectOptions(will=Will(topic=topic, retain=retain)))
    client.drop()
    assert await watcher.take() == Publish(topic, b"gone")
    later = await scene.connect("later")
    await later.subscribe((topic, 0))
    expected = [Publish(topic, b"gone", retain=True)] if retain else []
    assert await scene.received(later, after=watcher) == expected


@requirement("MQTT-3.1.2-8")
async def test_the_will_of_a_refused_connect_is_not_published(scene: Scene) -> None:
    watcher = await scene.connect("watcher")
    await watcher.subscribe((scene.topic("will"), 1))
    refused = await scene.open()
    will = Will(topic=scene.topic("will"), qos=1)
    connack = await refused.connect("", ConnectOptions(will=will, clean=False))
    assert connack == Connack(code=2)
    await refused.closed()
    assert await scene.received(watcher, after=watcher) == []


@requirement("MQTT-3.1.4-2")
@pytest.mark.parametrize("clean", [True, False])
async def test_the_old_connection_is_closed_when_a_new_one_is_accepted(
    scene: Scene, clean: bool
) -> None:
    old = await scene.connect("a", ConnectOptions(clean=clean))
    _, connack = await scene.attach("a", ConnectOptions(clean=clean))
    await old.closed()  # which of two sockets shows it first is not for the broker to say
    assert connack == Connack(session_present=not clean)


@requirement("MQTT-3.1.4-2")
async def test_of_many_connects_with_one_id_one_survives(scene: Scene) -> None:
    clients = [await scene.open() for _ in range(10)]
    wire = connect_packet(scene.client_id("a"))
    await asyncio.gather(*(client.send(wire) for client in clients))
    survivor = await scene.connect("a")
    for client in clients:
        await client.expect(Connack())
        await client.closed()
    assert await survivor.ping() == []


@requirement("MQTT-3.1.2-23", "MQTT-3.1.2-24")
async def test_only_a_client_that_is_silent_for_too_long_is_cut_off(scene: Scene) -> None:
    # The ends of the silent clients are the clock: the first comes within the time of the others,
    # the second after it. It is long, since it may be this process that is silent for a while.
    limited = ConnectOptions(keep_alive_s=6)
    unlimited = await scene.connect("unlimited", ConnectOptions(keep_alive_s=0))
    pinging = await scene.connect("pinging", limited)
    publishing = await scene.connect("publishing", limited)
    silent = await scene.connect("silent", limited)
    first = await scene.connect("first", ConnectOptions(keep_alive_s=1))
    end = asyncio.create_task(silent.closed())
    await first.closed()
    assert not end.done()
    while not end.done():
        assert await pinging.ping() == []
        await publishing.send(encode_publish(scene.topic(), b""))
        await asyncio.wait([end], timeout=0.5)
    await end
    for client in (unlimited, pinging, publishing):
        assert await client.ping() == []
