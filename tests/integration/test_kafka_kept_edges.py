"""Kept sessions over two edges: they come and go between them, and nothing is lost or comes twice.

Real Kafka, real PostgreSQL, two edges, two projectors.
"""

import asyncio
import itertools
import random
from collections.abc import Callable
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from tests.integration.observing import metric, until_ready
from tests.support.broker import LOOPBACK, TICK_S
from tests.support.kafka import KafkaServer
from tests.support.kafka_stack import EdgeProcess, KafkaStack
from tests.support.load import Cast
from tests.support.mqtt_client_frames import encode_publish
from tests.support.mqtt_peer import (
    Connack,
    ConnectOptions,
    Peer,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
)
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.integration

BOUND_S = 60.0
KEPT = ConnectOptions(clean=False)
QUEUED = 300


async def kept(cast: Cast, edge: EdgeProcess, client_id: str, *, present: bool) -> Peer:
    """Connect a kept client; say whether it must have a session already."""
    peer = await cast.peer(edge.tcp_port)
    assert await peer.connect(client_id, KEPT) == Connack(session_present=present)
    return peer


async def kept_in_the_end(cast: Cast, edge: EdgeProcess, client_id: str) -> Peer:
    """Connect a kept client that has a session, again as long as the edge says "not now"."""
    async with asyncio.timeout(BOUND_S):
        while True:
            peer = await cast.peer(edge.tcp_port)
            answer = await peer.connect(client_id, KEPT)
            if answer.code != 3:
                assert answer == Connack(session_present=True)
                return peer
            peer.drop()


async def publisher(cast: Cast, edge: EdgeProcess, name: str) -> Peer:
    """Connect a clean client that publishes."""
    peer = await cast.peer(edge.tcp_port)
    assert await peer.connect(f"{name}/publisher") == Connack()
    return peer


async def take(peer: Peer, count: int) -> list[bytes]:
    """Take so many messages to the end of their exchange; return what they say.

    An edge that does not know how far the one before had come says PUBREL for what was answered
    there: any client has an answer for that, and takes nothing twice (E5).
    """
    payloads: list[bytes] = []
    while len(payloads) < count:
        packet = await peer.read_packet()
        if isinstance(packet, Pubrel):
            await peer.send(Pubcomp(packet.packet_id).encode())
            continue
        assert isinstance(packet, Publish), packet
        await peer.answer(packet)
        payloads.append(packet.payload)
    return payloads


async def nothing_more(peer: Peer) -> None:
    """Assert that no message comes."""
    assert not [packet for packet in await peer.ping() if not isinstance(packet, Pubrel)]


@pytest.mark.parametrize("qos", [1, 2])
async def test_what_comes_while_a_client_is_away_waits_for_it_at_the_other_edge(
    stack: KafkaStack, cast: Cast, name: str, qos: int
) -> None:
    here, there = stack.edges
    peer = await kept(cast, here, name, present=False)
    assert await peer.subscribe((f"{name}/#", qos)) == (qos,)
    source = await publisher(cast, here, name)
    await source.publish(f"{name}/0", b"live", qos)
    assert await take(peer, 1) == [b"live"]
    await peer.disconnect()
    sent: dict[str, list[bytes]] = {}
    for number in range(QUEUED):
        topic = f"{name}/{number % 7}"
        payload = f"{number}".encode()
        sent.setdefault(topic, []).append(payload)
        await source.publish(topic, payload, qos)
    peer = await kept(cast, there, name, present=True)
    found: dict[str, list[bytes]] = {}
    for _ in range(QUEUED):
        message = await peer.take()
        assert (message.qos, message.dup, message.retain) == (qos, False, False)
        found.setdefault(message.topic, []).append(message.payload)
    assert found == sent  # all of them, once, in order per topic
    await source.publish(f"{name}/x", b"live again", qos)
    assert await take(peer, 1) == [b"live again"]
    await peer.disconnect()
    peer = await kept(cast, here, name, present=True)
    await nothing_more(peer)


async def test_a_takeover_at_the_other_edge_misses_and_repeats_nothing(
    stack: KafkaStack, cast: Cast, name: str
) -> None:
    edges = itertools.cycle(stack.edges)
    peer = await kept(cast, next(edges), name, present=False)
    await peer.subscribe((name, 2))
    source = await publisher(cast, stack.edges[0], name)
    got: list[bytes] = []
    for round_number in range(6):
        old = peer
        peer = await kept(cast, next(edges), name, present=True)
        await old.closed()
        payloads = [f"{round_number} {number}".encode() for number in range(20)]
        for payload in payloads:
            await source.publish(name, payload, 2)
        got += await take(peer, len(payloads))
    assert got == [f"{a} {b}".encode() for a in range(6) for b in range(20)]
    await nothing_more(peer)


async def test_a_clean_session_ends_the_kept_one_at_every_edge(
    stack: KafkaStack, cast: Cast, name: str
) -> None:
    here, there = stack.edges
    peer = await kept(cast, here, name, present=False)
    await peer.subscribe((name, 1))
    await peer.disconnect()
    source = await publisher(cast, here, name)
    await source.publish(name, b"waits", 1)
    clean = await cast.peer(there.tcp_port)
    assert await clean.connect(name) == Connack()
    await clean.disconnect()
    peer = await kept(cast, here, name, present=False)
    await source.publish(name, b"for nobody", 1)
    await nothing_more(peer)


async def test_a_message_under_way_at_qos_2_is_ended_at_the_other_edge(
    stack: KafkaStack, cast: Cast, name: str
) -> None:
    """E9: what had PUBREC is never sent again, what had not comes with DUP under its old id."""
    here, there = stack.edges
    peer = await kept(cast, here, name, present=False)
    await peer.subscribe((name, 2))
    source = await publisher(cast, here, name)
    for payload in (b"received", b"not answered"):
        await source.publish(name, payload, 2)
    received, unanswered = [await peer.receive() for _ in range(2)]
    await peer.send(Pubrec(received.packet_id).encode())
    await peer.expect(Pubrel(received.packet_id))
    peer.drop()
    peer = await kept(cast, there, name, present=True)
    packets = [await peer.read_packet() for _ in range(2)]
    assert Pubrel(received.packet_id) in packets
    (again,) = [packet for packet in packets if isinstance(packet, Publish)]
    assert again == Publish(name, b"not answered", 2, dup=True)
    assert again.packet_id == unanswered.packet_id
    await peer.answer(again)


async def test_what_a_client_repeats_at_the_other_edge_enters_once(
    stack: KafkaStack, cast: Cast, name: str
) -> None:
    """E8: the id is open in the log, whichever edge asks."""
    here, there = stack.edges
    subscriber = await kept(cast, there, f"{name}/subscriber", present=False)
    await subscriber.subscribe((name, 2))
    peer = await kept(cast, here, name, present=False)
    await peer.send(encode_publish(name, b"once", qos=2, packet_id=7))
    await peer.expect(Pubrec(7))
    peer.drop()
    for edge in (there, here):
        peer = await kept(cast, edge, name, present=True)
        await peer.send(encode_publish(name, b"once", qos=2, packet_id=7, dup=True))
        await peer.expect(Pubrec(7))
        peer.drop()
    peer = await kept(cast, there, name, present=True)
    await peer.send(Pubrel(7).encode())
    assert await take(subscriber, 1) == [b"once"]
    await nothing_more(subscriber)


async def test_while_the_database_is_down_only_kept_clients_are_refused(
    tmp_path: Path,
    kafka_server: KafkaServer,
    kafka_topic: str,
    own_postgres: PostgresServer,
    cast: Cast,
    name: str,
) -> None:
    """E2: running ones go on; what was queued is there once it is back."""
    stack = KafkaStack(tmp_path, kafka_server.address(), kafka_topic, own_postgres)
    here, there = stack.edges
    try:
        await asyncio.to_thread(stack.start)
        away = await kept(cast, here, "away", present=False)
        await away.subscribe((name, 1))
        await away.disconnect()
        running = await kept(cast, here, "running", present=False)
        await running.subscribe((name, 2))
        await asyncio.to_thread(own_postgres.kill)
        source = await publisher(cast, there, name)
        await until_ready(here, 503, BOUND_S)
        async with asyncio.timeout(BOUND_S):
            while True:
                peer = await cast.peer(here.tcp_port)
                answer = await peer.connect("away", KEPT)
                peer.drop()
                if answer.code == 3:
                    break
        for number in range(10):
            await source.publish(name, f"{number}".encode(), 2)
        expected = [f"{number}".encode() for number in range(10)]
        assert await take(running, 10) == expected
        await asyncio.to_thread(own_postgres.start)
        await until_ready(here, 200, BOUND_S)
        await until_ready(there, 200, BOUND_S)
        away = await kept_in_the_end(cast, there, "away")
        assert await take(away, 10) == expected
        assert await metric(here, "monstermq_clients_connected") == 1
    finally:
        stack.close()


async def test_the_clients_of_a_killed_edge_find_all_at_the_other_one(
    stack: KafkaStack, cast: Cast, name: str
) -> None:
    here, there = stack.edges
    names = [f"{name}/{number}" for number in range(10)]
    peers = [await kept(cast, here, client_id, present=False) for client_id in names]
    for peer in peers:
        await peer.subscribe((name, 2))
    source = await publisher(cast, there, name)
    payloads = [f"{number}".encode() for number in range(50)]
    for payload in payloads[:20]:
        await source.publish(name, payload, 2)
    for peer in peers:
        assert await take(peer, 20) == payloads[:20]
    await asyncio.to_thread(here.kill)
    for payload in payloads[20:]:
        await source.publish(name, payload, 2)
    for client_id in names:
        peer = await kept(cast, there, client_id, present=True)
        assert await take(peer, 30) == payloads[20:]
        await nothing_more(peer)


async def test_paho_clients_that_roam_get_everything_once(stack: KafkaStack) -> None:
    """A client library that others wrote, with its own idea of sessions."""
    rng = random.Random(4)
    ports = [edge.tcp_port for edge in stack.edges]
    count = 200
    await asyncio.to_thread(_roam, ports, rng, count)


def _roam(ports: list[int], rng: random.Random, count: int) -> None:
    got: list[str] = []

    def on_message(_client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        got.append(message.payload.decode())

    subscriber = _paho("paho-subscriber")
    subscriber.on_message = on_message
    source = _paho("paho-source")
    source.connect(LOOPBACK, ports[0])
    source.loop_start()
    subscriber.connect(LOOPBACK, ports[0])
    _loop_until(subscriber, subscriber.is_connected)
    sent = []
    subscribed: list[int] = []
    subscriber.on_subscribe = lambda *_: subscribed.append(1)
    subscriber.subscribe("roaming/#", 2)
    _loop_until(subscriber, lambda: bool(subscribed))
    for number in range(count):
        sent.append(f"{number}")
        source.publish("roaming/1", sent[-1], 2).wait_for_publish(BOUND_S)
        if number % 20 == 10:
            if rng.random() < 0.5:
                subscriber.disconnect()
            subscriber.loop_misc()
            subscriber.connect(LOOPBACK, rng.choice(ports))
        subscriber.loop(TICK_S)
    _loop_until(subscriber, lambda: len(got) >= count)
    source.loop_stop()
    for client in (source, subscriber):
        client.disconnect()
    assert got == sent


def _paho(client_id: str) -> paho.Client:
    return paho.Client(CallbackAPIVersion.VERSION2, client_id, clean_session=False)


def _loop_until(client: paho.Client, condition: Callable[[], bool]) -> None:
    for _ in range(int(BOUND_S / TICK_S)):
        if condition():
            return
        client.loop(TICK_S)
    raise AssertionError("it did not come to that")
