"""Records as rows: what is bound when they are written, and what comes back when they are read."""

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Any

import orjson

from monstermq_shared.records import Record, size_of
from monstermq_shared.stores.sql import load_queries

PAGE_ROWS_MAX = 1024
"""Rows a single statement reads; more are read by several, so that the loop is never held long."""

Fetch = Callable[[int], Awaitable[Record | None]]
"""Returns a record of a page with all there is, by its index; None if it has gone meanwhile."""

FRAGMENTS = load_queries(__package__, "fragments.sql")
"""The column lists that ``read_record`` and ``read_page`` read, for use in other statements."""


def message_row(record: Record) -> tuple[object, ...]:
    """Return the columns of message stores and archives, from ``topic`` to ``position``."""
    payload = record.payload
    return (
        record.topic,
        time_text(record.timestamp_ms),
        payload,
        _is_text(payload),
        record.qos,
        record.retained,
        record.client_id,
        record.id,
        record.offset,
    )


def queue_row(record: Record) -> tuple[object, ...]:
    """Return the columns of ``queuedmessages``, from ``topic`` to ``position``."""
    return (
        record.topic,
        time_text(record.timestamp_ms),
        record.payload,
        record.qos,
        record.retained,
        record.client_id,
        record.id,
        record.offset,
    )


@lru_cache(maxsize=1024)
def time_text(timestamp_ms: int) -> str:
    """Write a moment as ``records.format_timestamp`` does, but for one call per row.

    Remembered, since what arrives together has one timestamp, and may go to several tables.
    """
    second, millisecond = divmod(timestamp_ms, 1000)
    return f"{_second_text(second)}{millisecond:03d}Z"


def read_record(row: Sequence[Any]) -> Record:
    """Read a row of the fragment ``record``."""
    topic, payload, qos, retained, client_id, timestamp_ms, offset, record_id = row
    return Record(topic, payload, qos, bool(retained), client_id, timestamp_ms, offset, record_id)


def read_page(row: Sequence[str]) -> tuple[list[Record], list[int]]:
    """Read the row of the fragment ``page``.

    Returns:
        The records, and the indexes of those of which something was left out, for ``Page.add``.
        A topic that was left out is empty, which no topic is.
    """
    topics, texts, qos, retained, client_ids, times, offsets, ids = map(orjson.loads, row[:8])
    left_out: set[int] = set()
    for column in (topics, texts, client_ids):
        if None in column:
            missing = [index for index, text in enumerate(column) if text is None]
            left_out.update(missing)
            for index in missing:
                column[index] = ""
    payloads = map(bytes.fromhex, texts)
    flags = map(bool, retained)
    records = list(map(Record, topics, payloads, qos, flags, client_ids, times, offsets, ids))
    return records, sorted(left_out)


class Page:
    """A page that is being filled, by as many statements as it takes.

    Args:
        limit: Records it holds at most.
        size_max: Bytes of records (``size_of``) after which it takes no more.

    Attributes:
        records: What it holds so far, in order.
    """

    def __init__(self, limit: int, size_max: int) -> None:
        self.records: list[Record] = []
        self._limit = limit
        self._size_max = size_max
        self._size = 0

    @property
    def rows_max(self) -> int:
        """How many rows the next statement may read: 0 if the page is full."""
        if self.records and self._size >= self._size_max:
            return 0
        return min(self._limit - len(self.records), PAGE_ROWS_MAX)

    async def add(self, records: Sequence[Record], left_out: Sequence[int], fetch: Fetch) -> int:
        """Take what ``read_page`` returned, until the page is full.

        Args:
            records: No more than ``rows_max``, which must not be 0.
            left_out: Indexes of those that are still to be fetched.
            fetch: Fetches them.

        Returns:
            How many it looked at; fewer than all only if the size was reached.
        """
        missing = set(left_out)
        for index, record in enumerate(records):
            found = await fetch(index) if index in missing else record
            if found is None:
                continue
            self.records.append(found)
            self._size += size_of(found)
            if self._size >= self._size_max:
                return index + 1
        return len(records)


def time_prefix(timestamp_ms: int) -> str:
    """Return a text below every time of that millisecond, and above all earlier ones.

    Rows of releases before November 2026 have six digits, so the same millisecond has several
    texts; the greatest of them is ``time_text``.
    """
    return time_text(timestamp_ms)[:-1]


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
