import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.mqtt_client_frames import encode_connect, encode_publish
from tests.support.vectors import Normalized, normalize

from monstermq_edge.mqtt.decoder import Decoder, DecoderLimits
from monstermq_edge.mqtt.encoder import (
    PINGRESP,
    encode_answers,
    encode_connack,
    encode_run,
    encode_run_qos0,
    encode_suback,
    encode_unsuback,
)
from monstermq_edge.mqtt.errors import LocalProtocolError
from monstermq_edge.mqtt.packets import ConnectCode
from monstermq_edge.mqtt.wire import (
    REMAINING_LENGTH_MAX,
    encode_remaining_length,
    read_remaining_length,
)
from monstermq_shared.messages import MessageRun
from monstermq_shared.sessions.ports import SUBSCRIPTION_REFUSED, Answer

PACKET_IDS = st.integers(1, 65_535)


def decoded(wire: bytes) -> list[Normalized]:
    decoder = Decoder(DecoderLimits(packet_size_max=10_000_000))
    packets = decoder.feed(encode_connect("c") + wire)
    assert decoder.error is None
    assert decoder.pending == 0
    return normalize(packets[1:])


def run_of(*payloads: bytes, topic: str = "t", qos: int = 0, retain: bool = False) -> MessageRun:
    """Return a run as a decoder makes it of one chunk."""
    frames = (
        encode_publish(topic, payload, qos=qos, packet_id=number, retain=retain)
        for number, payload in enumerate(payloads, 1)
    )
    decoder = Decoder(DecoderLimits(packet_size_max=10_000_000))
    _, run = decoder.feed(encode_connect("c") + b"".join(frames))
    assert isinstance(run, MessageRun)
    return run


@pytest.mark.parametrize(
    ("packet", "wire"),
    [
        (PINGRESP, "d0 00"),
        (encode_connack(False, ConnectCode.ACCEPTED), "20 02 00 00"),
        (encode_connack(True, ConnectCode.ACCEPTED), "20 02 01 00"),
        (encode_connack(False, ConnectCode.UNACCEPTABLE_PROTOCOL), "20 02 00 01"),
        (encode_connack(True, ConnectCode.IDENTIFIER_REJECTED), "20 02 00 02"),
        (encode_suback(1, [0]), "90 03 0001 00"),
        (encode_suback(65_535, [2, SUBSCRIPTION_REFUSED, 1]), "90 05 ffff 02 80 01"),
        (encode_unsuback(258), "b0 02 0102"),
        (encode_answers(Answer.PUBACK, [1]), "40 02 0001"),
        (encode_answers(Answer.PUBREC, [1, 256]), "50 02 0001 50 02 0100"),
        (encode_answers(Answer.PUBREL, [1, 1]), "62 02 0001 62 02 0001"),
        (encode_answers(Answer.PUBCOMP, (65_535,)), "70 02 ffff"),
        (encode_answers(Answer.PUBACK, []), ""),
    ],
)
def test_packets_have_the_standards_bytes(packet: bytes, wire: str) -> None:
    assert packet == bytes.fromhex(wire)


def test_a_suback_of_many_codes_has_a_longer_length() -> None:
    assert encode_suback(1, [0] * 126) == bytes.fromhex("90 8001 0001") + bytes(126)


@pytest.mark.parametrize(
    ("length", "wire"),
    [
        (0, "00"),
        (127, "7f"),
        (128, "8001"),
        (16_383, "ff7f"),
        (16_384, "808001"),
        (2_097_151, "ffff7f"),
        (2_097_152, "80808001"),
        (REMAINING_LENGTH_MAX, "ffffff7f"),
    ],
)
def test_remaining_lengths_are_those_of_the_standards_table(length: int, wire: str) -> None:
    encoded = bytes.fromhex(wire)
    assert encode_remaining_length(length) == encoded
    assert read_remaining_length(b"\x30" + encoded, 1) == (length, 1 + len(encoded))


def test_a_length_four_bytes_cannot_say_is_our_error() -> None:
    with pytest.raises(LocalProtocolError):
        encode_remaining_length(REMAINING_LENGTH_MAX + 1)


def test_a_live_copy_does_not_carry_the_publishers_retain_flag() -> None:
    run = run_of(b"one", b"two", retain=True)
    assert encode_run_qos0(run) == encode_publish("t", b"one") + encode_publish("t", b"two")


def test_a_retained_copy_carries_the_retain_flag() -> None:
    run = MessageRun.single(b"t", b"x", 1, retained_copy=True)
    assert encode_run_qos0(run) == encode_publish("t", b"x", retain=True)
    assert encode_run(run, 0, [7], 1, False) == encode_publish(
        "t", b"x", qos=1, packet_id=7, retain=True
    )


def test_all_receivers_at_qos_0_share_the_same_bytes() -> None:
    run = run_of(b"x", b"y", qos=1)
    assert encode_run_qos0(run) is encode_run_qos0(run)


def test_a_plain_frame_is_passed_on_as_it_came() -> None:
    frames = encode_publish("t", b"x") * 3
    assert encode_run_qos0(run_of(b"x", b"x", b"x")) == frames


def test_a_repetition_carries_dup() -> None:
    run = run_of(b"x", qos=2)
    assert encode_run(run, 0, [9], 2, True) == encode_publish(
        "t", b"x", qos=2, packet_id=9, dup=True
    )
    assert encode_run(run, 0, [9], 2, False) == encode_publish("t", b"x", qos=2, packet_id=9)


@pytest.mark.parametrize("size", [0, 1, 120, 127, 128, 16_384, 2_097_152])
def test_payloads_of_any_size_are_framed(size: int) -> None:
    payload = bytes(size)
    run = MessageRun.single(b"t", payload, 1)
    assert encode_run_qos0(run) == encode_publish("t", payload)
    assert encode_run(run, 0, [1], 1, False) == encode_publish("t", payload, qos=1, packet_id=1)


payload_lists = st.one_of(
    st.lists(st.binary(max_size=150), min_size=1, max_size=30),
    st.integers(1, 30).map(lambda count: [b"same size"] * count),
)


@given(payload_lists, st.integers(0, 2), st.booleans(), st.text(min_size=1, max_size=20))
def test_a_run_forwarded_at_qos_0_arrives_as_it_was(
    payloads: list[bytes], qos: int, retain: bool, topic: str
) -> None:
    run = run_of(*payloads, topic=topic, qos=qos, retain=retain)
    wanted = [encode_publish(topic, payload) for payload in payloads]
    assert encode_run_qos0(run) == b"".join(wanted)


@given(payload_lists, st.integers(1, 2), st.booleans(), st.data())
def test_any_part_of_a_run_is_delivered_under_its_packet_ids(
    payloads: list[bytes], qos: int, dup: bool, data: st.DataObject
) -> None:
    run = run_of(*payloads)
    first = data.draw(st.integers(0, len(payloads) - 1))
    count = data.draw(st.integers(1, len(payloads) - first))
    ids = data.draw(st.lists(PACKET_IDS, min_size=count, max_size=count))
    wanted = [
        encode_publish("t", payload, qos=qos, packet_id=packet_id, dup=dup)
        for payload, packet_id in zip(payloads[first:], ids, strict=False)
    ]
    assert encode_run(run, first, ids, qos, dup) == b"".join(wanted)
    assert encode_run(run, first, ids, qos, dup) == b"".join(wanted)


@given(st.sampled_from(Answer), st.lists(PACKET_IDS, max_size=400))
def test_answers_are_read_back_in_order(kind: Answer, ids: list[int]) -> None:
    wanted = [{"packet": kind.name, "packet_id": packet_id} for packet_id in ids]
    assert decoded(encode_answers(kind, ids)) == wanted
