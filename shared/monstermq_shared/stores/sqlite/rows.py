"""Records as rows: what is bound when they are written, and what comes back when they are read."""

import time
from collections.abc import Awaitable, Callable, Sequence
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


@lru_cache(maxsize=1024)
def time_text(timestamp_us: int) -> str:
    """Write a moment as ``records.format_timestamp`` does, but for one call per row.

    Remembered, since what arrives together has one timestamp, and may go to several tables.
    """
    second, microsecond = divmod(timestamp_us, 1_000_000)
    return f"{_second_text(second)}{microsecond:06d}Z"


def read_record(row: Sequence[Any]) -> Record:
    """Read a row of the fragment ``record``."""
    topic, payload, qos, retained, client_id, timestamp_us, offset, record_id = row
    return Record(topic, payload, qos, bool(retained), client_id, timestamp_us, offset, record_id)


def read_page(row: Sequence[str]) -> tuple[list[Record], list[int]]:
    """Read the row of the fragment ``page``.

    Returns:
        The records, and the indexes of those whose payload was left out, for ``complete``.
    """
    topics, texts, qos, retained, client_ids, times, offsets, ids = map(orjson.loads, row[:8])
    left_out = [index for index, text in enumerate(texts) if text is None]
    for index in left_out:
        texts[index] = ""
    payloads = map(bytes.fromhex, texts)
    flags = map(bool, retained)
    records = list(map(Record, topics, payloads, qos, flags, client_ids, times, offsets, ids))
    return records, left_out


async def complete(
    records: list[Record],
    left_out: Sequence[int],
    fetch: Callable[[Record], Awaitable[Record | None]],
) -> None:
    """Replace the records whose payload was left out; remove those that have gone meanwhile."""
    for index in reversed(left_out):
        record = await fetch(records[index])
        if record is None:
            del records[index]
        else:
            records[index] = record


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
