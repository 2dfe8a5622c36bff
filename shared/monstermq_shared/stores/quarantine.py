"""How much is kept of what stands in a log and is no record.

The newest is kept, because it tells what is going wrong now. What went is counted.
"""

from collections.abc import Sequence
from dataclasses import replace

from monstermq_shared.records import TIMESTAMP_MS_MAX
from monstermq_shared.stores.changes import Quarantined

ROWS_MAX = 1_000
"""Records kept for each partition."""

SIZE_MAX = 8 * 1024 * 1024
"""Bytes of their keys, values and headers kept for each partition."""

VALUE_SIZE_MAX = 256 * 1024
"""Bytes of a value that are kept; of a key, a reason and all headers a 64th of it each."""

_SMALL_SIZE_MAX = VALUE_SIZE_MAX // 64


def cut(record: Quarantined) -> Quarantined:
    """Return what is kept of one: somebody may have written 100 MB, or the year 300,000."""
    headers: list[tuple[str, bytes]] = []
    room = _SMALL_SIZE_MAX
    for name, value in record.headers:
        room -= len(name) * 4 + len(value)
        if room < 0:
            break
        headers.append((_readable(name), value))
    return replace(
        record,
        time_ms=min(max(record.time_ms, 0), TIMESTAMP_MS_MAX),
        reason=_readable(record.reason[: _SMALL_SIZE_MAX // 4]),
        key=record.key[:_SMALL_SIZE_MAX],
        value=record.value[:VALUE_SIZE_MAX],
        headers=tuple(headers),
        size=record.size or len(record.key) + len(record.value),
    )


def kept_size(record: Quarantined) -> int:
    """Return the bytes that are kept of one."""
    headers = sum(len(name) + len(value) for name, value in record.headers)
    return len(record.key) + len(record.value) + headers


def newest(records: Sequence[Quarantined]) -> list[Quarantined]:
    """Return what is kept of the records of one partition, given in order of offset."""
    kept: list[Quarantined] = []
    size = 0
    for record in reversed(records):
        kept.append(cut(record))
        size += kept_size(kept[-1])
        if len(kept) > ROWS_MAX or size > SIZE_MAX:
            kept.pop()
            break
    return kept[::-1]


def _readable(text: str) -> str:
    """Return a text without what a database does not take."""
    return text.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
