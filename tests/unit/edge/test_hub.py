"""The end of a turn and the wheel: what fails in one connection leaves the others alone."""

import asyncio
import socket
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from tests.support.engine import Bench
from tests.support.mqtt_client_frames import DISCONNECT, PINGREQ, encode_publish, encode_subscribe
from tests.support.stage import Stage

from monstermq_edge.mqtt.connection import SHARE
from monstermq_edge.mqtt.context import ConnectionContext
from monstermq_edge.mqtt.wire import PacketType
from monstermq_edge.network.hub import (
    ASLEEP,
    AWAKE,
    TURN_WORK,
    Hub,
)
from monstermq_edge.network.stream import StreamProtocol
from monstermq_edge.network.wheel import TICK_S, WATCH_MAX_S
from monstermq_shared.budget import Budget
from monstermq_shared.close_reasons import CloseReason


class Broken(StreamProtocol):
    """A protocol with a bug that begins to show when ``broken`` is set."""

    broken = False

    def flush(self) -> None:
        """Flush, or fail."""
        if self.broken:
            raise RuntimeError("flush")
        super().flush()

    def check_deadline(self, tick: int, now: float) -> None:
        """Check, or fail."""
        if self.broken:
            raise RuntimeError("check")
        super().check_deadline(tick, now)


class Noting(StreamProtocol):
    """A protocol that notes when it is flushed."""

    def __init__(self, flushed: list[str], hub: Hub, context: ConnectionContext) -> None:
        super().__init__(hub, context)
        self.flushed = flushed

    def flush(self) -> None:
        """Note it, and flush."""
        if self.connection is not None:
            self.flushed.append(self.connection.client_id)
        super().flush()


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with Stage() as stage:
        yield stage


async def test_a_flush_that_fails_ends_that_connection_and_mutes_no_other(stage: Stage) -> None:
    stage.make = Broken
    bad, failing, _ = await stage.connect("bad")
    stage.make = StreamProtocol
    good, _, _ = await stage.connect("good")
    failing.broken = True  # type: ignore[attr-defined]  # it is a Broken
    for end in (bad, good):
        await stage.loop.sock_sendall(end, PINGREQ)
    await stage.until(lambda: stage.counters.faults > 0)
    assert await stage.receive(good) == b"\xd0\x00"
    assert await stage.receive(bad) == b""
    await stage.loop.sock_sendall(good, PINGREQ)
    assert await stage.receive(good) == b"\xd0\x00"
    assert len(stage.hub.protocols) == 1


async def test_a_deadline_that_fails_ends_that_connection_and_spares_no_other(stage: Stage) -> None:
    stage.make = Broken
    bad, failing, _ = await stage.connect("bad", keep_alive_s=10)
    stage.make = StreamProtocol
    silent, _, _ = await stage.connect("silent", keep_alive_s=10)
    failing.broken = True  # type: ignore[attr-defined]  # it is a Broken
    await stage.pass_time(15.25)
    assert await stage.receive(silent) == b""
    assert await stage.receive(bad) == b""
    assert stage.counters.faults > 0


async def test_a_turn_that_fails_is_reported_and_its_outboxes_are_written(stage: Stage) -> None:
    client, protocol, connection = await stage.connect("c")
    reported: list[dict[str, Any]] = []
    stage.loop.set_exception_handler(lambda _, context: reported.append(context))

    class Failing(Bench):
        def end_turn(self) -> bool:
            raise RuntimeError("turn")

    hub = Hub(stage.loop, stage.clock, Failing(), 10, stage.faults, Budget())
    connection.receive_data(PINGREQ, stage.clock.now, 0)
    assert protocol.awake == AWAKE
    protocol.awake = ASLEEP
    hub.wake(connection)
    assert await stage.receive(client) == b"\xd0\x00"
    assert [str(context["exception"]) for context in reported] == ["turn"]


async def _pair(stage: Stage) -> tuple[socket.socket, StreamProtocol, list[str]]:
    """Return a publisher's two ends, and what is flushed; ``sub`` has subscribed to its topic."""
    flushed: list[str] = []
    stage.make = partial(Noting, flushed)
    client, publisher, _ = await stage.connect("pub")
    subscriber, _, _ = await stage.connect("sub")
    await stage.loop.sock_sendall(subscriber, encode_subscribe(1, [("t", 1)]))
    await stage.receive(subscriber)
    await stage.turns()
    flushed.clear()
    return client, publisher, flushed


async def test_what_is_delivered_is_written_before_what_is_acknowledged(stage: Stage) -> None:
    _, publisher, flushed = await _pair(stage)
    publisher.data_received(encode_publish("t", b"x", qos=1, packet_id=1))
    await stage.until(lambda: len(flushed) == 2)
    assert flushed == ["sub", "pub"]


async def test_who_is_delivered_something_is_acknowledged_in_the_same_write(stage: Stage) -> None:
    client, publisher, flushed = await _pair(stage)
    publisher.data_received(encode_subscribe(1, [("t", 1)]))
    await stage.receive(client)
    flushed.clear()
    publisher.data_received(encode_publish("t", b"x", qos=1, packet_id=7))
    delivered = encode_publish("t", b"x", qos=1, packet_id=1)
    assert await stage.receive(client) == delivered + b"\x40\x02\x00\x07"
    await stage.turns()
    assert sorted(flushed) == ["pub", "sub"]


async def test_the_wheel_never_keeps_a_connection_for_long(stage: Stage) -> None:
    _, protocol, connection = await stage.connect("c", keep_alive_s=65_535)
    tick = stage.hub.wheel.watch(protocol, connection.deadline)
    assert tick * TICK_S <= stage.clock.now + WATCH_MAX_S
    assert stage.hub.wheel.watch(protocol, 1e300) == tick


async def test_a_deadline_beyond_the_wheel_is_met_all_the_same(stage: Stage) -> None:
    client, _, connection = await stage.connect("c", keep_alive_s=300)
    for _ in range(44):
        await stage.pass_time(10.0)
    assert connection.deadline == 1_450.0
    assert len(stage.hub.protocols) == 1
    await stage.pass_time(10.25)
    assert await stage.receive(client) == b""


async def test_the_hub_says_when_the_last_connection_has_gone(stage: Stage) -> None:
    client, _, _ = await stage.connect("c")
    emptied = asyncio.create_task(stage.hub.emptied())
    await stage.turns()
    assert not emptied.done()
    client.close()
    async with asyncio.timeout(30):
        await emptied


@pytest.mark.parametrize("count", [0, 1])
async def test_the_hub_is_full_at_its_bound(stage: Stage, count: int) -> None:
    hub = Hub(stage.loop, stage.clock, stage.bench, 1, stage.faults, stage.bench.budget)
    _, protocol, _ = await stage.connect("c")
    if count:
        hub.protocols.add(protocol)
    assert hub.is_full() is bool(count)


# -- whose turn it is ----------------------------------------------------------------------------


Client = tuple[socket.socket, StreamProtocol]


class Counting(StreamProtocol):
    """A protocol that notes when it is served from the line, and by what it then causes."""

    def __init__(self, served: list[str], hub: Hub, context: ConnectionContext) -> None:
        super().__init__(hub, context)
        self.served = served

    def serve(self, now: float, wall_ms: int) -> None:
        """Note it, and serve."""
        if self.connection is not None:
            self.served.append(self.connection.client_id)
        super().serve(now, wall_ms)


async def _counting(stage: Stage, *client_ids: str) -> tuple[list[Client], list[str]]:
    served: list[str] = []
    stage.make = partial(Counting, served)
    clients = [(await stage.connect(client_id))[:2] for client_id in client_ids]
    served.clear()
    return clients, served


async def test_one_with_a_hundred_thousand_packets_has_its_share_and_no_more(stage: Stage) -> None:
    ((_, flooder), (client, other)), served = await _counting(stage, "flooder", "other")
    received = stage.counters.publish_received
    flooder.data_received((encode_publish("a", b"") + encode_publish("b", b"")) * 50_000)
    assert abs(received[0] - SHARE // 2) < 100
    other.data_received(PINGREQ)
    assert await stage.receive(client) == b"\xd0\x00"
    assert flooder.connection is not None
    assert flooder.connection.unread
    await stage.until(lambda: received[0] == 100_000)
    assert served == ["flooder"] * len(served)
    assert len(served) >= 2 * 100_000 // SHARE - 5


async def test_those_who_wait_are_served_in_turn(stage: Stage) -> None:
    clients, served = await _counting(stage, "a", "b", "c")
    for _, protocol in clients:
        protocol.data_received(PINGREQ * 5 * SHARE)
    await stage.until(lambda: sum(stage.counters.packets_received) >= 3 + 15 * SHARE)
    assert served[:12] == ["a", "b", "c"] * 4


async def test_a_turn_has_a_bound_however_many_come(stage: Stage) -> None:
    clients, _ = await _counting(stage, *(f"c{number}" for number in range(20)))
    for _, protocol in clients:
        protocol.data_received(PINGREQ * SHARE)
    received = stage.counters.packets_received[PacketType.PINGREQ]
    assert 0.45 * TURN_WORK < received <= TURN_WORK / 2
    await stage.until(lambda: stage.counters.packets_received[PacketType.PINGREQ] == 20 * SHARE)


def _lose(protocol: StreamProtocol) -> None:
    """Tell a protocol that its connection is gone, at this very moment."""
    transport = protocol._transport
    assert transport is not None
    protocol.connection_lost(None)
    transport.abort()


async def test_what_came_before_a_connection_was_lost_is_handled_before_its_end(
    stage: Stage,
) -> None:
    watcher = stage.bench.connect("watcher", ("t", 0), ("will", 0), clean=True)
    ((_, protocol),), _ = await _counting(stage, "c")
    packets = b"".join(encode_publish("t", b"%d" % number) + PINGREQ for number in range(SHARE))
    protocol.data_received(packets + DISCONNECT)
    _lose(protocol)
    assert stage.hub.protocols
    await stage.until(lambda: not stage.hub.protocols)
    assert watcher.payloads() == [b"%d" % number for number in range(SHARE)]
    assert stage.counters.disconnects[CloseReason.CLIENT_DISCONNECTED] == 1


async def test_many_that_are_lost_at_once_end_over_several_turns(stage: Stage) -> None:
    clients, _ = await _counting(stage, *(f"c{number}" for number in range(50)))
    stage.hub.budget.left = 100
    for _, protocol in clients:
        _lose(protocol)
    assert 40 < len(stage.hub.protocols) < 50
    await stage.until(lambda: not stage.hub.protocols)
    assert stage.counters.disconnects[CloseReason.TRANSPORT_CLOSED] == 50


async def test_nobody_is_served_while_a_message_goes_out_in_pieces(stage: Stage) -> None:
    ((_, protocol),), served = await _counting(stage, "c")
    stage.bench.engine.publisher.deliveries_max = 1
    links = [stage.bench.connect(f"s{number}", ("t", 1), clean=True) for number in range(5)]
    stage.bench.publish(stage.bench.connect("p", clean=True), "t", b"x")
    protocol.data_received(PINGREQ)
    while stage.bench.engine.is_busy:
        assert stage.counters.packets_received[PacketType.PINGREQ] == 0
        await stage.turns(1)
    await stage.until(lambda: stage.counters.packets_received[PacketType.PINGREQ] == 1)
    assert served == ["c"]
    assert [link.payloads() for link in links] == [[b"x"]] * 5


async def test_writes_come_in_portions_and_the_newest_first(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monstermq_edge.network.hub.WRITES_MAX", 2)
    flushed: list[str] = []
    stage.make = partial(Noting, flushed)
    connections = [(await stage.connect(f"c{number}"))[2] for number in range(7)]
    await stage.turns()
    flushed.clear()
    for connection in connections[:6]:
        stage.hub.wake(connection)
    await stage.turns(1)
    assert flushed == ["c0", "c1", "c2", "c3"]
    stage.hub.wake(connections[6])
    await stage.turns(1)
    assert flushed[4:] == ["c6", "c4", "c5"]


async def test_the_wheel_looks_at_so_many_in_one_tick(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monstermq_edge.network.wheel.CHECKS_MAX", 2)
    for number in range(5):
        await stage.connect(f"c{number}", keep_alive_s=10)
    ended = stage.counters.disconnects
    for expected in (2, 4, 5):
        await stage.pass_time(15.25 if expected == 2 else TICK_S)
        assert ended[CloseReason.KEEP_ALIVE_TIMEOUT] == expected


async def test_a_stop_handles_what_was_read_and_reads_no_more(stage: Stage) -> None:
    ((client, protocol),), _ = await _counting(stage, "c")
    protocol.data_received(PINGREQ * 3 * SHARE)
    await stage.hub.quiesce()
    assert stage.counters.packets_received[PacketType.PINGREQ] == 3 * SHARE
    await stage.turns()
    await stage.loop.sock_sendall(client, PINGREQ)
    await stage.turns(20)
    assert stage.counters.packets_received[PacketType.PINGREQ] == 3 * SHARE
