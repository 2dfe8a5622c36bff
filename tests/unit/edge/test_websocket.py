"""The WebSocket channel: handshake, frames, ends."""

import gc
import struct
import weakref

import pytest
from tests.support.websocket_client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    SAMPLE_ACCEPT,
    TEXT,
    ServerFrame,
    client_frame,
    close_frame,
    read_frames,
    read_response,
    upgrade_request,
)

from monstermq_edge.network.websocket import (
    HANDSHAKE_SIZE_MAX,
    WebSocketChannel,
    WebSocketFault,
    WebSocketSettings,
)
from monstermq_shared.operation.web_origins import OriginPolicy

SETTINGS = WebSocketSettings(message_size_max=100_000)
SELECTIVE = WebSocketSettings(
    message_size_max=1000, origins=OriginPolicy(admitted={"https://good.example"})
)


def open_channel(settings: WebSocketSettings = SETTINGS) -> WebSocketChannel:
    channel = WebSocketChannel(settings)
    assert channel.receive(upgrade_request()) == b""
    assert read_response(channel.data_to_send()).status == 101
    assert channel.open
    return channel


def assert_refused(
    request: bytes, status: int, fault: WebSocketFault, settings: WebSocketSettings = SETTINGS
) -> str:
    """Send a request that must be refused; return what the client is told."""
    channel = WebSocketChannel(settings)
    assert channel.receive(request) == b""
    response = read_response(channel.data_to_send())
    assert response.status == status
    assert (channel.open, channel.closing, channel.error) == (False, True, fault)
    assert response.headers["connection"] == "close"
    assert int(response.headers["content-length"]) == len(response.rest)
    assert channel.receive(client_frame(b"x")) == b""
    assert channel.data_to_send() == b""
    return response.rest.decode()


def assert_fails(channel: WebSocketChannel, data: bytes, code: int, fault: WebSocketFault) -> None:
    """Send what must end the channel with that close code."""
    assert channel.receive(data) == b""
    *_, last = read_frames(channel.data_to_send())
    assert last.opcode == CLOSE
    assert int.from_bytes(last.payload[:2], "big") == code
    assert (channel.open, channel.closing, channel.error) == (False, True, fault)
    assert str(code) in channel.close_reason
    assert channel.receive(client_frame(b"ignored")) == b""
    assert channel.data_to_send() == b""


class TestHandshake:
    def test_is_answered_as_in_rfc_6455(self) -> None:
        channel = WebSocketChannel(SETTINGS)
        channel.receive(upgrade_request())
        response = read_response(channel.data_to_send())
        assert response.status == 101
        assert response.headers["sec-websocket-accept"] == SAMPLE_ACCEPT
        assert response.headers["sec-websocket-protocol"] == "mqtt"
        assert response.rest == b""

    @pytest.mark.parametrize(
        ("offered", "selected"),
        [
            (["mqtt"], "mqtt"),
            (["mqttv3.1"], "mqttv3.1"),
            (["mqttv3.1", "mqtt"], "mqtt"),
            (["chat", "mqttv3.1"], "mqttv3.1"),
        ],
    )
    def test_selects_a_subprotocol_that_was_offered(
        self, offered: list[str], selected: str
    ) -> None:
        channel = WebSocketChannel(SETTINGS)
        channel.receive(upgrade_request(subprotocols=offered))
        assert read_response(channel.data_to_send()).headers["sec-websocket-protocol"] == selected

    @pytest.mark.parametrize("offered", [[], ["chat"]])
    def test_without_an_mqtt_subprotocol_is_refused_and_says_which(
        self, offered: list[str]
    ) -> None:
        request = upgrade_request(subprotocols=offered)
        told = assert_refused(request, 400, WebSocketFault.SUBPROTOCOL)
        assert "mqtt or mqttv3.1" in told

    def test_compression_is_not_negotiated(self) -> None:
        channel = WebSocketChannel(SETTINGS)
        offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
        channel.receive(upgrade_request(headers=[offer]))
        response = read_response(channel.data_to_send())
        assert response.status == 101
        assert "sec-websocket-extensions" not in response.headers

    @pytest.mark.parametrize("path", ["/", "/mqtt", "/mqtt/", "/?x", "/mqtt/?x"])
    def test_of_a_usual_path_is_accepted(self, path: str) -> None:
        channel = WebSocketChannel(SETTINGS)
        channel.receive(upgrade_request(path))
        assert channel.open

    @pytest.mark.parametrize("path", ["//", "/mqtt//", "/MQTT", "/other", "/mqtt/x", "*"])
    def test_of_another_path_is_refused(self, path: str) -> None:
        told = assert_refused(upgrade_request(path), 404, WebSocketFault.PATH)
        assert told == "MQTT is served at / and /mqtt and /mqtt/ (WebSocket.Path).\n"

    @pytest.mark.parametrize("path", ["/", "/mqtt", "/broker/"])
    def test_of_a_usual_path_is_refused_where_one_is_configured(self, path: str) -> None:
        settings = WebSocketSettings(message_size_max=1000, paths=("/broker",))
        told = assert_refused(upgrade_request(path), 404, WebSocketFault.PATH, settings)
        assert told == "MQTT is served at /broker (WebSocket.Path).\n"

    def test_tolerates_a_query_string(self) -> None:
        channel = WebSocketChannel(SETTINGS)
        channel.receive(upgrade_request("/mqtt?token=1"))
        assert channel.open

    @pytest.mark.parametrize(
        "origin", ["https://evil.example", "http://good.example", "http://broker.example", "null"]
    )
    def test_of_a_page_that_is_not_let_in_is_refused_and_says_which_key_does(
        self, origin: str
    ) -> None:
        """Also if it has the name in the Host header, as after DNS rebinding."""
        assert b"Host: broker.example\r\n" in upgrade_request()
        request = upgrade_request(origin=origin)
        for settings in (SETTINGS, SELECTIVE):
            told = assert_refused(request, 403, WebSocketFault.ORIGIN, settings)
            assert told.startswith("WebSocket.Origins ")
            assert origin in told

    def test_that_is_refused_for_its_page_tells_the_log_the_key(self) -> None:
        channel = WebSocketChannel(SETTINGS)
        channel.receive(upgrade_request(origin="https://evil.example"))
        assert channel.close_reason.startswith(
            "handshake refused with 403 Forbidden: WebSocket.Origins does not admit "
            "https://evil.example: add it there"
        )

    @pytest.mark.parametrize("origin", [None, "http://localhost:9464", "https://good.example"])
    def test_of_our_own_page_a_named_one_or_none_is_accepted(self, origin: str | None) -> None:
        channel = WebSocketChannel(SELECTIVE)
        channel.receive(upgrade_request(origin=origin))
        assert channel.open

    @pytest.mark.parametrize("second", ["http://localhost", "https://evil.example"])
    def test_of_two_pages_at_once_is_refused(self, second: str) -> None:
        channel = WebSocketChannel(SETTINGS)
        request = upgrade_request(origin="http://localhost", headers=[f"Origin: {second}"])
        channel.receive(request)
        assert read_response(channel.data_to_send()).status in {400, 403}
        assert channel.closing

    @pytest.mark.parametrize(
        ("request_bytes", "status"),
        [
            pytest.param(upgrade_request(method="POST"), 405, id="POST"),
            pytest.param(upgrade_request(without="Upgrade"), 426, id="no Upgrade"),
            pytest.param(upgrade_request(without="Connection"), 426, id="no Connection"),
            pytest.param(upgrade_request(without="Sec-WebSocket-Key"), 400, id="no key"),
            pytest.param(upgrade_request(without="Sec-WebSocket-Version"), 400, id="no version"),
            pytest.param(upgrade_request().replace(b"n: 13", b"n: 8"), 400, id="version 8"),
            pytest.param(upgrade_request().replace(b"HTTP/1.1", b"HTTP/1.0"), 505, id="HTTP/1.0"),
            pytest.param(upgrade_request().replace(b"HTTP/1.1", b"HTTP/3"), 400, id="HTTP/3"),
            pytest.param(b"GARBAGE\r\n\r\n", 400, id="garbage"),
            pytest.param(upgrade_request(headers=["no colon"]), 400, id="no colon"),
            pytest.param(upgrade_request(headers=["Content-Length: 5"]), 400, id="a body"),
        ],
    )
    def test_that_breaks_the_standard_is_refused(self, request_bytes: bytes, status: int) -> None:
        assert_refused(request_bytes, status, WebSocketFault.HANDSHAKE_INVALID)

    @pytest.mark.parametrize("first", [b"\x10\x0c\x00\x04MQTT", b"\x16\x03\x01\x02\x00"])
    def test_of_mqtt_or_tls_spoken_to_the_port_ends_at_the_first_byte(self, first: bytes) -> None:
        channel = WebSocketChannel(SETTINGS)
        channel.receive(first[:1])
        assert (channel.closing, channel.error) == (True, WebSocketFault.NOT_HTTP)
        assert channel.data_to_send() == b""

    def test_without_an_end_is_refused_at_the_bound(self) -> None:
        channel = WebSocketChannel(SETTINGS)
        sent = channel.receive(b"GET /mqtt HTTP/1.1\r\n")
        line = b"X-Padding: " + b"x" * 87 + b"\r\n"
        received = 20
        while not channel.closing:
            assert received <= HANDSHAKE_SIZE_MAX, "the request is collected beyond the bound"
            sent = channel.receive(line)
            received += len(line)
        assert sent == b""
        assert channel.error == WebSocketFault.HANDSHAKE_TOO_LARGE
        assert read_response(channel.data_to_send()).status == 431

    def test_that_is_too_long_is_refused_also_if_it_arrives_whole(self) -> None:
        padding = [f"X-{i}: {'x' * 4000}" for i in range(5)]
        request = upgrade_request(headers=padding)
        assert_refused(request, 431, WebSocketFault.HANDSHAKE_TOO_LARGE)

    @pytest.mark.parametrize(
        ("request_bytes", "status"),
        [
            pytest.param(upgrade_request("/" + "x" * 9000), 414, id="path"),
            pytest.param(upgrade_request(headers=["X: " + "x" * 9000]), 431, id="header"),
            pytest.param(upgrade_request(headers=["X: y"] * 200), 431, id="count"),
        ],
    )
    def test_with_too_long_a_line_or_too_many_is_refused(
        self, request_bytes: bytes, status: int
    ) -> None:
        assert_refused(request_bytes, status, WebSocketFault.HANDSHAKE_TOO_LARGE)

    def test_and_first_frames_may_come_in_one_chunk(self) -> None:
        channel = WebSocketChannel(SETTINGS)
        frames = client_frame(b"beat", PING) + client_frame(b"\x10\x00") + client_frame(b"\xc0\x00")
        assert channel.receive(upgrade_request() + frames) == b"\x10\x00\xc0\x00"
        response = read_response(channel.data_to_send())
        assert response.status == 101
        assert read_frames(response.rest) == [ServerFrame(PONG, b"beat")]

    def test_and_frames_may_come_byte_by_byte(self) -> None:
        channel = WebSocketChannel(SETTINGS)
        wire = upgrade_request() + client_frame(b"\xc0\x00") + client_frame(b"y" * 200)
        payload = b"".join(channel.receive(wire[i : i + 1]) for i in range(len(wire)))
        assert payload == b"\xc0\x00" + b"y" * 200
        assert read_response(channel.data_to_send()).rest == b""


class TestReceivedFrames:
    def test_carry_packets_across_frames_and_several_in_one(self) -> None:
        channel = open_channel()
        assert channel.receive(client_frame(b"\xc0\x00\xc0") + client_frame(b"\x00\xc0\x00")) == (
            b"\xc0\x00\xc0\x00\xc0\x00"
        )

    @pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 100_000])
    def test_of_every_size_arrive(self, size: int) -> None:
        channel = open_channel()
        assert channel.receive(client_frame(b"z" * size)) == b"z" * size

    def test_in_fragments_with_a_ping_between_are_joined(self) -> None:
        channel = open_channel()
        wire = (
            client_frame(b"\xc0", fin=False)
            + client_frame(b"?", PING)
            + client_frame(b"\x00", CONTINUATION, fin=False)
            + client_frame(b"\xc0\x00", CONTINUATION)
        )
        assert channel.receive(wire) == b"\xc0\x00\xc0\x00"
        assert read_frames(channel.data_to_send()) == [ServerFrame(PONG, b"?")]

    def test_of_text_are_refused(self) -> None:
        text = client_frame(b"hello", TEXT)
        assert_fails(open_channel(), text, 1003, WebSocketFault.TEXT_FRAME)

    def test_of_fragmented_text_are_refused_at_the_first_fragment(self) -> None:
        text = client_frame(b"hello", TEXT, fin=False)
        assert_fails(open_channel(), text, 1003, WebSocketFault.TEXT_FRAME)

    def test_before_a_text_frame_count_and_those_after_it_do_not(self) -> None:
        channel = open_channel()
        wire = client_frame(b"before") + client_frame(b"", TEXT) + client_frame(b"after")
        assert channel.receive(wire) == b"before"
        assert channel.error == WebSocketFault.TEXT_FRAME

    def test_of_text_count_as_text_although_a_close_frame_follows(self) -> None:
        channel = open_channel()
        assert channel.receive(client_frame(b"", TEXT) + close_frame(4000)) == b""
        assert channel.error == WebSocketFault.TEXT_FRAME

    @pytest.mark.parametrize(
        ("data", "code"),
        [
            pytest.param(client_frame(b"x", mask=None), 1002, id="unmasked"),
            pytest.param(client_frame(b"x", rsv=4), 1002, id="compressed"),
            pytest.param(client_frame(b"x", rsv=1), 1002, id="reserved bit"),
            pytest.param(client_frame(b"x", 0x3), 1002, id="unknown opcode"),
            pytest.param(client_frame(b"x", PING, fin=False), 1002, id="fragmented ping"),
            pytest.param(client_frame(b"x" * 126, PING), 1002, id="long ping"),
            pytest.param(client_frame(b"x", CONTINUATION), 1002, id="nothing to continue"),
            pytest.param(client_frame(b"x", CLOSE), 1002, id="half a close code"),
            pytest.param(close_frame(1005), 1002, id="forbidden close code"),
            pytest.param(client_frame(b"\x03\xe8\xff", CLOSE), 1007, id="close reason not UTF-8"),
        ],
    )
    def test_that_break_the_standard_end_the_channel(self, data: bytes, code: int) -> None:
        assert_fails(open_channel(), data, code, WebSocketFault.PROTOCOL_ERROR)

    @pytest.mark.parametrize("second", [client_frame(b"b"), close_frame(1000)])
    def test_that_leave_a_fragmented_message_unfinished_end_the_channel(
        self, second: bytes
    ) -> None:
        channel = open_channel()
        assert channel.receive(client_frame(b"a", fin=False)) == b"a"
        assert_fails(channel, second, 1002, WebSocketFault.PROTOCOL_ERROR)

    def test_that_promise_eight_gigabytes_are_refused_by_their_header(self) -> None:
        header = struct.pack("!BBQ", 0x82, 0xFF, 8 << 30)
        assert_fails(open_channel(), header, 1009, WebSocketFault.MESSAGE_TOO_BIG)

    def test_beyond_the_message_size_are_refused(self) -> None:
        frame = client_frame(b"x" * 100_001)
        assert_fails(open_channel(), frame, 1009, WebSocketFault.MESSAGE_TOO_BIG)

    def test_in_fragments_beyond_the_message_size_are_refused(self) -> None:
        channel = open_channel()
        assert len(channel.receive(client_frame(b"x" * 60_000, fin=False))) == 60_000
        more = client_frame(b"x" * 60_000, CONTINUATION, fin=False)
        assert_fails(channel, more, 1009, WebSocketFault.MESSAGE_TOO_BIG)

    def test_of_valid_messages_count_although_a_broken_one_follows(self) -> None:
        channel = open_channel()
        assert channel.receive(client_frame(b"\xe0\x00") + b"\xff\xff") == b"\xe0\x00"
        assert channel.error == WebSocketFault.PROTOCOL_ERROR

    def test_of_ping_are_answered_and_of_pong_are_not(self) -> None:
        channel = open_channel()
        assert channel.receive(client_frame(b"a", PING) + client_frame(b"b", PONG)) == b""
        assert read_frames(channel.data_to_send()) == [ServerFrame(PONG, b"a")]


class TestSentFrames:
    @pytest.mark.parametrize("size", [0, 2, 125, 126, 65535, 65536, 1_000_000])
    def test_hold_the_bytes_whole_and_unmasked(self, size: int) -> None:
        channel = open_channel()
        assert read_frames(channel.frame(b"m" * size)) == [ServerFrame(BINARY, b"m" * size)]

    def test_are_not_made_before_the_handshake_nor_after_the_end(self) -> None:
        channel = WebSocketChannel(SETTINGS)
        assert channel.frame(b"early") == b""
        channel.receive(upgrade_request())
        assert channel.frame(b"now") != b""
        channel.receive(close_frame(1000))
        assert channel.frame(b"still owed") != b""
        channel.close()
        assert channel.frame(b"late") == b""


class TestEnd:
    @pytest.mark.parametrize("code", [1000, 1001, 3999, 4999])
    def test_by_the_client_is_echoed_and_no_error(self, code: int) -> None:
        channel = open_channel()
        assert channel.receive(client_frame(b"\xe0\x00") + close_frame(code, "bye")) == b"\xe0\x00"
        assert channel.data_to_send() == b""  # not before all that is owed is said
        assert channel.close_reason
        channel.close()
        (answer,) = read_frames(channel.data_to_send())
        assert answer == ServerFrame(CLOSE, struct.pack("!H", code) + b"bye")
        assert (channel.open, channel.closing, channel.error) == (False, True, None)
        assert str(code) in channel.close_reason

    def test_by_the_client_without_a_code_is_echoed(self) -> None:
        channel = open_channel()
        channel.receive(client_frame(b"", CLOSE))
        channel.close()
        assert read_frames(channel.data_to_send()) == [ServerFrame(CLOSE, b"")]
        assert channel.error is None

    def test_by_the_broker_tells_the_client_and_ignores_what_follows(self) -> None:
        channel = open_channel()
        channel.close(1001, "the broker stops")
        (frame,) = read_frames(channel.data_to_send())
        assert frame == ServerFrame(CLOSE, struct.pack("!H", 1001) + b"the broker stops")
        assert (channel.open, channel.closing, channel.error) == (False, True, None)
        assert channel.receive(client_frame(b"late")) == b""

    def test_keeps_what_was_still_to_be_sent(self) -> None:
        channel = open_channel()
        channel.receive(client_frame(b"a", PING))
        channel.close()
        pong, close = read_frames(channel.data_to_send())
        assert (pong.opcode, close.opcode) == (PONG, CLOSE)

    def test_with_a_long_reason_is_cut_between_characters(self) -> None:
        channel = open_channel()
        channel.close(1011, "é" * 100)
        (frame,) = read_frames(channel.data_to_send())
        assert frame.payload[2:].decode() == "é" * 61

    def test_before_the_handshake_says_nothing(self) -> None:
        channel = WebSocketChannel(SETTINGS)
        channel.close(1001)
        assert channel.data_to_send() == b""
        assert channel.closing
        assert channel.receive(upgrade_request()) == b""
        assert not channel.open

    def test_counts_once(self) -> None:
        channel = open_channel()
        channel.receive(client_frame(b"", TEXT))
        channel.data_to_send()
        channel.close(1000, "again")
        assert channel.data_to_send() == b""
        assert "1003" in channel.close_reason

    def test_frees_the_protocol_without_the_garbage_collector(self) -> None:
        channel = open_channel()
        assert channel._protocol is not None
        protocol = weakref.ref(channel._protocol)
        assert protocol() is not None
        gc.disable()
        try:
            channel.close()
            assert protocol() is None
        finally:
            gc.enable()
