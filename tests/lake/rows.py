"""Tables of messages as different tools make them, and what has to stand in them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from pyarrow import parquet
from tests.support.log_reading import Row


def rows_in(file: Path) -> list[tuple[Any, ...]]:
    """Return the messages in a Parquet file, or in those of a folder, see ``rows_of``."""
    return rows_of(parquet.read_table(file).to_pylist())


def rows_of(rows: Sequence[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Return messages sorted; times in milliseconds.

    Args:
        rows: The columns of each by name.
    """
    return sorted(
        (
            _text(row["topic"]),
            row["bytes"],
            (row["timestamp"] - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1),
            row["qos"],
            row["retained"],
            _text(row["clientId"]),
            _text(row["id"]),
        )
        for row in rows
    )


def expected_of(messages: Sequence[Row]) -> list[tuple[Any, ...]]:
    """Return what ``rows_of`` has to be."""
    return sorted(
        (
            row.topic,
            row.payload,
            row.time_ms,
            row.qos,
            row.retained,
            row.client_id,
            row.uuid,
        )
        for row in messages
    )


def _text(value: str | bytes | UUID) -> str:
    """Return a text as it is; ClickHouse has bytes for texts, and some have a type for ids."""
    return value.decode() if isinstance(value, bytes) else str(value)
