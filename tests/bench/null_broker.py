"""A broker that knows nothing: it passes on bytes and answers by strides.

The generator against it is the generator's ceiling. It believes every byte, because the generator
writes them all, and runs as a process of its own: ``python -m tests.bench.null_broker PORTS CERT``.
"""

import base64
import contextlib
import hashlib
import socket
import ssl
import sys
from dataclasses import dataclass, field

from tests.bench.channels import (
    Channel,
    Closed,
    TcpChannel,
    TlsChannel,
    Transport,
    WebSocketChannel,
)
from tests.bench.frames import (
    CONNACK,
    DISCONNECT_FRAME,
    PINGREQ_FRAME,
    PINGRESP_FRAME,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBSCRIBE,
    answer_answers,
    answer_publishes,
    frame_size,
    runs,
)
from tests.bench.poller import Poller

_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_NEXT_STEP = {PUBREC: PUBREL, PUBREL: PUBCOMP}


@dataclass(eq=False)
class Peer:
    """One connection: publisher or subscriber, by its client id."""

    channel: Channel
    number: int = -1
    qos: int | None = None
    """Of a publisher: known from its first PUBLISH."""
    tail: bytes = b""
    targets: list["Peer"] = field(default_factory=list)


class NullBroker:
    """Routes by client id: one subscriber gets all, one publisher reaches all, else pairs."""

    def __init__(self) -> None:
        self.poller = Poller()
        self._publishers: dict[int, Peer] = {}
        self._subscribers: dict[int, Peer] = {}
        self._kept: dict[Peer, bytearray] = {}

    def accept(self, channel: Channel) -> None:
        """Serve a connection that has just been made."""
        peer = Peer(channel)
        self.poller.add(channel, lambda: self._read(peer))

    def _read(self, peer: Peer) -> None:
        try:
            chunk = peer.tail + peer.channel.receive()
        except (Closed, ConnectionError):
            self._drop(peer)
            return
        peer.tail = b""
        if not chunk:
            return
        if chunk.endswith(DISCONNECT_FRAME):
            self._drop(peer)
        elif peer.number < 0:
            self._connect(peer, chunk)
        elif chunk[0] == SUBSCRIBE:
            suback = b"\x90\x03\x00\x01" + chunk[-1:]
            self.poller.send(peer.channel, b"".join((suback, *self._kept.values())))
        else:
            self._exchange(peer, chunk)

    def _connect(self, peer: Peer, chunk: bytes) -> None:
        client_id = chunk[14:].decode()
        role, _, number = client_id.partition("-")
        peer.number = int(number)
        (self._subscribers if role == "sub" else self._publishers)[peer.number] = peer
        self.poller.send(peer.channel, bytes((CONNACK, 2, 0, 0)))

    def _exchange(self, peer: Peer, chunk: bytes) -> None:
        if peer.qos is None:
            peer.qos = chunk[0] >> 1 & 3 if chunk[0] >> 4 == PUBLISH >> 4 else 1
        if peer.qos:
            self._answer(peer, chunk)
        else:
            self._pass_on(peer, chunk)

    def _targets(self, peer: Peer) -> list[Peer]:
        if not peer.targets:
            everybody = list(self._subscribers.values())
            pairs = len(everybody) > 1 and len(self._publishers) > 1
            peer.targets = [self._subscribers[peer.number]] if pairs else everybody
        return peer.targets

    def _pass_on(self, peer: Peer, chunk: bytes) -> None:
        """QoS 0: whole frames go on as they are, or are kept for whoever subscribes later."""
        targets = self._targets(peer)
        if not targets:
            self._keep(peer, chunk)
            return
        whole = len(chunk) - len(chunk) % frame_size(0)
        peer.tail = chunk[whole:]
        for target in targets:
            self.poller.send(target.channel, chunk[:whole])

    def _keep(self, peer: Peer, chunk: bytes) -> None:
        if chunk.endswith(PINGREQ_FRAME):
            self.poller.send(peer.channel, PINGRESP_FRAME)
            chunk = chunk.removesuffix(PINGREQ_FRAME)
        self._kept.setdefault(peer, bytearray()).extend(chunk)

    def _answer(self, peer: Peer, chunk: bytes) -> None:
        taken = 0
        for run in runs(chunk):
            taken += len(run.packets)
            if run.kind == PUBLISH:
                kind = PUBACK if peer.qos == 1 else PUBREC
                self.poller.send(peer.channel, answer_publishes(kind, run.packets))
                for target in self._targets(peer):
                    self.poller.send(target.channel, run.packets)
            elif run.kind in _NEXT_STEP:
                self.poller.send(peer.channel, answer_answers(_NEXT_STEP[run.kind], run.packets))
        peer.tail = chunk[taken:]

    def _drop(self, peer: Peer) -> None:
        self.poller.remove(peer.channel)
        peer.channel.close()
        for peers in (self._publishers, self._subscribers):
            if peers.get(peer.number) is peer:
                del peers[peer.number]


class Listener:
    """Accepts on one port; a channel only in that it can be waited for."""

    def __init__(
        self, broker: NullBroker, transport: Transport, port: int, certificate: str
    ) -> None:
        self._broker = broker
        self._transport = transport
        self._sock = socket.create_server(("127.0.0.1", port), backlog=512)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificate)
        broker.poller.watch(self._sock.fileno(), self._accept)

    def _accept(self) -> None:
        sock, _ = self._sock.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            channel = self._open(sock)
        except OSError:
            sock.close()
            return
        self._broker.accept(channel)

    def _open(self, sock: socket.socket) -> Channel:
        if self._transport is Transport.TLS:
            return TlsChannel(self._tls.wrap_socket(sock, server_side=True))
        if self._transport is Transport.WEBSOCKET:
            _accept_upgrade(sock)
            return WebSocketChannel(TcpChannel(sock), client=False)
        return TcpChannel(sock)


def _accept_upgrade(sock: socket.socket) -> None:
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        received = sock.recv(4096)
        if not received:
            raise ConnectionResetError("closed before the WebSocket upgrade")
        request += received
    key = request.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
    accept = base64.b64encode(hashlib.sha1(key + _WEBSOCKET_GUID).digest()).decode()
    sock.sendall(
        f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n".encode()
    )


def main() -> None:
    """Serve until interrupted: ports for TCP, TLS and WebSocket, then a PEM file for TLS."""
    *ports, certificate = sys.argv[1:]
    broker = NullBroker()
    for transport, port in zip(Transport, ports, strict=True):
        Listener(broker, transport, int(port), certificate)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            broker.poller.turn()


if __name__ == "__main__":
    main()
