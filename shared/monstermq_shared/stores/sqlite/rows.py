"""Records as rows: what is bound when they are written, and what comes back when they are read."""

import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import orjson

from monstermq_shared.records import Record
from monstermq_shared.stores.sql import load_queries

PAGE_ROWS_MAX = 1024
"""Rows a single statement reads; more are read by several, so that the loop is never held long."""

FRAGMENTS = load_queries(__package__, "fragments.sql")
"""The column lists that ``read_record`` and ``read_page`` read, for use in other statements."""


def message_row(record: Record) -> tuple[object, ...]:
    """Return the columns of message stores and archives, ``topic`` to ``position``."""
    payload = record.payload
    return (
        record.topic,
        time_text(record.timestamp_us),
        payload,
        _is_text(payload),
        record.qos,
        record.retained,
        record.client_id,
        record.id,
        record.offset,
    )


def queue_row(record: Record) -> tuple[object, ...]:
    """Return the columns of ``queuedmessages``."""
    return (
        record.topic,
        time_text(record.timestamp_us),
        record.payload,
        record.qos,
        record.retained,
        record.client_id,
        record.id,
        record.offset,
    )


def time_text(timestamp_us: int) -> str:
    """Write a moment as ``records.format_timestamp`` does, made for one call per row."""
    second, microsecond = divmod(timestamp_us, 1_000_000)
    return f"{_second_text(second)}{microsecond:06d}Z"


def read_record(row: Sequence[Any]) -> Record:
    """Read a row of the fragment ``record``."""
    topic, payload, qos, retained, client_id, timestamp_us, offset, record_id = row
    return Record(topic, payload, qos, bool(retained), client_id, timestamp_us, offset, record_id)


def read_page(row: Sequence[str]) -> list[Record]:
    """Read the row of the fragment ``page``. A payload that was left out is None for now."""
    columns = [orjson.loads(column) for column in row[:8]]
    payloads = [None if text is None else bytes.fromhex(text) for text in columns[1]]
    topics, _, qos, retained, client_ids, times, offsets, ids = columns
    flags = map(bool, retained)
    return list(map(Record, topics, payloads, qos, flags, client_ids, times, offsets, ids))


@lru_cache(maxsize=256)
def _second_text(second: int) -> str:
    moment = time.gmtime(second)
    # Not strftime, which does not fill years up to four digits, and text order is time order.
    return f"{moment.tm_year:04}-{time.strftime('%m-%dT%H:%M:%S.', moment)}"


def _is_text(payload: bytes) -> bool:
    """Tell whether the payload can be shown as text: UTF-8 without NUL, as PostgreSQL's is."""
    if 0 in payload:
        return False
    if payload.isascii():
        return True
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
