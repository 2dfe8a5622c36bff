"""MQTT over WebSocket (section 6), with a client of another make."""

from collections.abc import AsyncIterator

import pytest
from tests.conformance.requirements import requirement
from tests.conformance.scene import Scene
from tests.support.mqtt_client_frames import PINGREQ, encode_publish, encode_subscribe
from tests.support.mqtt_peer import (
    WAIT_S,
    Connack,
    Packet,
    Pingresp,
    Publish,
    Suback,
    connect_packet,
    split_packet,
)
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol


@pytest.fixture
async def browser(scene: Scene) -> AsyncIterator[ClientConnection]:
    """A WebSocket that has not sent CONNECT yet."""
    async with connect(
        f"ws://127.0.0.1:{scene.broker.ws_port}/mqtt",
        subprotocols=[Subprotocol("mqtt")],
        open_timeout=WAIT_S,
        proxy=None,
    ) as connection:
        yield connection


async def read_packets(browser: ClientConnection, count: int) -> list[Packet]:
    """Return the next packets, however they are spread over frames; all frames must be binary."""
    buffer, packets = bytearray(), list[Packet]()
    while len(packets) < count:
        packet = split_packet(buffer)
        if packet is None:
            buffer += await browser.recv(decode=False)
        else:
            packets.append(packet)
    assert not buffer
    return packets


@requirement("MQTT-6.0.0-3", "MQTT-6.0.0-4")
async def test_the_subprotocol_mqtt_is_selected(browser: ClientConnection) -> None:
    assert browser.subprotocol == "mqtt"


@requirement("MQTT-6.0.0-1")
async def test_packets_travel_in_binary_frames(scene: Scene, browser: ClientConnection) -> None:
    await browser.send(connect_packet(scene.client_id("a")))
    assert isinstance(await browser.recv(), bytes)


@requirement("MQTT-6.0.0-1")
@pytest.mark.parametrize("connected", [True, False])
async def test_a_text_frame_closes_the_connection(
    scene: Scene, browser: ClientConnection, connected: bool
) -> None:
    if connected:
        await browser.send(connect_packet(scene.client_id("a")))
        assert await read_packets(browser, 1) == [Connack()]
    await browser.send("\u00c0\u0000")
    with pytest.raises(ConnectionClosed):
        await browser.recv()


@requirement("MQTT-6.0.0-2")
async def test_packets_may_span_frames(scene: Scene, browser: ClientConnection) -> None:
    wire = connect_packet(scene.client_id("a")) + encode_subscribe(1, [(scene.topic(), 0)])
    for byte in wire + encode_publish(scene.topic(), b"slowly"):
        await browser.send(bytes([byte]))
    assert await read_packets(browser, 3) == [
        Connack(),
        Suback(1, (0,)),
        Publish(scene.topic(), b"slowly"),
    ]


@requirement("MQTT-6.0.0-2")
async def test_packets_may_share_a_frame(scene: Scene, browser: ClientConnection) -> None:
    await browser.send(
        connect_packet(scene.client_id("a"))
        + encode_subscribe(1, [(scene.topic(), 0)])
        + encode_publish(scene.topic(), b"quickly")
        + PINGREQ[:1]
    )
    await browser.send(PINGREQ[1:])
    assert await read_packets(browser, 4) == [
        Connack(),
        Suback(1, (0,)),
        Publish(scene.topic(), b"quickly"),
        Pingresp(),
    ]


async def test_clients_of_both_transports_meet(scene: Scene, browser: ClientConnection) -> None:
    await browser.send(connect_packet(scene.client_id("a")))
    await browser.send(encode_subscribe(1, [(scene.topic(), 0)]))
    assert await read_packets(browser, 2) == [Connack(), Suback(1, (0,))]
    over_tcp = await scene.connect("b")
    await over_tcp.publish(scene.topic(), b"x" * 100_000)
    assert await read_packets(browser, 1) == [Publish(scene.topic(), b"x" * 100_000)]
