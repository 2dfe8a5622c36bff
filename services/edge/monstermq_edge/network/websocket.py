"""MQTT over WebSocket without a socket: bytes in, MQTT bytes and answers out.

The WebSocket protocol itself is the ``websockets`` library's core without I/O; this module adds
what MQTT asks of it (MQTT 3.1.1 chapter 6) and what a public port needs: bounds, a look at
the page it comes from, and errors that become counters.

No extension is negotiated, permessage-deflate included: a compressed frame can inflate a
thousandfold and costs a window of tens of KiB per connection, while MQTT packets are small and
binary. So what arrives is what the size limit counts, and a frame with the compression bit set
breaks the protocol (1002).
"""

import logging
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus

from websockets.datastructures import Headers
from websockets.exceptions import NegotiationError
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import Event, State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from monstermq_shared.operation.web_origins import OriginPolicy

HANDSHAKE_SIZE_MAX = 16 * 1024
"""Bytes of the request with all its headers; nginx, h11 and Node.js allow 8 to 32 KiB."""

CLOSE_REASON_SIZE_MAX = 123
"""Bytes of text a close frame holds beside its code (RFC 6455, 5.5)."""

USUAL_PATHS = ("/", "/mqtt", "/mqtt/")
"""What clients and other brokers take for granted, so all of it is served unless one is chosen."""

TOLD_PATH = "/mqtt"
"""The one of them that people are told."""

_END_OF_HEADERS = b"\r\n\r\n"

# The driver logs connections in its own words, so of the library only complaints are wanted.
_library_log = logging.getLogger(f"{__name__}.library")
_library_log.setLevel(logging.WARNING)


class WebSocketFault(StrEnum):
    """What a client did wrong, few enough to be a counter's label."""

    NOT_HTTP = "not_http"
    """The first byte begins no HTTP method: mostly MQTT or TLS on a plain WebSocket port."""
    HANDSHAKE_TOO_LARGE = "handshake_too_large"
    """The request is longer than ``HANDSHAKE_SIZE_MAX``, or has too long a line."""
    HANDSHAKE_INVALID = "handshake_invalid"
    """Not a WebSocket upgrade as RFC 6455, 4.2.1 wants it."""
    PATH = "path"
    """An upgrade of another path than ours."""
    ORIGIN = "origin"
    """A web page that is not let in."""
    SUBPROTOCOL = "subprotocol"
    """Neither ``mqtt`` nor ``mqttv3.1`` was offered [MQTT-6.0.0-3]."""
    TEXT_FRAME = "text_frame"
    """A text frame [MQTT-6.0.0-1]."""
    MESSAGE_TOO_BIG = "message_too_big"
    """A message longer than ``message_size_max``, known from its header."""
    PROTOCOL_ERROR = "protocol_error"
    """A frame RFC 6455 forbids."""


_FAULT_OF_CLOSE_CODE: dict[int, WebSocketFault] = {
    CloseCode.UNSUPPORTED_DATA: WebSocketFault.TEXT_FRAME,
    CloseCode.MESSAGE_TOO_BIG: WebSocketFault.MESSAGE_TOO_BIG,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocketSettings:
    """What a WebSocket port accepts.

    Attributes:
        paths: What is served; a query string after it is ignored.
        origins: Which web pages are let in. A request without ``Origin`` does not come from a
            browser and passes: the header protects users of browsers, nobody else.
        message_size_max: Bytes of one WebSocket message, fragments added up. A client may put
            several MQTT packets into one, so leave room beyond the packet limit.
        subprotocols: Names to accept, the preferred one first [MQTT-6.0.0-3].
    """

    paths: tuple[str, ...] = USUAL_PATHS
    origins: OriginPolicy = field(default_factory=OriginPolicy)
    message_size_max: int
    subprotocols: tuple[str, ...] = ("mqtt", "mqttv3.1")


def _refusal(status: HTTPStatus, text: str) -> bytes:
    """Write an HTTP response that ends the connection and says why."""
    body = f"{text}\n".encode()
    headers = Headers(
        [
            ("Connection", "close"),
            ("Content-Length", str(len(body))),
            ("Content-Type", "text/plain; charset=utf-8"),
        ]
    )
    return Response(status.value, status.phrase, headers, body).serialize()


class WebSocketChannel:
    """The server's side of one WebSocket connection.

    After every ``receive`` and ``close`` the caller sends ``data_to_send()``; once ``closing`` is
    true it closes the TCP connection when that is flushed. No call raises whatever the client
    sends. At most one message or one handshake, plus the chunk at hand, is held in memory; what is
    to be sent is never longer than what was received plus one response.

    Attributes:
        closing: The channel has ended: flush, then ``close``, and close the TCP connection. Further
            input is ignored, as RFC 6455, 7.1.7 asks. Where the client has said good-bye, what it
            is still to be told may be framed until then.
        frames: How many frames have come.
        error: What the client did wrong, None while nothing or if the end was a clean one.
        close_reason: A sentence for the log, empty while open.
    """

    __slots__ = (
        "_farewell",
        "_out",
        "_protocol",
        "_request",
        "_settings",
        "close_reason",
        "closing",
        "error",
        "frames",
    )

    def __init__(self, settings: WebSocketSettings) -> None:
        self._settings = settings
        self._request = b""
        self._protocol: ServerProtocol | None = None
        self._out = b""
        self._farewell = b""  # the answer to the client's close frame, until all else is said
        self.frames = 0
        self.closing = False
        self.error: WebSocketFault | None = None
        self.close_reason = ""

    @property
    def open(self) -> bool:
        """Whether the handshake is done and no end is in sight: ``frame`` may be used."""
        return self._protocol is not None

    def receive(self, data: bytes) -> bytes:
        """Take a chunk from the network and return the MQTT bytes in it, possibly none.

        MQTT packets need not be aligned with frames [MQTT-6.0.0-2], so the payloads are simply
        joined. What was valid before an error in the same chunk is returned too: a DISCONNECT
        counts although a broken frame follows it.
        """
        protocol = self._protocol
        if protocol is None:
            if self.closing:
                return b""
            data = self._receive_request(data)
            protocol = self._protocol
            if protocol is None:
                return b""
        protocol.receive_data(data)
        payload = self._unwrap(protocol, protocol.events_received())
        if protocol.state is not State.OPEN:
            self._finish(protocol)
        return payload

    def data_to_send(self) -> bytes:
        """Return, once, what the protocol has to say: handshake response, pongs, close frame."""
        out, self._out = self._out, b""
        if self._protocol is not None:
            out += b"".join(self._protocol.data_to_send())
        return out

    def frame(self, data: bytes) -> bytes:
        """Wrap MQTT bytes into one binary frame, for the caller to write [MQTT-6.0.0-1].

        Returns nothing unless the channel is open: no data may follow our close frame.
        """
        if self._protocol is None and not self._farewell:
            return b""
        return Frame(Opcode.BINARY, data).serialize(mask=False)

    def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """End the channel; the client is told if the handshake was done. Does nothing twice.

        Also to be called when the TCP connection is gone: it frees the memory at once.

        Args:
            code: A close code that may be sent (RFC 6455, 7.4.1): 1000, 1001, 1008, 1011, ...
            reason: Text for the client, cut to what a close frame holds.
        """
        if self.closing:
            self._out += self._farewell
            self._farewell = b""
            return
        if self._protocol is not None:
            text = reason.encode()[:CLOSE_REASON_SIZE_MAX].decode(errors="ignore")
            self._protocol.send_close(code, text)
        self._end(f"closed by the broker with {code:d}: {reason}")

    def _receive_request(self, data: bytes) -> bytes:
        """Collect the handshake request and answer it; return what follows it.

        The library would parse frames right behind the request before it is accepted, and takes
        headers of up to 1 MiB, so it is handed the complete request and nothing else.
        """
        searched = max(0, len(self._request) - len(_END_OF_HEADERS) + 1)
        request = self._request + data
        if request and not request[:1].isupper():
            self._end("the client does not speak HTTP", WebSocketFault.NOT_HTTP)
            return b""
        end = request.find(_END_OF_HEADERS, searched, HANDSHAKE_SIZE_MAX)
        if end >= 0:
            end += len(_END_OF_HEADERS)
            self._request = b""
            self._answer_request(request[:end])
            return request[end:]
        self._request = request
        if len(request) >= HANDSHAKE_SIZE_MAX:
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            text = f"The request is longer than {HANDSHAKE_SIZE_MAX} bytes."
            self._refuse(_refusal(status, text), WebSocketFault.HANDSHAKE_TOO_LARGE)
        return b""

    def _answer_request(self, data: bytes) -> None:
        """Parse a complete request; accept it, or refuse it with an HTTP response."""
        settings = self._settings
        handshake = ServerProtocol(
            subprotocols=[Subprotocol(name) for name in settings.subprotocols],
            logger=_library_log,
        )
        handshake.receive_data(data)
        request = next(iter(handshake.events_received()), None)
        if isinstance(request, Request):
            self._judge(handshake, request)
        else:
            self._refuse_malformed(handshake)
        handshake.parser.close()  # see _end

    def _judge(self, handshake: ServerProtocol, request: Request) -> None:
        """Accept a well-formed request, or refuse it by its path, Origin or subprotocol."""
        settings = self._settings
        if request.path.partition("?")[0] not in settings.paths:
            text = f"MQTT is served at {' and '.join(settings.paths)} (WebSocket.Path)."
            self._refuse(_refusal(HTTPStatus.NOT_FOUND, text), WebSocketFault.PATH)
            return
        for origin in request.headers.get_all("Origin"):
            if not settings.origins.admits(origin):
                response = _refusal(HTTPStatus.FORBIDDEN, settings.origins.refusal(origin))
                self._refuse(response, WebSocketFault.ORIGIN)
                return
        answer = handshake.accept(request)
        if answer.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            self._refuse_handshake(handshake, answer.serialize())
            return
        self._out = answer.serialize()
        # A protocol of its own for the frames: the one of the handshake would keep the request,
        # up to tens of KiB of headers, for as long as the connection lives.
        self._protocol = ServerProtocol(
            state=State.OPEN, max_size=settings.message_size_max, logger=_library_log
        )

    def _refuse_malformed(self, handshake: ServerProtocol) -> None:
        """The library answers overlong lines itself, and hangs up on what is not HTTP at all."""
        response = b"".join(handshake.data_to_send())
        if response:
            self._refuse(response, WebSocketFault.HANDSHAKE_TOO_LARGE)
            return
        response = _refusal(HTTPStatus.BAD_REQUEST, "This is not a valid HTTP request.")
        self._refuse(response, WebSocketFault.HANDSHAKE_INVALID)

    def _refuse_handshake(self, handshake: ServerProtocol, response: bytes) -> None:
        """Send the library's refusal, or a clearer one for the most common mistake."""
        fault = WebSocketFault.HANDSHAKE_INVALID
        if isinstance(handshake.handshake_exc, NegotiationError):
            fault = WebSocketFault.SUBPROTOCOL
            names = " or ".join(self._settings.subprotocols)
            text = f"Offer the subprotocol {names} in Sec-WebSocket-Protocol [MQTT-6.0.0-3]."
            response = _refusal(HTTPStatus.BAD_REQUEST, text)
        self._refuse(response, fault)

    def _refuse(self, response: bytes, fault: WebSocketFault) -> None:
        self._out = response
        head, _, body = response.decode("latin-1").partition("\r\n\r\n")
        status = head.partition("\r\n")[0].removeprefix("HTTP/1.1 ")
        self._end(f"handshake refused with {status}: {body.strip()[:200]}", fault)

    def _unwrap(self, protocol: ServerProtocol, events: list[Event]) -> bytes:
        """Join the payloads of data frames; a text frame fails the connection where it stands."""
        payloads = []
        self.frames += len(events)
        for frame in events:
            assert isinstance(frame, Frame)
            if frame.opcode is Opcode.BINARY or frame.opcode is Opcode.CONT:
                payloads.append(frame.data)
                frame.data = b""  # the library's parser holds the last frame until the next comes
            elif frame.opcode is Opcode.TEXT:
                self.error = WebSocketFault.TEXT_FRAME
                protocol.fail(CloseCode.UNSUPPORTED_DATA, "MQTT needs binary frames")
                break
        return b"".join(payloads)

    def _finish(self, protocol: ServerProtocol) -> None:
        """The close handshake is done, or the client broke the protocol."""
        sent = protocol.close_sent
        assert sent is not None
        fault = self.error
        if fault is None and protocol.parser_exc is not None:
            fault = _FAULT_OF_CLOSE_CODE.get(sent.code, WebSocketFault.PROTOCOL_ERROR)
        who = "failed" if fault else "closed by the client"
        self._end(f"{who} with {sent.code:d}: {sent.reason!r}", fault)
        if fault is None:
            self._farewell, self._out = self._out, b""

    def _end(self, why: str, fault: WebSocketFault | None = None) -> None:
        self._out = self.data_to_send()
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            # The library's parser is a generator that refers to its own object. Ending it lets
            # both go now instead of at the next full garbage collection.
            protocol.parser.close()
        self._request = b""
        self.closing = True
        self.error = fault
        self.close_reason = why
