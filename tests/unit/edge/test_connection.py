"""The protocol side of a connection: refusals, holds, deadlines, and a bounded outbox."""

import math
from dataclasses import replace
from typing import get_args

import pytest
from tests.support.engine import HOLD, SETTINGS, Bench, settings
from tests.support.mqtt_client_frames import (
    DISCONNECT,
    PINGREQ,
    encode_connect,
    encode_publish,
    encode_subscribe,
)
from tests.support.stage import CONNACK, CONNECT_TIMEOUT_S, OUTBOX_SIZE_MAX, Line

from monstermq_edge.mqtt.packets import (
    Answers,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Subscribe,
    Unsubscribe,
)
from monstermq_edge.mqtt.phases import ALLOWED, Phase
from monstermq_edge.mqtt.wire import PacketType
from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.counters import Refusal
from monstermq_shared.messages import MessageRun

SYS_WILL = ("$SYS/x", b"", 0, False)
WIRE: dict[type[Packet], bytes] = {
    Connect: encode_connect("other"),
    MessageRun: encode_publish("t", b"x"),
    Answers: b"\x40\x02\x00\x01",
    Subscribe: encode_subscribe(1, [("t", 0)]),
    Unsubscribe: b"\xa2\x05\x00\x02\x00\x01t",
    Pingreq: PINGREQ,
    Disconnect: DISCONNECT,
}


@pytest.fixture
def line() -> Line:
    return Line()


# -- phases --------------------------------------------------------------------------------------


@pytest.mark.parametrize("packet", WIRE, ids=lambda packet: packet.__name__)
@pytest.mark.parametrize("phase", Phase)
def test_connect_comes_first_and_once_and_everything_else_in_between(
    phase: Phase, packet: type[Packet], line: Line
) -> None:
    if phase is not Phase.AWAITING_CONNECT:
        line.connect()
    if phase is Phase.CLOSED:
        line.receive(DISCONNECT)
    assert line.connection.phase is phase
    errors = line.counters.disconnects[CloseReason.PROTOCOL_ERROR]
    received = line.counters.messages_received
    line.receive(WIRE[packet])
    first = phase is Phase.AWAITING_CONNECT
    allowed = phase is not Phase.CLOSED and (packet is Connect) is first
    assert (line.counters.messages_received > received) is allowed
    assert (line.connection.phase is Phase.CLOSED) is (not allowed or packet is Disconnect)
    if phase is Phase.CONNECTED:
        assert (line.counters.disconnects[CloseReason.PROTOCOL_ERROR] > errors) is not allowed


def test_the_table_knows_every_phase_and_packet() -> None:
    assert set(ALLOWED) == set(Phase)
    assert frozenset().union(*ALLOWED.values()) == set(WIRE)
    assert ALLOWED[Phase.CONNECTED] == set(get_args(Packet)) - {Connect}


# -- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wire", "code", "refusal"),
    [
        (encode_connect("c", level=6), 1, Refusal.UNACCEPTABLE_PROTOCOL),
        (encode_connect("", clean=False), 2, Refusal.IDENTIFIER_REJECTED),
        (encode_connect("", level=3), 2, Refusal.IDENTIFIER_REJECTED),
        (encode_connect("", level=0x83), 2, Refusal.IDENTIFIER_REJECTED),
        (encode_connect("hasty"), 3, Refusal.TAKEOVER_RATE),
        (encode_connect("c", will=SYS_WILL), 5, Refusal.NOT_AUTHORIZED),
    ],
)
def test_a_refusal_says_its_code_once_and_is_counted_once(
    line: Line, wire: bytes, code: int, refusal: Refusal
) -> None:
    line.receive(wire)
    assert line.connection.phase is Phase.CLOSED
    assert line.connection.data_to_send() == bytes((0x20, 2, 0, code))
    refused = line.counters.connections_refused
    assert (refused[refusal], sum(refused)) == (1, 1)
    assert line.counters.packets_sent[PacketType.CONNACK] == 1
    assert line.counters.connections_total == 0
    assert line.wakes > 0


def test_beyond_the_limit_no_persistent_session_begins_and_known_ones_go_on() -> None:
    bench = Bench(replace(SETTINGS, sessions_max=2))
    bench.drop(bench.connect("known"))
    bench.connect("other", clean=True)
    for client_id, clean, code in (
        ("new", False, 3),
        ("new", True, 0),
        ("known", False, 0),
        ("other", False, 0),
    ):
        line = Line(bench)
        line.receive(encode_connect(client_id, clean=clean))
        bench.settle()
        assert line.connection.data_to_send()[3] == code
    assert bench.counters.connections_refused[Refusal.SESSIONS_MAX] == 1


def test_an_engine_that_cannot_know_a_session_says_so_before_it_closes() -> None:
    bench = Bench()
    waiting, answered = Line(bench), Line(bench)
    answered.receive(encode_connect("answered", clean=False))
    bench.settle()
    answered.connection.data_to_send()
    waiting.receive(encode_connect("waiting", clean=False))
    for line in (waiting, answered):
        line.connection.close(CloseReason.SERVER_UNAVAILABLE)
    assert waiting.connection.data_to_send() == b"\x20\x02\x00\x03"
    assert answered.connection.data_to_send() == b""
    assert bench.counters.connections_refused[Refusal.SERVER_UNAVAILABLE] == 1


def test_nobody_is_taken_in_while_too_much_waits_for_the_database() -> None:
    bench = Bench(settings(hold=replace(HOLD, backlog_size_max=100)))
    publisher = bench.connect("p", clean=True)
    bench.publish(publisher, "stored/t", bytes(1_000))
    line = Line(bench)
    line.receive(encode_connect("c"))
    assert line.connection.data_to_send() == b"\x20\x02\x00\x03"
    assert line.counters.connections_refused[Refusal.SERVER_UNAVAILABLE] == 1
    bench.settle()
    Line(bench).connect("c")


def test_connack_is_counted_and_comes_before_all_that_was_said_meanwhile(line: Line) -> None:
    line.receive(encode_connect("c", clean=False) + PINGREQ)
    assert line.connection.data_to_send() == b""
    line.bench.settle()
    assert line.connection.data_to_send() == CONNACK + b"\xd0\x00"
    assert line.counters.packets_sent[PacketType.CONNACK] == 1
    assert line.counters.connections_total == 1


# -- holds ---------------------------------------------------------------------------------------


def test_a_peer_that_does_not_read_is_not_held_but_not_read_from_either(line: Line) -> None:
    line.connect()
    line.connection.congested = True
    line.receive(PINGREQ * OUTBOX_SIZE_MAX)
    assert line.connection.stops_reading
    assert not line.connection.is_held


def test_holds_nest(line: Line) -> None:
    line.connect()
    line.connection.hold()
    line.connection.hold()
    states = []
    for _ in range(2):
        line.connection.resume()
        states.append((line.connection.is_held, line.connection.stops_reading))
    assert states == [(True, True), (False, False)]


def test_nothing_is_read_once_the_outbox_is_full_while_connack_is_due(line: Line) -> None:
    line.receive(encode_connect("c", clean=False))
    wakes = line.wakes
    for _ in range(OUTBOX_SIZE_MAX // 200 + 1):
        assert not line.connection.stops_reading
        line.receive(PINGREQ * 100)
    assert line.connection.stops_reading
    assert line.connection.waiting_size <= OUTBOX_SIZE_MAX + 200
    assert line.wakes == wakes + 2  # for the first bytes, and at the line
    line.bench.settle()
    assert line.connection.data_to_send().startswith(CONNACK)
    assert not line.connection.stops_reading


# -- acknowledgements ----------------------------------------------------------------------------


def test_what_a_publisher_is_told_is_patient_and_in_order(line: Line) -> None:
    line.connect()
    wakes = line.wakes
    line.receive(encode_publish("t", b"x", qos=2, packet_id=5) + b"\x62\x02\x00\x05")
    line.receive(encode_publish("t", b"x", qos=1, packet_id=6))
    assert (line.wakes, line.patient_wakes) == (wakes, 1)
    told = b"\x50\x02\x00\x05" + b"\x70\x02\x00\x05" + b"\x40\x02\x00\x06"
    assert line.connection.data_to_send() == told
    assert line.connection.data_to_send() == b""


def test_a_subscriber_is_told_pubrel_at_once(line: Line) -> None:
    line.connect()
    line.receive(encode_subscribe(1, [("t", 2)]))
    line.receive(encode_publish("t", b"x", qos=2, packet_id=5))
    line.bench.settle()
    line.connection.data_to_send()
    wakes, patient_wakes = line.wakes, line.patient_wakes
    line.receive(b"\x50\x02\x00\x01")
    assert (line.wakes, line.patient_wakes) == (wakes + 1, patient_wakes)
    assert line.connection.data_to_send() == b"\x62\x02\x00\x01"


def test_connack_precedes_acknowledgements(line: Line) -> None:
    line.receive(encode_connect("c", clean=False) + encode_publish("t", b"", qos=1, packet_id=1))
    assert line.connection.data_to_send() == b""
    line.bench.settle()
    assert line.connection.data_to_send() == CONNACK + b"\x40\x02\x00\x01"


def test_a_publisher_that_does_not_read_its_acknowledgements_is_not_read_from(line: Line) -> None:
    line.connect()
    line.connection.congested = True
    wakes = line.wakes
    sent = 0
    while not line.connection.stops_reading:
        sent += 1
        assert sent * 4 <= OUTBOX_SIZE_MAX + 4
        line.receive(encode_publish("t", b"", qos=1, packet_id=sent))
    assert line.connection.waiting_size == sent * 4
    assert line.wakes == wakes + 1
    line.connection.congested = False
    assert line.connection.data_to_send().count(b"\x40\x02") == sent
    assert not line.connection.stops_reading


# -- deadlines -----------------------------------------------------------------------------------


def test_silence_beyond_the_keep_alive_ends_the_connection(line: Line) -> None:
    line.connect(keep_alive_s=10)
    assert line.connection.deadline == 15.0
    assert line.connection.expire(15.0, 0)
    assert line.counters.disconnects[CloseReason.KEEP_ALIVE_TIMEOUT] == 1


def test_a_held_peer_is_not_silent_and_has_the_whole_time_once_it_is_read_again(
    line: Line,
) -> None:
    line.connect(keep_alive_s=10)
    line.connection.hold()
    assert not line.connection.expire(15.0, 0)
    assert line.connection.deadline == 30.0
    line.connection.start_clock(29.0)
    assert line.connection.deadline == 30.0
    line.connection.resume()
    line.connection.start_clock(29.0)
    assert line.connection.deadline == 44.0
    assert line.connection.expire(44.0, 0)


def test_a_peer_that_waits_for_its_connack_is_not_silent(line: Line) -> None:
    line.receive(encode_connect("c", clean=False, keep_alive_s=10))
    assert not line.connection.expire(15.0, 0)
    line.bench.settle()
    line.connection.start_clock(29.0)
    assert line.connection.expire(44.0, 0)


def test_a_peer_that_does_not_read_must_keep_its_keep_alive(line: Line) -> None:
    line.connect(keep_alive_s=10)
    line.connection.congested = True
    line.receive(PINGREQ * OUTBOX_SIZE_MAX)
    assert line.connection.stops_reading
    assert line.connection.expire(15.0, 0)


def test_without_keep_alive_there_is_no_deadline_however_often_it_is_held(line: Line) -> None:
    line.connect(keep_alive_s=0)
    line.connection.hold()
    line.connection.resume()
    line.connection.start_clock(5.0)
    assert line.connection.deadline == math.inf


def test_a_peer_that_never_says_connect_is_counted(line: Line) -> None:
    assert line.connection.expire(CONNECT_TIMEOUT_S, 0)
    assert line.counters.disconnects[CloseReason.CONNECT_TIMEOUT] == 1
