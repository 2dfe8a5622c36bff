"""Whatever a client sends, the channel does not raise and holds a bounded amount of it."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.websocket_client import (
    BINARY,
    CONTINUATION,
    TEXT,
    client_frame,
    read_response,
    upgrade_request,
)

from monstermq_edge.network.websocket import (
    HANDSHAKE_SIZE_MAX,
    WebSocketChannel,
    WebSocketSettings,
)

MESSAGE_SIZE_MAX = 4000
SETTINGS = WebSocketSettings(message_size_max=MESSAGE_SIZE_MAX)
RESPONSE_SIZE_MAX = 2000
"""A handshake response, or a close frame."""

frames = st.builds(
    client_frame,
    st.binary(max_size=300),
    st.integers(0, 15),
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0, 0, 4, 1]),
    mask=st.sampled_from([b"\x00\x00\x00\x00", b"mask", b"mask", None]),
)


def mutated(wire: bytes, changes: list[tuple[int, int]]) -> bytes:
    """Overwrite bytes; a position is taken modulo the length."""
    changed = bytearray(wire)
    for position, value in changes:
        changed[position % len(changed)] = value
    return bytes(changed)


byte_changes = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=5)


def feed(channel: WebSocketChannel, wire: bytes, chunk_size: int) -> bytes:
    """Feed in chunks; check what must always hold; return all payload."""
    payload = b""
    sent = 0
    received = 0
    for start in range(0, len(wire), chunk_size):
        chunk = wire[start : start + chunk_size]
        ended = channel.closing
        payload += (new := channel.receive(chunk))
        sent += len(channel.data_to_send())
        received += len(chunk)
        assert not (ended and new), "input after the end must be ignored"
        assert not (channel.open and channel.closing)
        assert bool(channel.close_reason) == channel.closing
        assert channel.closing or channel.error is None
        assert sent <= received + RESPONSE_SIZE_MAX
    assert len(payload) <= len(wire)
    return payload


def open_channel() -> WebSocketChannel:
    channel = WebSocketChannel(SETTINGS)
    channel.receive(upgrade_request())
    assert read_response(channel.data_to_send()).status == 101
    return channel


@given(st.binary(max_size=2000), st.integers(1, 500))
def test_arbitrary_bytes_after_a_handshake_do_no_harm(wire: bytes, chunk_size: int) -> None:
    feed(open_channel(), wire, chunk_size)


@given(st.lists(frames, max_size=12), byte_changes, st.integers(1, 500))
def test_mutated_frames_do_no_harm(
    some: list[bytes], changes: list[tuple[int, int]], chunk_size: int
) -> None:
    wire = b"".join(some)
    feed(open_channel(), mutated(wire, changes) if wire else wire, chunk_size)


@given(byte_changes, st.binary(max_size=100), st.integers(1, 500))
def test_mutated_handshakes_do_no_harm(
    changes: list[tuple[int, int]], rest: bytes, chunk_size: int
) -> None:
    feed(WebSocketChannel(SETTINGS), mutated(upgrade_request(), changes) + rest, chunk_size)


@given(st.lists(st.text(max_size=60), max_size=8), st.integers(1, 500))
def test_handshakes_with_arbitrary_header_lines_do_no_harm(
    lines: list[str], chunk_size: int
) -> None:
    names = ["Origin", "Sec-WebSocket-Protocol", "Connection", "Sec-WebSocket-Key", "Upgrade"]
    headers = [f"{names[i % len(names)]}: {line}" for i, line in enumerate(lines)]
    feed(WebSocketChannel(SETTINGS), upgrade_request(headers=headers), chunk_size)


@given(
    st.lists(st.lists(st.binary(max_size=300), min_size=1, max_size=4), max_size=8),
    st.integers(1, 700),
)
def test_valid_messages_arrive_however_they_are_cut(
    messages: list[list[bytes]], chunk_size: int
) -> None:
    wire = upgrade_request()
    for fragments in messages:
        last = len(fragments) - 1
        for i, fragment in enumerate(fragments):
            wire += client_frame(fragment, CONTINUATION if i else BINARY, fin=i == last)
    channel = WebSocketChannel(SETTINGS)
    expected = b"".join(fragment for fragments in messages for fragment in fragments)
    assert feed(channel, wire, chunk_size) == expected
    assert channel.open


@pytest.mark.parametrize(
    ("start", "more"),
    [
        pytest.param(b"GET /" + b"x" * 100, b"x" * 1000, id="endless request line"),
        pytest.param(b"GET /mqtt HTTP/1.1\r\n", b"X: y\r\n" * 200, id="endless headers"),
        pytest.param(b"GET /mqtt HTTP/1.1\r\nX: ", b"x" * 1000, id="endless header"),
        pytest.param(
            upgrade_request() + client_frame(b"", fin=False),
            client_frame(b"", CONTINUATION, fin=False) * 200,
            id="endless empty fragments",
        ),
        pytest.param(
            upgrade_request() + client_frame(b"", fin=False),
            client_frame(b"x" * 1000, CONTINUATION, fin=False),
            id="endless fragments",
        ),
        pytest.param(
            upgrade_request() + b"\x82\xff\x00\x00\x00\x02\x00\x00\x00\x00",
            b"x" * 1000,
            id="a frame of 8 GiB",
        ),
        pytest.param(
            upgrade_request() + client_frame(b"", TEXT), b"x" * 1000, id="more after a failure"
        ),
    ],
)
def test_endless_input_takes_a_bounded_amount_of_memory(start: bytes, more: bytes) -> None:
    channel = WebSocketChannel(SETTINGS)
    tracemalloc.start()
    try:
        channel.receive(start)
        for _ in range(300):
            channel.receive(more)
            channel.data_to_send()
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < HANDSHAKE_SIZE_MAX + MESSAGE_SIZE_MAX
    # Besides what is held: copies while a chunk is handled, and an object per frame in it.
    assert peak < 8 * HANDSHAKE_SIZE_MAX + 200 * 500


def test_an_idle_channel_keeps_neither_its_request_nor_its_last_message() -> None:
    settings = WebSocketSettings(message_size_max=1_000_000)
    request = upgrade_request(headers=[f"X-{i}: {'x' * 100}" for i in range(100)])
    message = client_frame(b"x" * 1_000_000)

    def used_channel() -> WebSocketChannel:
        channel = WebSocketChannel(settings)
        channel.receive(request)
        channel.data_to_send()
        assert len(channel.receive(message)) == 1_000_000
        return channel

    first = used_channel()  # fills the interpreter's free lists, which would be counted below
    tracemalloc.start()
    try:
        second = used_channel()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert first.open
    assert second.open
    assert held < 4000
