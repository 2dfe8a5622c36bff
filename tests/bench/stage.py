"""Where an attack takes place: its clients, what they send, and how it is known to be over."""

import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Self

from tests.bench.brokers import Running
from tests.bench.channels import (
    Buffer,
    Closed,
    TcpChannel,
    Transport,
    connect_socket,
    upgrade,
    wait_for_bytes,
)
from tests.bench.frames import (
    ANSWER_SIZE,
    CONNACK,
    PINGREQ_FRAME,
    PINGRESP_FRAME,
    Will,
    connect_frame,
    publish_frame,
    subscribe_all_frame,
)
from tests.bench.model import Effort
from tests.bench.poller import Poller

OVER_TIMEOUT_S = 200.0
"""An attack that the broker still has not worked off is a problem of its own."""
CHUNK_SIZE = 256 * 1024
"""What the broker reads at once."""
FILTERS_PER_PACKET = 1_000
_FEED_TURN_S = 0.002
_RESET = struct.pack("ii", 1, 0)


class HostileChannel(TcpChannel):
    """A connection that the broker may end at any time: the next ``receive`` tells."""

    __slots__ = ()

    @property
    def is_idle(self) -> bool:
        """Whether everything given to ``send`` has left."""
        return not self._pending

    def reset(self) -> None:
        """Close with RST, as a machine that vanishes does."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close()

    def _write(self, data: Buffer) -> int:
        try:
            return super()._write(data)
        except ConnectionError:
            return len(data)


class Attacker:
    """A client of an attack: sends what it is told, and counts what comes."""

    def __init__(self, poller: Poller, channel: HostileChannel) -> None:
        self.received = 0
        """Bytes."""
        self.pongs = 0
        self.is_closed = False
        self.channel = channel
        self._poller = poller
        self._last = b""
        poller.add(channel, self._read)

    def send(self, data: bytes) -> None:
        """Send at once what fits, the rest in the turns to come; nothing if it is closed."""
        if not self.is_closed:
            self._poller.send(self.channel, data)

    def vanish(self) -> None:
        """Close without DISCONNECT, and with RST."""
        if not self.is_closed:
            self._forget()
            self.channel.reset()

    def take(self, chunk: bytes) -> None:
        """Note what has come; more than this is up to who derives from it."""
        self.received += len(chunk)
        self.pongs += (self._last + chunk).count(PINGRESP_FRAME)  # others' messages may follow it
        self._last = chunk[-1:]

    def _read(self) -> None:
        try:
            chunk = self.channel.receive()
        except Closed:
            self._forget()
            self.channel.close()
            return
        if chunk:
            self.take(chunk)

    def _forget(self) -> None:
        self._poller.remove(self.channel)
        self.is_closed = True


class Stage:
    """A broker and the clients that attack it; the clients are gone after the ``with``."""

    def __init__(self, running: Running, effort: Effort) -> None:
        self.running = running
        self.effort = effort
        self.poller = Poller()
        self.problems: list[str] = []

    def __enter__(self) -> Self:
        """There are no clients yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close every connection."""
        self.poller.close()

    def some(self, full: int, least: int = 2) -> int:
        """How many at this effort, where the full size is ``full``."""
        return max(least, int(full * self.effort.attack_share))

    def connect(
        self, client_id: str, *, clean: bool = True, will: Will | None = None
    ) -> HostileChannel:
        """Connect a client. Raises ``Closed`` if the broker refuses it."""
        channel = HostileChannel(connect_socket(self.running.port))
        channel.send(connect_frame(client_id, clean=clean, will=will))
        connack = wait_for_bytes(channel, b"", 4)
        if connack[0] != CONNACK or connack[3]:
            raise Closed(f"CONNECT of {client_id} was answered with {connack.hex()}")
        return channel

    def join(self, client_id: str, *, clean: bool = True, will: Will | None = None) -> Attacker:
        """Connect a client that reads from now on."""
        return Attacker(self.poller, self.connect(client_id, clean=clean, will=will))

    def join_websocket(self) -> Attacker:
        """Open a WebSocket; what is sent on it is up to its user, frames included."""
        sock = connect_socket(self.running.ports[Transport.WEBSOCKET])
        upgrade(sock)
        return Attacker(self.poller, HostileChannel(sock))

    def feed(
        self, feeds: Mapping[Attacker, Iterable[bytes]], seconds: float = OVER_TIMEOUT_S
    ) -> None:
        """Keep each attacker sending what is meant for it, to the end of it or for ``seconds``."""
        left = {attacker: iter(pieces) for attacker, pieces in feeds.items()}
        deadline = time.perf_counter() + seconds
        while left and time.perf_counter() < deadline:
            for attacker in list(left):
                piece = next(left[attacker], None) if attacker.channel.is_idle else b""
                if piece is None or attacker.is_closed:
                    del left[attacker]
                elif piece:
                    attacker.send(piece)
            self.poller.turn(_FEED_TURN_S)

    def wait_until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Let the clients read until ``done``; whether it came to that within ``seconds``."""
        deadline = time.perf_counter() + seconds
        while not done():
            if time.perf_counter() > deadline:
                return False
            self.poller.turn()
        return True

    def run_for(self, seconds: float) -> None:
        """Let the clients read for ``seconds``. Raises ``RuntimeError`` if the broker has ended."""
        self.poller.run_for(seconds)
        self.running.wait(0)

    def sync(self, *attackers: Attacker, seconds: float = OVER_TIMEOUT_S) -> None:
        """Wait until the broker has done all that these have sent, or has closed them."""
        expected = {one: one.pongs + 1 for one in attackers}
        for one in attackers:
            one.send(PINGREQ_FRAME)
        self._expect(
            lambda: all(one.is_closed or one.pongs >= expected[one] for one in attackers), seconds
        )

    def commit(self, publisher: Attacker) -> None:
        """Wait until all that ``publisher`` has sent is in the database."""
        self.sync(publisher)
        expected = publisher.received + ANSWER_SIZE
        publisher.send(publish_frame("commit", b"x", qos=1, retain=True))
        self.expect_received([publisher], expected)

    def expect_received(self, attackers: Sequence[Attacker], size: int) -> None:
        """Wait until each of them has received ``size`` bytes or more, or is closed."""
        self._expect(
            lambda: all(one.is_closed or one.received >= size for one in attackers), OVER_TIMEOUT_S
        )

    def subscribe(self, attacker: Attacker, filters: Sequence[str]) -> None:
        """Subscribe to many filters in packets of ordinary size, and see them answered."""
        starts = range(0, len(filters), FILTERS_PER_PACKET)
        parts = (filters[start : start + FILTERS_PER_PACKET] for start in starts)
        self.feed({attacker: map(subscribe_all_frame, parts)})
        self.sync(attacker)

    def cache_topics(self, count: int) -> None:
        """Let the broker remember the receivers of ``count`` topics: it does when one returns."""
        publisher = self.join("cacher")
        for _ in range(2):
            frames = (publish_frame(f"r{number}/b/c", b"") for number in range(count))
            self.feed({publisher: joined(frames, CHUNK_SIZE)})
        self.sync(publisher)

    def _expect(self, done: Callable[[], bool], seconds: float) -> None:
        if not self.wait_until(done, seconds):
            self.problems.append(f"not over after {seconds:g} s")


def joined(frames: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The frames in pieces of ``size`` bytes or a little more."""
    piece = bytearray()
    for frame in frames:
        piece += frame
        if len(piece) >= size:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


def chunk_of(frames: bytes) -> bytes:
    """``frames`` over and over, as many as the broker reads at once."""
    return frames * (CHUNK_SIZE // len(frames))
