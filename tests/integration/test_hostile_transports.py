"""Hostile peers below MQTT: WebSocket, TLS, and the process's file descriptors."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from tests.integration.observing import metric, undisturbed, until_metric
from tests.support.broker import LOOPBACK, RunningBroker, free_ports
from tests.support.certificates import CertificateAuthority, Identity
from tests.support.load import Cast
from tests.support.mqtt_client_frames import PINGREQ, encode_publish
from tests.support.mqtt_peer import connect_packet
from tests.support.websocket_client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    client_frame,
    read_frames,
    read_response,
    upgrade_request,
)

pytestmark = pytest.mark.integration

CONNACK = b"\x20\x02\x00\x00"
LIMIT = 512 * 1024
"""The default of ``MaxMessageSizeKb``."""

WAIT_S = 8.0
"""Less than the default of ``ConnectTimeoutS``, so that a shorter one shows."""


class Wire:
    """A connection for bytes of any kind, with or without TLS."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, data: bytes) -> None:
        """Leave bytes to the system to send when it can."""
        self._writer.write(data)

    async def read(self, size: int) -> bytes:
        """Return exactly so many bytes."""
        async with asyncio.timeout(WAIT_S):
            return await self._reader.readexactly(size)

    async def read_response(self) -> bytes:
        """Return an HTTP response up to the end of its headers."""
        async with asyncio.timeout(WAIT_S):
            return await self._reader.readuntil(b"\r\n\r\n")

    async def read_to_the_end(self) -> bytes:
        """Return all that comes before the broker closes the connection."""
        data = bytearray()
        async with asyncio.timeout(WAIT_S):
            try:
                while piece := await self._reader.read(65_536):
                    data += piece
            except (ConnectionError, ssl.SSLError):
                pass
        return bytes(data)

    async def close(self) -> None:
        """Abort it."""
        self._writer.transport.abort()
        try:
            await self._writer.wait_closed()
        except (ConnectionError, ssl.SSLError):
            return


@asynccontextmanager
async def wire(port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[Wire]:
    """Open a connection, and close it in the end."""
    async with asyncio.timeout(WAIT_S):
        opened = Wire(*await asyncio.open_connection(LOOPBACK, port, ssl=tls, limit=1 << 20))
    try:
        yield opened
    finally:
        await opened.close()


async def test_answers_that_are_not_read_do_not_pile_up(broker: RunningBroker) -> None:
    broker.start("{MaxMessageSizeKb: 64, Limits: {OutboxKb: 128}}")
    async with undisturbed(broker) as neighbours, wire(broker.tcp_port) as attacker:
        attacker.send(connect_packet("deaf") + PINGREQ * 8_000_000)
        async with asyncio.timeout(30):
            while await metric(broker, "monstermq_held_connections") < 1:
                await neighbours.exchange()
        await neighbours.exchange()


# -- WebSocket (24) ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    """One broker for all attacks on its WebSocket port."""
    process = RunningBroker(tmp_path_factory.mktemp("target"))
    try:
        yield process.start('WebSocket: {Origins: ["https://ours.example"]}')
    finally:
        process.close()


REFUSED_REQUESTS = {
    "another path": (upgrade_request("/other"), 404),
    "another Origin": (upgrade_request(origin="https://evil.example"), 403),
    "an opaque Origin": (upgrade_request(origin="null"), 403),
    "the Origin in the Host header": (upgrade_request(origin="http://broker.example"), 403),
    "an Origin that begins like ours": (upgrade_request(origin="https://ours.example.evil"), 403),
    "another subprotocol": (upgrade_request(subprotocols=["soap"]), 400),
    "no subprotocol": (upgrade_request(subprotocols=[]), 400),
    "no key": (upgrade_request(without="Sec-WebSocket-Key"), 400),
    "no upgrade": (upgrade_request(without="Upgrade"), 426),
    "headers without end": (b"GET /mqtt HTTP/1.1\r\n" + b"X: y\r\n" * 20_000, 431),
}


@pytest.mark.parametrize(
    ("request_bytes", "status"), REFUSED_REQUESTS.values(), ids=REFUSED_REQUESTS.keys()
)
async def test_a_wrong_handshake_is_refused(
    target: RunningBroker, request_bytes: bytes, status: int
) -> None:
    refused = await metric(
        target, "monstermq_connections_refused_total", reason="websocket_refused"
    )
    async with undisturbed(target) as neighbours, wire(target.ws_port) as attacker:
        attacker.send(request_bytes)
        assert read_response(await attacker.read_to_the_end()).status == status
        await neighbours.exchange()
    await until_metric(
        target, "monstermq_connections_refused_total", refused + 1, reason="websocket_refused"
    )


def header(first: int, size: int) -> bytes:
    """Write a masked frame's header that announces so many bytes."""
    return bytes((first, 0xFF)) + size.to_bytes(8, "big") + bytes(4)


FRAMES = {
    "text": (client_frame(b"x", TEXT), 1003),
    "a fragmented ping": (client_frame(b"x", PING, fin=False), 1002),
    "a ping of 126 bytes": (client_frame(bytes(126), PING), 1002),
    "unmasked": (client_frame(b"x", mask=None), 1002),
    "compressed, as a bomb is": (client_frame(b"x" * 100, rsv=4), 1002),
    "a reserved opcode": (client_frame(b"x", 0x3), 1002),
    "a continuation of nothing": (client_frame(b"x", CONTINUATION), 1002),
    "8 GB announced": (header(0x82, 8 << 30), 1009),
    "a length of 64 bits": (header(0x82, (1 << 64) - 1), (1002, 1009)),
    "fragments that add up": (
        client_frame(bytes(LIMIT), BINARY, fin=False)
        + client_frame(bytes(LIMIT), CONTINUATION, fin=False) * 3,
        1009,
    ),
}


@pytest.mark.parametrize(("frames", "code"), FRAMES.values(), ids=FRAMES.keys())
async def test_a_wrong_frame_closes_its_connection(
    target: RunningBroker, frames: bytes, code: int | tuple[int, ...]
) -> None:
    async with undisturbed(target, growth_mib=10) as neighbours, wire(target.ws_port) as attacker:
        attacker.send(upgrade_request(headers=["Sec-WebSocket-Extensions: permessage-deflate"]))
        response = read_response(await attacker.read_response())
        assert response.status == 101
        assert "sec-websocket-extensions" not in response.headers
        attacker.send(frames)
        *_, last = read_frames(await attacker.read_to_the_end())
        assert last.opcode == CLOSE
        assert int.from_bytes(last.payload[:2], "big") in (code if type(code) is tuple else (code,))
        await neighbours.exchange()


async def test_pings_whose_pongs_are_not_read_do_not_pile_up(target: RunningBroker) -> None:
    async with undisturbed(target) as neighbours, wire(target.ws_port) as attacker:
        attacker.send(upgrade_request())
        await attacker.read_response()
        attacker.send(client_frame(bytes(125), PING) * 400_000)
        for _ in range(30):
            await neighbours.exchange()


async def test_mqtt_on_the_websocket_port_is_closed(target: RunningBroker) -> None:
    async with undisturbed(target), wire(target.ws_port) as attacker:
        attacker.send(connect_packet("lost"))
        assert await attacker.read_to_the_end() == b""


async def test_a_wrong_packet_in_a_right_frame_closes_its_connection(
    target: RunningBroker,
) -> None:
    async with undisturbed(target), wire(target.ws_port) as attacker:
        attacker.send(upgrade_request(origin="https://ours.example"))
        await attacker.read_response()
        attacker.send(client_frame(connect_packet("ws") + encode_publish("#", b"x")))
        connack, *_, last = read_frames(await attacker.read_to_the_end())
        assert connack.payload == CONNACK
        assert last.opcode == CLOSE


async def test_a_handshake_that_never_ends_is_closed_after_the_deadline(
    broker: RunningBroker,
) -> None:
    broker.start("Limits: {ConnectTimeoutS: 5}")
    async with undisturbed(broker), wire(broker.ws_port) as silent, wire(broker.ws_port) as idle:
        silent.send(upgrade_request()[:-2])
        idle.send(upgrade_request())
        assert await silent.read_to_the_end() == b""
        assert read_response(await idle.read_to_the_end()).status == 101


# -- TLS (25) ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Site:
    """A broker that asks for client certificates on both ports, and who may show one."""

    broker: RunningBroker
    tcps: int
    wss: int
    authority: CertificateAuthority
    folder: Path

    def context(self, identity: Identity | None = None) -> ssl.SSLContext:
        """Return what a client with this certificate uses."""
        context = ssl.create_default_context(cafile=self.authority.cert_file)
        if identity is not None:
            context.load_cert_chain(identity.cert_file, identity.key_file)
        return context


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """See ``Site``."""
    folder = tmp_path_factory.mktemp("site")
    authority = CertificateAuthority(folder)
    server = authority.issue("server")
    tcps, wss = free_ports(2)
    process = RunningBroker(folder)
    config = f"""
    TCPS: {tcps}
    WSS: {wss}
    Limits: {{ConnectTimeoutS: 5}}
    TLS:
      CertFile: {server.cert_file}
      KeyFile: {server.key_file}
      ClientCaFile: {authority.cert_file}
      RequireClientCert: true
    """
    try:
        yield Site(process.start(config), tcps, wss, authority, folder)
    finally:
        process.close()


def intruder(site: Site, kind: str) -> ssl.SSLContext:
    """Return the context of a client that must not come in."""
    if kind == "no certificate":
        return site.context()
    if kind == "an expired certificate":
        expired = datetime.now(UTC) - timedelta(days=2)
        return site.context(site.authority.issue("expired", not_after=expired))
    folder = site.folder / "others"
    folder.mkdir(exist_ok=True)
    return site.context(CertificateAuthority(folder, "other").issue("intruder"))


async def talk(site: Site, port: int, context: ssl.SSLContext) -> bytes:
    """Say CONNECT over TCPS or WSS; return what comes back."""
    async with wire(port, context) as client:
        if port == site.wss:
            client.send(upgrade_request())
            client.send(client_frame(connect_packet("visitor")))
        else:
            client.send(connect_packet("visitor"))
        client.send(b"\xe0\x00" if port == site.tcps else client_frame(b"\xe0\x00"))
        return await client.read_to_the_end()


@pytest.mark.parametrize("transport", ["tcps", "wss"])
@pytest.mark.parametrize(
    "kind", ["no certificate", "an expired certificate", "a certificate of another authority"]
)
async def test_without_a_good_certificate_nobody_comes_in(
    site: Site, transport: str, kind: str
) -> None:
    port = site.tcps if transport == "tcps" else site.wss
    async with undisturbed(site.broker) as neighbours:
        try:
            answer = await talk(site, port, intruder(site, kind))
        except (ssl.SSLError, ConnectionError):
            answer = b""
        assert answer == b""
        await neighbours.exchange()


@pytest.mark.parametrize("transport", ["tcps", "wss"])
async def test_with_a_good_certificate_one_comes_in(site: Site, transport: str) -> None:
    port = site.tcps if transport == "tcps" else site.wss
    context = site.context(site.authority.issue("client"))
    assert CONNACK in await talk(site, port, context)


async def test_tls_1_1_is_refused(site: Site) -> None:
    context = site.context(site.authority.issue("client"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with undisturbed(site.broker):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await talk(site, site.tcps, context)


async def test_row_30_connections_without_a_handshake_are_closed_after_the_deadline(
    site: Site, cast: Cast
) -> None:
    async with undisturbed(site.broker) as neighbours:
        silent = [await cast.peer(site.tcps) for _ in range(100)]
        await neighbours.exchange()
        for peer in silent:
            await peer.closed()


async def test_plain_mqtt_on_a_tls_port_is_closed(site: Site) -> None:
    async with undisturbed(site.broker), wire(site.tcps) as client:
        client.send(connect_packet("plain"))
        assert CONNACK not in await client.read_to_the_end()


# -- file descriptors (30) -----------------------------------------------------------------------


async def test_row_30_out_of_descriptors_new_clients_wait_or_are_refused_and_old_ones_stay(
    broker: RunningBroker, cast: Cast
) -> None:
    broker.start()
    async with undisturbed(broker) as neighbours:
        process = psutil.Process(broker.pid)
        files_max = process.num_fds() + 20
        process.rlimit(psutil.RLIMIT_NOFILE, (files_max, files_max))
        storm = [await cast.peer(broker.tcp_port) for _ in range(100)]
        for _ in range(20):
            await neighbours.exchange()
        assert process.num_fds() <= files_max
        for peer in storm:
            peer.drop()
        late = await cast.peer(broker.tcp_port)
        assert (await late.connect("late")).code == 0
    assert len(broker.log_text()) < 20_000
