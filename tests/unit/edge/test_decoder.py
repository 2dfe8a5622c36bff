import sys

import pytest
from tests.support.mqtt_client_frames import (
    PINGREQ,
    encode_connect,
    encode_publish,
    encode_subscribe,
    encode_unsubscribe,
)
from tests.support.vectors import Vector, load_vectors, normalize

from monstermq_edge.mqtt.bodies import PART_FILTERS
from monstermq_edge.mqtt.decoder import PACKETS_MAX, RUN_MAX, Decoder, DecoderLimits
from monstermq_edge.mqtt.encoder import QOS1, encode_run
from monstermq_edge.mqtt.errors import MalformedPacket, PacketTooLarge, RemoteProtocolError
from monstermq_edge.mqtt.packets import (
    Answers,
    Connect,
    ConnectCode,
    Packet,
    Pingreq,
    Subscribe,
    Unsubscribe,
)
from monstermq_shared.messages import MessageRun


@pytest.fixture(params=load_vectors(), ids=str)
def vector(request: pytest.FixtureRequest) -> Vector:
    case: Vector = request.param
    return case


def connected(limits: DecoderLimits | None = None, level: int = 4) -> Decoder:
    decoder = Decoder(limits or DecoderLimits())
    assert len(decoder.feed(encode_connect("c", level=level))) == 1
    return decoder


def prepared(vector: Vector) -> Decoder:
    """Return a decoder that has seen what goes before the vector's bytes."""
    decoder = Decoder(vector.limits)
    decoder.feed(vector.preamble)
    assert decoder.error is None
    return decoder


def assert_outcome(vector: Vector, decoder: Decoder, packets: list[Packet]) -> None:
    assert normalize(packets) == vector.expect
    if vector.error is None:
        assert decoder.error is None
        assert decoder.pending == 0
    else:
        assert type(decoder.error) is vector.error
        if vector.clause is not None:
            assert decoder.error.clause == vector.clause
        assert decoder.error.reason == vector.reason


def test_a_whole_chunk_is_decoded(vector: Vector) -> None:
    decoder = prepared(vector)
    assert_outcome(vector, decoder, decoder.feed(vector.wire))


def test_a_chunk_of_one_byte_at_a_time_gives_the_same(vector: Vector) -> None:
    decoder = prepared(vector)
    packets = [packet for byte in vector.wire for packet in decoder.feed(bytes((byte,)))]
    assert_outcome(vector, decoder, packets)


def test_what_trails_is_a_packet_of_its_own(vector: Vector) -> None:
    decoder = prepared(vector)
    packets = decoder.feed(vector.wire + PINGREQ)
    ends_here = vector.error is not None or decoder.level not in {3, 4}
    assert normalize(packets) == vector.expect + ([] if ends_here else [{"packet": "PINGREQ"}])


def test_the_corpus_has_no_name_twice() -> None:
    names = [str(vector) for vector in load_vectors()]
    assert len(names) >= 150
    assert len(names) == len(set(names))


def test_an_idle_decoder_costs_less_than_200_bytes() -> None:
    decoder = connected()
    decoder.feed(encode_publish("t", b"x") * 3)
    assert decoder._kept is None
    assert sys.getsizeof(decoder) < 200


def test_the_level_is_the_one_connect_names() -> None:
    assert Decoder(DecoderLimits()).level == 0
    assert connected(level=3).level == 3
    assert connected(level=0x84).level == 4


def test_all_messages_on_a_topic_are_one_run() -> None:
    frames = b"".join(encode_publish("t", b"%d" % number) for number in range(1_000))
    (run,) = connected().feed(frames)
    assert isinstance(run, MessageRun)
    assert run.payloads == [b"%d" % number for number in range(1_000)]


@pytest.mark.parametrize("payload", [b"1234", b""], ids=["of one length", "of any length"])
@pytest.mark.parametrize("qos", [0, 1])
def test_a_run_is_bounded_and_the_next_one_goes_on(payload: bytes, qos: int) -> None:
    frames = [
        encode_publish("t", payload or bytes(number % 7), qos=qos, packet_id=number + 1)
        for number in range(3 * RUN_MAX)
    ]
    decoder = connected()
    runs = [run for run in decoder.feed(b"".join(frames)) if isinstance(run, MessageRun)]
    assert [run.count for run in runs] == [RUN_MAX] * 3
    payloads = [payload for run in runs for payload in run.payloads]
    assert payloads == [payload or bytes(number % 7) for number in range(3 * RUN_MAX)]
    assert [i for run in runs for i in run.packet_ids] == [*range(1, 3 * RUN_MAX + 1)] * qos


def test_a_chunk_of_many_packets_is_returned_in_parts() -> None:
    decoder = connected()
    wire = (PINGREQ + encode_publish("t", b"x")) * 100_000
    parts = [decoder.feed(wire)]
    while decoder.unread:
        parts.append(decoder.more())
    assert max(map(len, parts)) <= PACKETS_MAX
    assert sum(map(len, parts)) == 200_000
    assert decoder.feed(PINGREQ) == [Pingreq()]


@pytest.mark.parametrize("count", [1, 2, 5, 60, 61, 600])
def test_a_run_ends_where_another_topic_begins(count: int) -> None:
    frames = encode_publish("a/b", b"1234") * count + encode_publish("a/c", b"1234") * count
    packets = connected().feed(frames)
    assert [(run.topic, run.count) for run in packets if isinstance(run, MessageRun)] == [
        (b"a/b", count),
        (b"a/c", count),
    ]


@pytest.mark.parametrize("count", [1, 2, 5, 60, 61, 600])
def test_a_run_of_qos_1_has_its_packet_ids_in_order(count: int) -> None:
    ids = list(range(count, 0, -1))
    frames = b"".join(encode_publish("t", b"x", qos=1, packet_id=i) for i in ids)
    (run,) = connected().feed(frames)
    assert isinstance(run, MessageRun)
    assert list(run.packet_ids) == ids
    assert run.payloads == [b"x"] * count


def test_repeated_messages_belong_to_the_run_of_those_that_are_not() -> None:
    frames = b"".join(
        encode_publish("t", b"x" * i, qos=2, packet_id=i, dup=i % 2 == 0) for i in range(1, 9)
    )
    (run,) = connected().feed(frames)
    assert isinstance(run, MessageRun)
    assert list(run.packet_ids) == list(range(1, 9))


def test_plain_messages_are_passed_on_as_they_came() -> None:
    frames = encode_publish("t", b"one") + encode_publish("t", b"three")
    _, run, _ = connected().feed(PINGREQ + frames + PINGREQ)
    assert isinstance(run, MessageRun)
    assert run.frames == frames


def test_a_single_message_at_qos_1_is_passed_on_with_another_packet_id() -> None:
    (run,) = connected().feed(encode_publish("t", b"x", qos=1, packet_id=7))
    assert isinstance(run, MessageRun)
    assert run.encodings is not None
    assert QOS1 in run.encodings
    passed_on = encode_run(run, 0, [9], 1, False)
    assert passed_on == encode_publish("t", b"x", qos=1, packet_id=9)


@pytest.mark.parametrize(
    "frame",
    [
        encode_publish("t", b"x", retain=True),
        encode_publish("t", b"x", qos=1, packet_id=1, dup=True),
        encode_publish("t", b"x", qos=2, packet_id=1),
        b"\x30\x84\x00\x00\x01tx",
        b"\x32\x86\x00\x00\x01t\x00\x01x",
    ],
    ids=["retained", "repeated", "QoS 2", "not minimal", "QoS 1, not minimal"],
)
def test_other_messages_are_not_passed_on_as_they_came(frame: bytes) -> None:
    (run,) = connected().feed(frame)
    assert isinstance(run, MessageRun)
    assert (run.frames, run.encodings) == (None, None)


def test_a_frame_that_is_not_minimal_is_not_among_those_passed_on() -> None:
    plain = encode_publish("t", b"x")
    first, second = connected().feed(plain + b"\x30\x84\x00\x00\x01tx")
    assert isinstance(first, MessageRun)
    assert first.frames == plain
    assert isinstance(second, MessageRun)
    assert second.frames is None


@pytest.mark.parametrize("count", [1, 2, 20, 1_024])
def test_consecutive_acknowledgements_are_one_packet(count: int) -> None:
    frames = b"".join(b"\x40\x02" + i.to_bytes(2, "big") for i in range(1, count + 1))
    answers, _ = connected().feed(frames + PINGREQ)
    assert isinstance(answers, Answers)
    assert list(answers.packet_ids) == list(range(1, count + 1))


def test_more_acknowledgements_than_one_packet_takes_follow_in_the_next() -> None:
    frames = b"".join(b"\x40\x02" + i.to_bytes(2, "big") for i in range(1, 5_001))
    packets = connected().feed(frames)
    ids = [list(packet.packet_ids) for packet in packets if isinstance(packet, Answers)]
    assert [i for part in ids for i in part] == list(range(1, 5_001))
    assert max(map(len, ids)) <= RUN_MAX


def test_a_packet_of_5_mb_arrives_in_pieces() -> None:
    payload = bytes(5_000_000)
    decoder = connected(DecoderLimits(packet_size_max=6_000_000))
    frame = encode_publish("t", payload)
    packets: list[Packet] = []
    for start in range(0, len(frame), 65_536):
        assert packets == []
        packets = decoder.feed(frame[start : start + 65_536])
    (run,) = packets
    assert isinstance(run, MessageRun)
    assert run.payloads == [payload]
    assert decoder.pending == 0


def test_only_the_unfinished_packet_is_kept() -> None:
    decoder = connected()
    frame = encode_publish("t", bytes(100))
    assert len(decoder.feed(frame * 1_000 + frame[:50])) == 1
    assert decoder.pending == 50
    assert len(decoder.feed(frame[50:])) == 1
    assert decoder.pending == 0


@pytest.mark.parametrize(
    "beginning",
    [b"\x30\xff\xff\xff\x7f", b"\x82\x81\x80\x20" + bytes(1_000), b"\x30\x81\x80\x20"],
)
def test_nothing_is_kept_of_a_packet_over_the_limit(beginning: bytes) -> None:
    decoder = connected()
    assert decoder.feed(beginning) == []
    assert isinstance(decoder.error, PacketTooLarge)
    assert decoder.pending == 0


def test_nothing_is_kept_of_240_mb_that_are_no_connect() -> None:
    decoder = Decoder(DecoderLimits())
    assert decoder.feed(b"\x30\x80\x80\xb9\x72" + bytes(60_000)) == []
    assert decoder.error is not None
    assert decoder.error.clause == "MQTT-3.1.0-1"
    assert decoder.pending == 0


def test_nothing_is_read_after_an_error() -> None:
    decoder = connected()
    decoder.feed(b"\xc0\x01\x00")
    error = decoder.error
    assert isinstance(error, MalformedPacket)
    assert decoder.feed(PINGREQ) == []
    assert decoder.error is error


def test_an_error_does_not_keep_the_chunk_alive() -> None:
    decoder = connected()
    decoder.feed(encode_subscribe(1, [("a/#/b", 0)]))
    error = decoder.error
    assert error is not None
    assert error.__traceback__ is None
    assert error.__context__ is None
    assert error.__cause__ is None


def test_nothing_is_read_after_a_connect_of_a_level_not_spoken() -> None:
    decoder = Decoder(DecoderLimits())
    (connect,) = decoder.feed(encode_connect("c", level=5) + PINGREQ)
    assert isinstance(connect, Connect)
    assert decoder.level == 5
    assert decoder.feed(b"\x00") == []
    assert decoder.error is None


def test_a_will_on_the_brokers_own_topics_can_be_answered() -> None:
    decoder = Decoder(DecoderLimits())
    decoder.feed(encode_connect("c", will=("$SYS/broker", b"", 0, False)))
    assert decoder.error is not None
    assert decoder.error.reason is ConnectCode.NOT_AUTHORIZED


def parts_of(wire: bytes) -> list[Packet]:
    """Return all that a decoder makes of a packet, and see that there was no error."""
    decoder = connected()
    packets = decoder.feed(wire)
    while decoder.unread:
        more = decoder.more()
        assert len(more) == 1
        packets += more
    assert decoder.error is None
    assert decoder.feed(PINGREQ) == [Pingreq()]
    return packets


def test_a_short_list_with_a_bad_filter_at_its_end_subscribes_to_nothing() -> None:
    decoder = connected()
    good = [(f"a/{number}", 0) for number in range(PART_FILTERS - 1)]
    assert decoder.feed(encode_subscribe(1, [*good, ("a#", 0)])) == []
    assert type(decoder.error) is RemoteProtocolError


def test_a_long_list_with_a_bad_filter_at_its_end_is_an_error_after_its_first_part() -> None:
    decoder = connected()
    good = [(f"a/{number}", 0) for number in range(PART_FILTERS)]
    (part,) = decoder.feed(encode_subscribe(1, [*good, ("a#", 0)]))
    assert part == Subscribe(1, good, last=False)
    assert decoder.more() == []
    assert type(decoder.error) is RemoteProtocolError
    assert not decoder.unread


def test_a_thousand_filters_are_taken_by_default_and_those_beyond_are_counted() -> None:
    parts = parts_of(encode_subscribe(1, [("a", 0)] * 65_000))
    subscribes = [part for part in parts if isinstance(part, Subscribe)]
    assert sum(len(part.filters) for part in subscribes) == 1_000
    assert sum(part.refused for part in subscribes) == 64_000
    assert max(len(part.filters) + part.refused for part in subscribes) <= PART_FILTERS
    assert [part.last for part in subscribes] == [False] * (len(subscribes) - 1) + [True]


def test_an_unsubscribe_of_any_length_is_read_in_parts() -> None:
    filters = [f"{number}" for number in range(50_000)]
    parts = parts_of(encode_unsubscribe(1, filters))
    unsubscribes = [part for part in parts if isinstance(part, Unsubscribe)]
    assert [f for part in unsubscribes for f in part.filters] == filters
    assert max(len(part.filters) for part in unsubscribes) <= PART_FILTERS
    assert [part.last for part in unsubscribes] == [False] * (len(unsubscribes) - 1) + [True]


@pytest.mark.parametrize(
    "wrong",
    [
        {"packet_size_max": 128},
        {"packet_size_max": 268_435_461},
        {"connect_size_max": 0},
        {"filters_max": 0},
        {"topic_levels_max": 0},
        {"topic_length_max": 65_536},
    ],
    ids=str,
)
def test_limits_out_of_range_are_refused_by_name(wrong: dict[str, int]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        DecoderLimits(**wrong)
