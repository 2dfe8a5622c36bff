"""The wire corpus ``tests/vectors/mqtt311``: what codec, connection and socket tests all draw from.

A file is a list of cases:

- ``name``: the outcome in words, unique within its file;
- ``wire``: the bytes, see ``parse_wire``;
- ``first``: true if they are the first a client sends; else a CONNECT of ``level`` (default 4)
  goes before them;
- ``expect``: the packets they hold, normalized as by ``normalize``;
- ``error``: how what follows those is wrong: ``malformed``, ``violation`` or ``too large``;
- ``clause``: the normative statement at issue, and ``reason`` the CONNACK code, if there is one;
- ``limits``: members of ``DecoderLimits`` other than the defaults.

Text in ``expect`` stands for bytes: those that are not UTF-8 are lone surrogates (PEP 383).
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.mqtt_client_frames import encode_connect

from monstermq_edge.mqtt.decoder import DecoderLimits
from monstermq_edge.mqtt.errors import (
    MalformedPacket,
    PacketTooLarge,
    RemoteProtocolError,
)
from monstermq_edge.mqtt.packets import (
    Answers,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Subscribe,
    Unsubscribe,
)
from monstermq_shared.messages import MessageRun

_FOLDER = Path(__file__).parents[1] / "vectors" / "mqtt311"
_TOKEN = re.compile(r"\s*(?:'([^']*)'|([0-9a-f]{2}))(?:\*(\d+))?\s*")
_ERROR_KINDS: dict[str, type[RemoteProtocolError]] = {
    "malformed": MalformedPacket,
    "violation": RemoteProtocolError,
    "too large": PacketTooLarge,
}

Normalized = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """One case of the corpus."""

    file: str
    name: str
    wire: bytes
    expect: list[Normalized]
    error: type[RemoteProtocolError] | None = None
    clause: str | None = None
    reason: int | None = None
    first: bool = False
    level: int = 4
    limits: DecoderLimits = field(default_factory=DecoderLimits)

    @property
    def preamble(self) -> bytes:
        """What a client has sent before: nothing, or its CONNECT."""
        return b"" if self.first else encode_connect("vector", level=self.level)

    def __str__(self) -> str:
        return f"{self.file}: {self.name}"


def load_vectors(*files: str) -> list[Vector]:
    """Load these files of the corpus, named without suffix, or all of them."""
    paths = [_FOLDER / f"{file}.json" for file in files] or sorted(_FOLDER.glob("*.json"))
    return [
        _vector(path.stem, case)
        for path in paths
        for case in json.loads(path.read_text(encoding="utf-8"))
    ]


def parse_wire(text: str) -> bytes:
    """Read bytes written as pairs of hex digits and texts in single quotes.

    Spaces mean nothing; ``*n`` after a pair or a text repeats it.
    """
    wire = b""
    pos = 0
    while pos < len(text):
        token = _TOKEN.match(text, pos)
        if token is None:
            raise ValueError(f"neither hex digits nor a quoted text: {text[pos:]!r}")
        quoted, digits, times = token.groups()
        piece = bytes.fromhex(digits) if quoted is None else quoted.encode()
        wire += piece * int(times or 1)
        pos = token.end()
    return wire


def normalize(packets: Iterable[Packet]) -> list[Normalized]:
    """Write packets as the corpus does: a run as its messages, and answers one by one."""
    return [normalized for packet in packets for normalized in _normalize(packet)]


def _vector(file: str, case: dict[str, Any]) -> Vector:
    values = dict(case)
    values["wire"] = parse_wire(values["wire"])
    values["limits"] = DecoderLimits(**values.get("limits", {}))
    if "error" in values:
        values["error"] = _ERROR_KINDS[values["error"]]
    return Vector(file=file, **values)


def _normalize(packet: Packet) -> list[Normalized]:
    match packet:
        case MessageRun():
            return _normalize_run(packet)
        case Answers(kind=kind, packet_ids=packet_ids):
            return [{"packet": kind.name, "packet_id": packet_id} for packet_id in packet_ids]
        case Connect():
            return [_normalize_connect(packet)]
        case Subscribe(packet_id=packet_id, filters=filters, refused=refused):
            beyond = {"refused": refused} if refused else {}
            pairs = [list(pair) for pair in filters]
            return [{"packet": "SUBSCRIBE", "packet_id": packet_id, "filters": pairs, **beyond}]
        case Unsubscribe(packet_id=packet_id, filters=filters):
            return [{"packet": "UNSUBSCRIBE", "packet_id": packet_id, "filters": list(filters)}]
        case Pingreq() | Disconnect():
            return [{"packet": type(packet).__name__.upper()}]


def _normalize_run(run: MessageRun) -> list[Normalized]:
    packet_ids: Sequence[int | None] = run.packet_ids or [None] * run.count
    return [
        {
            "packet": "PUBLISH",
            "topic": _text(run.topic),
            "payload": _text(payload),
            "qos": run.qos,
            "retain": run.retain,
            "packet_id": packet_id,
        }
        for payload, packet_id in zip(run.payloads, packet_ids, strict=True)
    ]


def _normalize_connect(packet: Connect) -> Normalized:
    will = packet.will
    return {
        "packet": "CONNECT",
        "level": packet.level,
        "bridge": packet.bridge,
        "clean": packet.clean,
        "keep_alive_s": packet.keep_alive_s,
        "client_id": packet.client_id,
        "will": will
        and {
            "topic": will.topic,
            "payload": _text(will.payload),
            "qos": will.qos,
            "retain": will.retain,
        },
        "user_name": packet.user_name,
        "password": None if packet.password is None else _text(packet.password),
    }


def _text(raw: bytes) -> str:
    return raw.decode(errors="surrogateescape")
