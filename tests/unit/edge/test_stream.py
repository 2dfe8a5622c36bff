"""The protocol of one socket on both event loops: ends that leak nothing, faults, deadlines."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable

import pytest
import uvloop
from tests.support.engine import Bench, session_of, subscribe_to
from tests.support.form import pure_only
from tests.support.mqtt_client_frames import (
    PINGREQ,
    encode_connect,
    encode_publish,
    encode_subscribe,
)
from tests.support.stage import CONNACK, DEADLINE_S, OUTBOX_SIZE_MAX, Stage
from tests.support.websocket_client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    client_frame,
    read_frames,
    upgrade_request,
)

from monstermq_edge.mqtt.connection import Connection
from monstermq_edge.mqtt.phases import Phase
from monstermq_edge.network.hub import LINGER_S, Hub
from monstermq_edge.network.stream import StreamProtocol
from monstermq_edge.network.websocket import WebSocketSettings
from monstermq_edge.network.websocket_protocol import (
    PIECE_SIZE_MAX,
    PIECE_SIZE_MIN,
    WebSocketProtocol,
)
from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.counters import Refusal
from monstermq_shared.messages import MessageRun
from monstermq_shared.sessions.local.session import Session

PING = 0x9

Story = Callable[[Stage], Awaitable[None]]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def tell(request: pytest.FixtureRequest) -> Callable[[Story], None]:
    """Run a story on one of the loops."""

    def run(story: Story) -> None:
        async def main() -> None:
            async with asyncio.timeout(DEADLINE_S), Stage() as stage:
                await story(stage)

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main())

    return run


# -- ends ----------------------------------------------------------------------------------------


def test_a_half_closed_peer_that_does_not_read_is_gone_after_the_linger_time(
    tell: Callable[[Story], None],
) -> None:
    async def story(stage: Stage) -> None:
        client, _, connection = await stage.connect("c")
        await stage.congest(connection)
        client.shutdown(socket.SHUT_WR)
        # A loop that has stopped reading does not see the end of file; the keep-alive ends it then.
        if not connection.stops_reading:
            await stage.until(lambda: connection.phase is Phase.CLOSED)
        await stage.pass_time(90.25)
        await stage.until(lambda: connection.phase is Phase.CLOSED)
        assert stage.hub.protocols
        await stage.pass_time(LINGER_S + 0.5)
        await stage.until(lambda: not stage.hub.protocols)

    tell(story)


def test_the_end_of_file_ends_the_session_at_once_although_output_waits(
    tell: Callable[[Story], None],
) -> None:
    async def story(stage: Stage) -> None:
        client, protocol, connection = await stage.connect("c")
        transport = protocol._transport
        assert transport is not None
        while not transport.get_write_buffer_size():
            transport.write(bytes(OUTBOX_SIZE_MAX))
        client.shutdown(socket.SHUT_WR)
        await stage.until(lambda: connection.phase is Phase.CLOSED)
        assert stage.counters.disconnects[CloseReason.TRANSPORT_CLOSED] == 1
        assert stage.hub.protocols
        await stage.turns()
        await stage.pass_time(LINGER_S + 0.5)
        await stage.until(lambda: not stage.hub.protocols)

    tell(story)


def test_what_came_before_the_end_of_file_is_acknowledged(tell: Callable[[Story], None]) -> None:
    async def story(stage: Stage) -> None:
        client, _, _ = await stage.connect("c")
        client.sendall(encode_publish("t", b"x", qos=1, packet_id=7))
        client.shutdown(socket.SHUT_WR)
        assert await stage.receive(client) == b"\x40\x02\x00\x07"
        assert await stage.receive(client) == b""

    tell(story)


@pytest.mark.parametrize(
    ("wire", "answers"),
    [
        (encode_publish("stored/t", b"x", qos=1, packet_id=7), b"\x40\x02\x00\x07"),
        (encode_publish("stored/t", b"x", qos=2, packet_id=7), b"\x50\x02\x00\x07"),
    ],
    ids=["PUBACK", "PUBREC"],
)
@pytest.mark.parametrize("closing", ["socket", "websocket"])
def test_an_answer_that_waits_for_its_commit_reaches_a_peer_that_has_finished_sending(
    tell: Callable[[Story], None], wire: bytes, answers: bytes, closing: str
) -> None:
    async def story(stage: Stage) -> None:
        client, connection = await _open(stage, websocket=closing == "websocket")
        stage.bench.stuck = True
        framed = wire if closing == "socket" else client_frame(wire) + client_frame(b"", CLOSE)
        await stage.loop.sock_sendall(client, framed)
        if closing == "socket":
            client.shutdown(socket.SHUT_WR)
        await stage.until(lambda: connection.owes_answers)
        await stage.turns(20)
        assert connection.session is not None
        stage.bench.stuck = False
        stage.hub.touch()
        received = b""
        while part := await stage.receive(client):
            received += part
        if closing == "socket":
            assert received == answers
        else:
            said = [(frame.opcode, frame.payload) for frame in read_frames(received)]
            assert said == [(BINARY, answers), (CLOSE, b"")]
        assert connection.phase is Phase.CLOSED

    tell(story)


async def _open(stage: Stage, *, websocket: bool) -> tuple[socket.socket, Connection]:
    """Return a connected client's socket, and the broker's side of it."""
    if not websocket:
        client, _, connection = await stage.connect("c")
        return client, connection
    settings = WebSocketSettings(message_size_max=1_000_000)
    stage.make = lambda hub, context: WebSocketProtocol(hub, context, settings)
    client, protocol = await stage.open()
    wire = upgrade_request() + client_frame(encode_connect("c"))
    await stage.loop.sock_sendall(client, wire)
    received = b""
    while not received.endswith(CONNACK):
        received += await stage.receive(client)
    assert protocol.connection is not None
    return client, protocol.connection


def test_a_peer_that_finishes_sending_before_its_connack_is_told_all_the_same(
    tell: Callable[[Story], None],
) -> None:
    async def story(stage: Stage) -> None:
        stage.bench.stuck = True
        client, protocol = await stage.open()
        wire = encode_connect("c", clean=False) + encode_subscribe(1, [("t", 1)])
        await stage.loop.sock_sendall(client, wire)
        client.shutdown(socket.SHUT_WR)
        await stage.until(lambda: protocol._ended)
        await stage.turns(20)
        stage.bench.stuck = False
        stage.hub.touch()
        received = b""
        while part := await stage.receive(client):
            received += part
        assert received == CONNACK + b"\x90\x03\x00\x01\x01"

    tell(story)


def test_a_peer_that_finished_sending_is_not_waited_for_longer_than_its_keep_alive(
    tell: Callable[[Story], None],
) -> None:
    async def story(stage: Stage) -> None:
        client, _, connection = await stage.connect("c", keep_alive_s=10)
        stage.bench.stuck = True
        client.sendall(encode_publish("stored/t", b"x", qos=1, packet_id=7))
        client.shutdown(socket.SHUT_WR)
        await stage.until(lambda: connection.owes_answers)
        await stage.turns(20)
        for _ in range(4):
            await stage.pass_time(LINGER_S)
        assert connection.phase is Phase.CLOSED

    tell(story)


def test_a_peer_that_closes_leaves_nothing_behind(tell: Callable[[Story], None]) -> None:
    async def story(stage: Stage) -> None:
        client, protocol, connection = await stage.connect("c")
        client.close()
        await stage.until(lambda: not stage.hub.protocols)
        assert protocol.connection is None
        assert connection.driver is None
        assert stage.counters.disconnects[CloseReason.TRANSPORT_CLOSED] == 1

    tell(story)


# -- holds and deadlines -------------------------------------------------------------------------


def test_a_held_peer_outlives_its_keep_alive_and_is_watched_again_afterwards(
    tell: Callable[[Story], None],
) -> None:
    async def story(stage: Stage) -> None:
        client, _, connection = await stage.connect("c", keep_alive_s=10)
        connection.hold()
        await stage.turns()
        await stage.loop.sock_sendall(client, PINGREQ)
        for _ in range(5):
            await stage.pass_time(10.0)
        assert connection.phase is Phase.CONNECTED
        connection.resume()
        assert await stage.receive(client) == b"\xd0\x00"
        await stage.pass_time(14.75)
        assert connection.phase is Phase.CONNECTED
        await stage.pass_time(1.0)
        assert await stage.receive(client) == b""
        assert stage.counters.disconnects[CloseReason.KEEP_ALIVE_TIMEOUT] == 1

    tell(story)


def test_a_websocket_peer_that_pings_and_never_reads_is_not_read_from_and_not_held(
    tell: Callable[[Story], None],
) -> None:
    settings = WebSocketSettings(message_size_max=10_000)

    async def story(stage: Stage) -> None:
        stage.make = lambda hub, context: WebSocketProtocol(hub, context, settings)
        theirs, protocol = await stage.open()
        await stage.loop.sock_sendall(theirs, upgrade_request())
        await stage.receive(theirs)
        connection = protocol.connection
        assert connection is not None
        pings = client_frame(b"x" * 100, PING) * 50
        while not connection.flooded:
            await stage.loop.sock_sendall(theirs, pings)
            await stage.turns()
        assert (connection.stops_reading, connection.is_held) == (True, False)
        while protocol._paused:
            await stage.receive(theirs)
        theirs.close()
        await stage.until(lambda: not stage.hub.protocols)

    tell(story)


@pytest.mark.parametrize("size", [0, 1])
def test_tiny_websocket_frames_have_their_share_and_no_more(
    tell: Callable[[Story], None], size: int
) -> None:
    async def story(stage: Stage) -> None:
        _, connection = await _open(stage, websocket=True)
        protocol = connection.driver
        assert isinstance(protocol, WebSocketProtocol)
        stage.make = StreamProtocol
        other, _, _ = await stage.connect("other")
        frames = protocol._channel.frames
        # Fragments of a packet that is never complete.
        begin = client_frame(b"\x30\xff\xff\x0f", fin=False)
        wire = begin + client_frame(bytes(size), CONTINUATION, fin=False) * 10_000
        protocol.data_received(wire)
        at_once = protocol._channel.frames - frames
        assert at_once <= 2 * PIECE_SIZE_MIN // 6
        await stage.loop.sock_sendall(other, PINGREQ)
        assert await stage.receive(other) == b"\xd0\x00"
        assert protocol._channel.frames - frames < 8_000
        await stage.until(lambda: protocol._channel.frames - frames == 10_001)
        await stage.until(lambda: not protocol._paused)

    tell(story)


def test_large_websocket_frames_are_unwrapped_in_large_pieces(
    tell: Callable[[Story], None],
) -> None:
    async def story(stage: Stage) -> None:
        _, connection = await _open(stage, websocket=True)
        protocol = connection.driver
        assert isinstance(protocol, WebSocketProtocol)
        watcher = stage.bench.connect("watcher", ("t", 0), clean=True)
        wire = client_frame(encode_publish("t", bytes(60_000))) * 10
        protocol.data_received(wire)
        assert protocol._piece_size == PIECE_SIZE_MAX
        await stage.until(lambda: not protocol._paused)
        assert [len(payload) for payload in watcher.payloads()] == [60_000] * 10

    tell(story)


# -- faults --------------------------------------------------------------------------------------


class WithBug:
    """The engine's port with a bug in it, for messages on one topic."""

    def __init__(self, bench: Bench, *, detach_too: bool) -> None:
        self._publish = bench.engine.publish
        self._detach = bench.engine.detach
        self._detach_too = detach_too

    def publish(self, session: Session, run: MessageRun, wall_ms: int) -> None:
        """Publish, or fail."""
        if run.topic == b"bug":
            raise KeyError("bug")
        self._publish(session, run, wall_ms)

    def detach(self, session: Session, reason: CloseReason, wall_ms: int) -> None:
        """Detach, and perhaps fail then."""
        self._detach(session, reason, wall_ms)
        if self._detach_too:
            raise KeyError("bug")


@pure_only
@pytest.mark.parametrize("detach_too", [False, True])
def test_a_bug_ends_the_connection_that_met_it_and_is_logged_once(
    tell: Callable[[Story], None],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    detach_too: bool,
) -> None:
    async def story(stage: Stage) -> None:
        good, _, _ = await stage.connect("good")
        for name in ("a", "b"):
            bug = WithBug(stage.bench, detach_too=detach_too)
            with monkeypatch.context() as patch:
                patch.setattr(stage.bench.engine, "publish", bug.publish)
                patch.setattr(stage.bench.engine, "detach", bug.detach)
                client, _, connection = await stage.connect(name)
                await stage.loop.sock_sendall(client, encode_publish("bug", b"x"))
                assert await stage.receive(client) == b""
                await stage.until(lambda: len(stage.hub.protocols) == 1)
                assert connection.phase is Phase.CLOSED
        await stage.loop.sock_sendall(good, PINGREQ)
        assert await stage.receive(good) == b"\xd0\x00"
        assert stage.counters.faults == (4 if detach_too else 2)
        assert stage.counters.disconnects[CloseReason.FAULT] == 2

    with caplog.at_level(logging.ERROR, "monstermq_edge.faults"):
        tell(story)
    [record] = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is KeyError


@pure_only
def test_a_bug_at_the_end_of_a_connection_is_counted_and_nothing_stays_behind(
    tell: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(stage: Stage) -> None:
        client, protocol, _ = await stage.connect("c")
        bug = WithBug(stage.bench, detach_too=True)
        monkeypatch.setattr(stage.bench.engine, "detach", bug.detach)
        client.close()
        await stage.until(lambda: not stage.hub.protocols)
        assert protocol.connection is None
        assert stage.counters.faults == 1

    tell(story)


@pure_only
def test_a_bug_met_at_the_stop_does_not_stop_the_stop(
    tell: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(stage: Stage) -> None:
        bug = WithBug(stage.bench, detach_too=True)
        monkeypatch.setattr(stage.bench.engine, "detach", bug.detach)
        protocols = [(await stage.connect(name))[1] for name in ("a", "b")]
        for protocol in protocols:
            protocol.shut_down()
        await stage.until(lambda: not stage.hub.protocols)
        assert stage.counters.faults == 2

    tell(story)


# -- a subscriber that never reads ---------------------------------------------------------------


def test_a_subscriber_that_never_reads_does_not_hold_its_publishers_for_ever(
    tell: Callable[[Story], None],
) -> None:
    async def story(stage: Stage) -> None:
        bench = stage.bench
        client, _, deaf = await stage.connect("deaf", keep_alive_s=0)
        subscribe_to(bench.engine, deaf.session, 1, [("t", 1)])
        await stage.congest(deaf)
        while not deaf.stops_reading:
            await stage.loop.sock_sendall(client, PINGREQ * 1_000)
            await stage.turns()
        publisher = bench.connect("p", clean=True)
        first_id = 1
        while not publisher.holds:
            bench.publish(publisher, "t", *[b"x"] * 100, first_id=first_id)
            first_id += 100
        patience_s = bench.engine.settings.hold.patience_s
        for _ in range(3):
            stage.clock.now += patience_s
            bench.engine.tick(stage.clock.now, 0)
        assert not publisher.holds
        assert session_of(publisher) is not None
        assert stage.counters.disconnects[CloseReason.SLOW_CONSUMER] == 1

    tell(story)


async def test_a_connection_beyond_the_bound_is_closed_unread() -> None:
    async with Stage() as stage:
        stage.hub = Hub(stage.loop, stage.clock, stage.bench, 0, stage.faults, stage.bench.budget)
        client, _ = await stage.open()
        assert await stage.receive(client) == b""
        assert stage.counters.connections_refused[Refusal.CONNECTIONS_MAX] == 1
