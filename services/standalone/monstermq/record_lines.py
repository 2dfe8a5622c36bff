"""Records as lines: for people, and as JSON that ``replay`` reads again."""

import base64
from collections.abc import Iterator
from typing import BinaryIO

import orjson

from monstermq.log_scan import PositionedEntry
from monstermq.payload_format import PayloadFormat
from monstermq_shared.errors import InvalidRecord, StartupError, UnknownFact
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.operation.logging import escape
from monstermq_shared.records import (
    ControlRecord,
    Record,
    decode_record,
    encode_record,
    format_timestamp,
)

LINE_SIZE_MAX = 384 * 1024 * 1024
"""Bytes of a line: as long as the longest payload of MQTT is in base64."""


def text_line(record: Record, position: str, payload_format: PayloadFormat) -> str:
    """Return a record for people: time, position, topic, QoS and retain flag, payload."""
    when = format_timestamp(record.timestamp_ms)
    where = f"{position:>9}  " if position else ""
    if isinstance(record, ControlRecord):
        return f"{when}  {where}control  {escape(record.payload.decode())}"
    flags = f"{record.qos}{'r' if record.retained else ' '}"
    return (
        f"{when}  {where}{flags}  {escape(record.topic)}  {shown(record.payload, payload_format)}"
    )


def shown(payload: bytes, payload_format: PayloadFormat) -> str:
    """Return a payload on one line, cut if it is long; its own controls cannot reach a terminal."""
    match payload_format:
        case PayloadFormat.HEX:
            return escape(payload.hex())
        case PayloadFormat.BASE64:
            return escape(base64.b64encode(payload).decode())
        case PayloadFormat.JSON:
            return escape(_folded(payload))
        case PayloadFormat.TEXT:
            return escape(payload.decode(errors="replace"))
        case PayloadFormat.AUTO:
            text = _text(payload)
            return escape(payload.hex() if text is None else text)


def _folded(payload: bytes) -> str:
    """Return JSON on one line, without what only makes it readable."""
    try:
        return orjson.dumps(orjson.loads(payload)).decode()
    except orjson.JSONDecodeError:
        return payload.decode(errors="replace")


def _text(payload: bytes) -> str | None:
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def json_line(record: Record) -> bytes:
    """Return a record as its JSON, without an end of line."""
    return encode_record(record)


def standing_line(at: PositionedEntry) -> bytes:
    """Return the JSON as it stands in the log, with its ``position``.

    Raises:
        InvalidRecord, UnknownFact: It is no record.
    """
    record = at.entry.record()
    value: bytes = getattr(at.entry, "value", b"")
    if not value.endswith(b"}") or b"\n" in value or b"\r" in value:
        # Somebody else's way of writing JSON: it has to be one line here.
        value = encode_record(record)
    return b'%b,"position":"%d:%d"}' % (value[:-1], at.partition, at.offset)


def readable(at: PositionedEntry) -> Record | None:
    """Return the record that stands there; None if nobody can read it."""
    try:
        return at.entry.record()
    except (InvalidRecord, UnknownFact):
        return None


def records_in(file: BinaryIO, name: str, size: int) -> Iterator[Record]:
    """Yield the messages of a file of JSON lines; control records are passed over.

    Args:
        file: At its beginning.
        name: For people.
        size: So many bytes of it are read.

    Raises:
        StartupError: A line is no record; the message has its number.
    """
    number = 0
    while line := file.readline(min(LINE_SIZE_MAX, size)):
        number += 1
        size -= len(line)
        if line.isspace():
            continue
        try:
            record = decode_record(line, offset=number)
        except InvalidRecord as exc:
            raise StartupError(f"{name}, line {number}: {exc}", exit_code=ExitCode.FAILURE) from exc
        if not isinstance(record, ControlRecord):
            yield record
