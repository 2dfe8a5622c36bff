"""The client's half of WebSocket as pure functions, able to say what the standard forbids.

Written without the library the broker uses, so that one does not vouch for the other.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

SAMPLE_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
"""The key of the example in RFC 6455, 1.3."""

SAMPLE_ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""What a server must answer to it."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response, and what came behind it: the body, or WebSocket frames after 101."""

    status: int
    headers: dict[str, str]
    rest: bytes


@dataclass(frozen=True, slots=True)
class ServerFrame:
    """A frame the server sent, always final and unmasked."""

    opcode: int
    payload: bytes


def upgrade_request(
    path: str = "/mqtt",
    *,
    subprotocols: Sequence[str] = ("mqtt",),
    origin: str | None = None,
    method: str = "GET",
    without: str | None = None,
    headers: Sequence[str] = (),
) -> bytes:
    """Write a handshake request; ``without`` leaves out a header, ``headers`` adds whole lines."""
    lines = [
        "Host: broker.example",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {SAMPLE_KEY}",
        "Sec-WebSocket-Version: 13",
        *headers,
    ]
    if subprotocols:
        lines.append(f"Sec-WebSocket-Protocol: {', '.join(subprotocols)}")
    if origin is not None:
        lines.append(f"Origin: {origin}")
    kept = [line for line in lines if line.split(":")[0] != without]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *kept, "", ""]).encode()


def client_frame(
    payload: bytes,
    opcode: int = BINARY,
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = b"\x12\x34\x56\x78",
) -> bytes:
    """Write a frame; ``mask=None`` and ``rsv`` (RSV1 is 4) break the standard on purpose."""
    first = fin << 7 | rsv << 4 | opcode
    masked = 0x80 if mask else 0
    size = len(payload)
    if size < 126:
        header = struct.pack("!BB", first, masked | size)
    elif size < 65536:
        header = struct.pack("!BBH", first, masked | 126, size)
    else:
        header = struct.pack("!BBQ", first, masked | 127, size)
    if mask is None:
        return header + payload
    key = (mask * (size // 4 + 1))[:size]
    hidden = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return header + mask + hidden.to_bytes(size, "big")


def close_frame(code: int, reason: str = "") -> bytes:
    """Write a close frame."""
    return client_frame(struct.pack("!H", code) + reason.encode(), CLOSE)


def read_response(data: bytes) -> HttpResponse:
    """Read an HTTP response whose headers are complete."""
    head, end, rest = data.partition(b"\r\n\r\n")
    assert end, f"no complete response in {data!r}"
    status_line, *lines = head.decode().split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return HttpResponse(int(status_line.split()[1]), headers, rest)


def read_frames(data: bytes) -> list[ServerFrame]:
    """Read whole frames of a server; none may be masked, fragmented or cut."""
    frames = []
    while data:
        first, size = data[0], data[1]
        assert first & 0xF0 == 0x80, "servers send final frames without extension bits"
        assert size < 128, "servers must not mask"
        start = 2
        if size == 126:
            start, size = 4, int.from_bytes(data[2:4], "big")
        elif size == 127:
            start, size = 10, int.from_bytes(data[2:10], "big")
        payload = data[start : start + size]
        assert len(payload) == size, "a frame is cut"
        frames.append(ServerFrame(first & 0x0F, payload))
        data = data[start + size :]
    return frames
