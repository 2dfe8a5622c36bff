"""Statements that carry many rows: few round trips, and few distinct texts to prepare."""

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import orjson

_PARAMETERS_MAX = 32_766  # SQLITE_MAX_VARIABLE_NUMBER
_PADDING_MIN = 16


class RowsStatement:
    """``INSERT ... VALUES`` for any number of rows, by as few executions as that takes.

    The driver hands the interpreter lock over several times for every execution, and waits up to
    a switch interval to get it back while the event loop is busy; so rows go by the thousand. And
    it prepares every distinct text, so the number of rows is always a power of two: rows that are
    missing are filled up, with copies of the last one unless something else is given. The statement
    must therefore be one that changes nothing when such a row comes.

    Args:
        query: A statement with ``{rows}`` where its rows belong.
        columns: How many values a row has.
        shared: How many of the first ones are the same in all rows of an execution.
    """

    def __init__(self, query: str, columns: int, *, shared: int = 0) -> None:
        self._query = query
        numbered = [f"?{number}" for number in range(1, shared + 1)]
        self._row = f"({', '.join([*numbered, *'?' * (columns - shared)])})"
        self._rows_max = 1 << ((_PARAMETERS_MAX - shared) // (columns - shared)).bit_length() - 1
        self._texts: dict[int, str] = {}

    def execute(
        self,
        connection: sqlite3.Connection,
        rows: Sequence[Sequence[Any]],
        shared: Sequence[Any] = (),
        filler: Sequence[Any] | None = None,
    ) -> int:
        """Insert the rows, in order; return how many were inserted or replaced.

        Args:
            connection: Where.
            rows: What each row has after the values that all of them share.
            shared: Those.
            filler: What stands for missing rows; None: copies of the last one.
        """
        start = count = 0
        for size in self._sizes(len(rows)):
            part = rows[start : start + size]
            values = [*shared, *chain.from_iterable(part)]
            if len(part) < size:
                values.extend([*(filler or part[-1])] * (size - len(part)))
            count += connection.execute(self._text(size), values).rowcount
            start += size
        return count

    def _sizes(self, count: int) -> Iterator[int]:
        """Split a number into powers of two; the last one may be larger than what is left."""
        padding_max = max(_PADDING_MIN, count // 4)
        while count > 0:
            size = min(1 << (count - 1).bit_length(), self._rows_max)
            if size - count > padding_max:
                size //= 2
            yield size
            count -= size

    def _text(self, size: int) -> str:
        text = self._texts.get(size)
        if text is None:
            text = self._query.replace("{rows}", ", ".join([self._row] * size))
            self._texts[size] = text
        return text


def to_json(value: object) -> str:
    """Write a parameter for a statement that takes all its rows as one JSON text."""
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()
