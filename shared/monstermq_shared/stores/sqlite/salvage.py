"""Reading a table that has pages nobody can read: what is before, between and behind them."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Protocol

Row = tuple[Any, ...]
Fetch = Callable[[object, int], list[Row]]

_ROWS_MAX = 256
_PROBES_PER_DOUBLING = 64
_TEXT_SIZE_MAX = 48
_INTEGER_SIZE = 8


class Keys(Protocol):
    """The values of a column as bytes in the same order."""

    def key(self, value: object) -> bytes:
        """Return the key for what stands in the column.

        Raises:
            sqlite3.DataError: No such value can be there in a sound row.
        """
        ...

    def value(self, key: bytes) -> object:
        """Return what a query compares the column with; the key need not be that of a value."""
        ...

    def after(self, key: bytes) -> bytes:
        """Return the smallest key beyond this one."""
        ...

    def precision(self, key: bytes) -> int:
        """Return how many bytes of a key tell it from its neighbours."""
        ...


class IntegerKeys:
    """Keys of a column of integers that are not negative."""

    def key(self, value: object) -> bytes:
        """Return the number, big end first."""
        if not isinstance(value, int) or value < 0:
            raise sqlite3.DataError("not a key of this table")
        return value.to_bytes(_INTEGER_SIZE, "big")

    def value(self, key: bytes) -> int:
        """Return the number, or the greatest that SQLite has."""
        return min(int.from_bytes(key, "big"), 2**63 - 1)

    def after(self, key: bytes) -> bytes:
        """Return the next number."""
        return (int.from_bytes(key, "big") + 1).to_bytes(_INTEGER_SIZE, "big")

    def precision(self, _: bytes) -> int:
        """Return all there are."""
        return _INTEGER_SIZE


class TextKeys:
    """Keys of a text column: UTF-8, which is how SQLite orders them."""

    def key(self, value: object) -> bytes:
        """Return the text's bytes."""
        if not isinstance(value, str):
            raise sqlite3.DataError("not a key of this table")
        return value.encode()

    def value(self, key: bytes) -> bytes:
        """Return the bytes, for a query that casts them to text."""
        return key

    def after(self, key: bytes) -> bytes:
        """Return the text with a NUL more."""
        return key + b"\0"

    def precision(self, key: bytes) -> int:
        """Return one more than it has: its neighbours differ there, or before."""
        return min(len(key) + 1, _TEXT_SIZE_MAX)


class Salvage:
    """Reads the rows of a table in the order of a key, over what cannot be read.

    A bad page loses only its rows. Where the next page begins is not known, so it is felt for in
    steps that grow with the distance: a good page between bad ones is missed only if its keys take
    less room than a 64th of what the bad ones before it take.

    Args:
        fetch: Returns at most so many rows from a value of the key column on, in its order.
        keys: What the keys are.
        key_index: Which column of the rows is the key.
        keep: Takes rows. Its errors are not those of the table, and end the reading.
    """

    def __init__(
        self, fetch: Fetch, keys: Keys, key_index: int, keep: Callable[[Sequence[Row]], None]
    ) -> None:
        self._fetch = fetch
        self._keys = keys
        self._key_index = key_index
        self._keep = keep

    def read(self, start: bytes, end: bytes) -> int:
        """Read what there is between two keys; return how many stretches could not be read.

        ``end`` only says where to stop feeling: ``fetch`` is to return nothing beyond it.
        """
        stretches = 0
        low: bytes | None = start
        while low is not None:
            low = self._read_on(low)
            if low is not None:
                stretches += 1
                low = self._next_readable(low, end)
        return stretches

    def _read_on(self, low: bytes) -> bytes | None:
        """Keep rows up to the end; or return the key from which on nothing can be read."""
        limit = 1
        while True:
            rows = self._try(low, limit)
            if rows is None:
                if limit == 1:
                    return low
                limit = 1  # the good ones among them, one by one
                continue
            self._keep(rows)
            if len(rows) < limit:
                return None
            low = self._keys.after(self._keys.key(rows[-1][self._key_index]))
            limit = min(2 * limit, _ROWS_MAX)

    def _try(self, low: bytes, limit: int) -> list[Row] | None:
        """Return the rows from a key on, None if they cannot be read."""
        try:
            rows = self._fetch(self._keys.value(low), limit)
            keys = [self._keys.key(row[self._key_index]) for row in rows]
        except sqlite3.Error:
            return None
        # A damaged page may hold any keys; taken at their word they could lead round in a circle.
        in_order = all(a < b for a, b in pairwise(keys)) and (not keys or keys[0] >= low)
        return rows if in_order else None

    def _next_readable(self, low: bytes, end: bytes) -> bytes | None:
        """Return the smallest key known from which on rows can be read, None if there is none."""
        size = self._keys.precision(low)
        bad = _number(low, size)
        for probe in _probes(bad, _number(end, size)):
            if self._try(probe.to_bytes(size, "big"), 1) is None:
                bad = probe
                continue
            good = probe
            while good - bad > 1:
                middle = (good + bad) // 2
                if self._try(middle.to_bytes(size, "big"), 1) is None:
                    bad = middle
                else:
                    good = middle
            return good.to_bytes(size, "big")
        return None


def _number(key: bytes, size: int) -> int:
    """Return the first bytes of a key as a number."""
    return int.from_bytes(key[:size].ljust(size, b"\0"), "big")


def _probes(base: int, end: int) -> Iterator[int]:
    """Return numbers beyond ``base``, in steps that grow with the distance."""
    distance = 1
    while base + distance < end:
        yield base + distance
        distance += max(1, distance // _PROBES_PER_DOUBLING)
