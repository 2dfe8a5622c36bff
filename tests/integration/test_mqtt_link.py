"""The tools' MQTT client, and brokers that freeze, or send what is no MQTT."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from monstermq import mqtt_link
from monstermq.mqtt_link import Address, LinkLost, LinkRefused, MqttLink, Publication, Received
from monstermq.sending import Sender
from monstermq_shared.errors import StartupError

pytestmark = pytest.mark.integration

WITHIN_S = 30.0
CONNACK = b"\x20\x02\0\0"
PINGREQ, PINGRESP = b"\xc0\0", b"\xd0\0"
MESSAGE = Publication(b"a", b"1", 1, False)

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def served(serve: Serve) -> AsyncIterator[Address]:
    """Run a broker that does as it likes, behind a good CONNACK."""

    async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(1024)  # CONNECT
            writer.write(CONNACK)
            await serve(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, asyncio.timeout(WITHIN_S):
        yield Address(f"mqtt://127.0.0.1:{port}", "127.0.0.1", port, tls=False)


async def say_nothing(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    while await reader.read(65_536):
        pass


def hasten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt_link, "SILENCE_S", 0.4)


async def test_a_broker_that_freezes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch)
    said: list[str] = []
    async with served(say_nothing) as address:
        sender = Sender(address, "c", 0.5, lambda _: None, said.append, lambda: "--skip 1")
        await sender.open()
        await sender.send([MESSAGE])
        with pytest.raises(StartupError, match="does not answer any more"):
            await sender.finish()
    assert said[0] == f"{address.text} does not answer any more; it is tried again for 0.5 s"


async def test_a_pause_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch)
    pings = asyncio.Semaphore(0)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            assert await reader.readexactly(2) == PINGREQ
            writer.write(PINGRESP)
            pings.release()

    async with served(answer) as address:
        link = MqttLink(address, "c")
        await link.connect()
        for _ in range(3 * mqtt_link.LOOKS):
            await pings.acquire()
        await link.close()
        await link.ended()


@pytest.mark.parametrize(
    "sent",
    [
        b"\x30\x03\0\x05a",  # a PUBLISH that ends within its topic
        b"\x32\x03\0\x01a",  # and one of QoS 1 before its packet id
        b"\x36\x05\0\x01a\0\x01",  # and one of QoS 3
        b"\x40\x01\0",  # a PUBACK of nothing
        CONNACK,  # a second one
        b"\x90\x03\0\x01\0",  # a SUBACK that nobody waits for
        b"\x10\0",  # what only clients send
        b"\xff\xff\xff\xff\xff\x01",
    ],
)
async def test_what_is_no_mqtt_ends_the_connection(sent: bytes) -> None:
    async def send(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        await writer.drain()
        await _reader.read()

    async with served(send) as address:
        link = MqttLink(address, "c", lambda _: None)
        await link.connect()
        why = await link.ended()
        assert "sends what is no MQTT" in str(why)
        with pytest.raises(LinkLost, match="sends what is no MQTT"):
            await link.publish([MESSAGE])


async def test_a_suback_without_codes_is_no_subscription() -> None:
    async def acknowledge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1024)
        writer.write(b"\x90\x02\0\x01")
        await reader.read()

    async with served(acknowledge) as address:
        link = MqttLink(address, "c", lambda _: None)
        await link.connect()
        with pytest.raises(LinkRefused, match="answers 0 of 1 filters"):
            await link.subscribe(["#"], 0)
        await link.close()


async def test_a_packet_comes_whole_in_whatever_pieces() -> None:
    payload = bytes(range(256)) * 20_000
    size = 3 + len(payload)
    length = bytes((size & 127 | 128, size >> 7 & 127 | 128, size >> 14 & 127 | 128, size >> 21))
    packet = b"\x30" + length + b"\0\x01a" + payload
    came: asyncio.Queue[Received] = asyncio.Queue()

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in (packet[:1], packet[1:3], packet[3:9], packet[9:] + packet[:2], packet[2:]):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        await reader.read()

    async with served(send) as address:
        link = MqttLink(address, "c", came.put_nowait)
        await link.connect()
        for _ in range(2):
            assert await came.get() == (b"a", payload, 0, False)
        await link.close()
