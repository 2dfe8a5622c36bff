"""Hostile bytes: the decoder answers with packets or an error, and keeps a bounded amount."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from tests.support.mqtt_client_frames import (
    PINGREQ,
    encode_connect,
    encode_publish,
    encode_subscribe,
    encode_unsubscribe,
    frame,
)
from tests.support.vectors import Normalized, load_vectors, normalize

from monstermq_edge.mqtt.decoder import Decoder, DecoderLimits
from monstermq_edge.mqtt.errors import RemoteProtocolError

LIMITS = DecoderLimits(packet_size_max=400, connect_size_max=200, filters_max=4, topic_levels_max=5)
PACKET_IDS = st.sampled_from([0, 1, 2, 255, 256, 65_535])
TOPICS = st.sampled_from(["t", "u", "a/b", "a/c", "a/b/c/d/e/f", "$SYS/x", "a/#", ""])
PAYLOADS = st.one_of(st.sampled_from([b"", b"1234", b"4321"]), st.binary(max_size=160))

publishes = st.builds(
    encode_publish,
    TOPICS,
    PAYLOADS,
    qos=st.integers(0, 2),
    packet_id=st.integers(1, 65_535) | PACKET_IDS,
    retain=st.booleans(),
    dup=st.integers(0, 9).map(lambda roll: roll == 0),
)
same_size_publishes = st.builds(
    lambda qos, ids: b"".join(
        encode_publish("t", b"1234", qos=qos, packet_id=packet_id) for packet_id in ids
    ),
    st.integers(0, 2),
    st.lists(st.integers(0, 65_535), min_size=1, max_size=80),
)
answers = st.builds(
    lambda first, ids: b"".join(
        bytes((first, 2)) + packet_id.to_bytes(2, "big") for packet_id in ids
    ),
    st.sampled_from([0x40, 0x50, 0x62, 0x70]),
    st.lists(st.integers(0, 65_535), min_size=1, max_size=80),
)
rare = st.one_of(
    st.builds(encode_subscribe, PACKET_IDS, st.lists(st.tuples(TOPICS, st.integers(0, 2)))),
    st.builds(encode_unsubscribe, PACKET_IDS, st.lists(TOPICS)),
    st.builds(frame, st.integers(0, 255), st.binary(max_size=20)),
    st.just(PINGREQ),
)
valid_streams = st.lists(st.one_of(publishes, same_size_publishes, answers, rare), max_size=12).map(
    b"".join
)
corpus_streams = st.lists(
    st.sampled_from([vector.wire for vector in load_vectors() if len(vector.wire) < 1_000]),
    max_size=6,
).map(b"".join)


@st.composite
def mutated_streams(draw: st.DrawFn) -> bytes:
    stream = bytearray(draw(st.one_of(valid_streams, corpus_streams)))
    for _ in range(draw(st.integers(0, 4))):
        if stream:
            stream[draw(st.integers(0, len(stream) - 1))] = draw(st.integers(0, 255))
    return bytes(stream)


streams = st.one_of(st.binary(max_size=300), mutated_streams())


def outcome(pieces: list[bytes]) -> tuple[list[Normalized], type[Exception] | None, str | None]:
    decoder = Decoder(LIMITS)
    messages: list[Normalized] = []
    for piece in pieces:
        messages += normalize(decoder.feed(piece))
        assert decoder.pending < LIMITS.packet_size_max
    error = decoder.error
    if error is None:
        return messages, None, None
    assert isinstance(error, RemoteProtocolError)
    assert decoder.pending == 0
    return messages, type(error), error.clause


def split(stream: bytes, points: list[int]) -> list[bytes]:
    bounds = [0, *sorted(min(point, len(stream)) for point in points), len(stream)]
    return [stream[a:b] for a, b in pairwise(bounds)]


@given(st.lists(st.binary(max_size=100), max_size=5))
def test_arbitrary_first_bytes_never_raise(pieces: list[bytes]) -> None:
    outcome(pieces)


@given(st.sampled_from([3, 4, 5, 0x84]), streams, st.lists(st.integers(0, 600), max_size=8))
def test_a_stream_says_the_same_wherever_it_is_split(
    level: int, stream: bytes, points: list[int]
) -> None:
    whole = encode_connect("c", level=level) + stream
    assert outcome(split(whole, points)) == outcome([whole])


@given(streams)
def test_a_stream_says_the_same_byte_by_byte(stream: bytes) -> None:
    whole = encode_connect("c") + stream
    assert outcome([bytes((byte,)) for byte in whole]) == outcome([whole])


@given(st.binary(max_size=200).map(lambda body: frame(0x10, body)), streams)
def test_an_arbitrary_connect_never_raises(connect: bytes, stream: bytes) -> None:
    outcome([connect, stream])


@given(mutated_streams())
def test_a_changed_connect_says_the_same_byte_by_byte(stream: bytes) -> None:
    assert outcome([bytes((byte,)) for byte in stream]) == outcome([stream])
