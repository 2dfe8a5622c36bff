"""One table of a damaged database, copied into a new one as far as it can be read."""

import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from monstermq_shared.stores.sql import fill_in, load_queries
from monstermq_shared.stores.sqlite.salvage import IntegerKeys, Row, Salvage, TextKeys

QUERIES = load_queries(__package__, "recovery.sql")
POSITION_MAX = 2**63 - 1

_KEY_INDEX = 0
_FAILURES_MAX = 200_000
"""How often a table may be found unreadable: feeling for the next good page has to end."""
_CONSTANTS = {"generation": "1", "partition": "0"}
"""What stands for these columns in tables of schema version 1."""

_TYPES = {"TEXT": str, "BLOB": bytes, "INTEGER": int, "BOOLEAN": int}
Check = Callable[[Any], bool]
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(\d{3})?Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveredTable:
    """What became of a table.

    Attributes:
        name: Its name.
        rows: Rows that were copied.
        lost: Rows that were not, None if their number is not known.
    """

    name: str
    rows: int
    lost: int | None


class _GivenUpError(Exception):
    """A table has been found unreadable too often."""


class TableCopy:
    """Reads the sound rows of a table of the damaged database, and writes them.

    Args:
        damaged: The damaged database.
        new: The new one, where the table is empty.
        name: The table.
        key: The column that orders it.
    """

    def __init__(
        self, damaged: sqlite3.Connection, new: sqlite3.Connection, name: str, key: str
    ) -> None:
        present = _columns_of(damaged, name)
        described = [
            (column, type_name, is_required)
            for column, type_name, is_required in new.execute(QUERIES["columns"], (name,))
            if not present or column in present  # the others get their defaults
        ]
        columns = [column for column, _, _ in described]
        self._checks = [_check_of(*description) for description in described]
        self._queries = fill_in(
            QUERIES,
            {
                "table": name,
                "key": key,
                "columns": ", ".join(columns),
                "values": ", ".join("?" * len(columns)),
                **{
                    column: column if column in present else constant
                    for column, constant in _CONSTANTS.items()
                },
            },
        )
        self._damaged = damaged
        self._new = new
        self._name = name
        self._rows = 0
        self._failures = 0
        self._key_is_text = any(
            column == key and type_name == "TEXT" for column, type_name, _ in described
        )

    def salvage(self, query: str, *further: object, start: int = 0, end: int = POSITION_MAX) -> int:
        """Copy what a query can reach; return how many stretches could not be read.

        Args:
            query: Its name; its first parameters are the key to begin with and the limit.
            further: Its further parameters.
            start: If the key is a number: the first.
            end: If the key is a number: the first beyond.
        """
        if self._given_up:
            return 1

        def fetch(low: object, limit: int) -> list[Row]:
            return self._fetch(self._queries[query], (low, limit, *further))

        if self._key_is_text:
            salvage, first, last = (
                Salvage(fetch, TextKeys(), _KEY_INDEX, self._keep),
                b"",
                b"\xff",
            )
        else:
            keys = IntegerKeys()
            salvage = Salvage(fetch, keys, _KEY_INDEX, self._keep)
            first, last = keys.key(start), keys.key(end)
        try:
            return salvage.read(first, last)
        except _GivenUpError:
            return 1

    def _fetch(self, query: str, parameters: tuple[object, ...]) -> list[Row]:
        try:
            rows: list[Row] = self._damaged.execute(query, parameters).fetchall()
            for row in rows:
                if not all(
                    check(value) for check, value in zip(self._checks, row[1:], strict=True)
                ):
                    raise sqlite3.DataError("a row that makes no sense")
        except sqlite3.Error as exc:
            self._failures += 1
            if self._given_up:
                raise _GivenUpError from exc
            raise
        return rows

    @property
    def _given_up(self) -> bool:
        return self._failures > _FAILURES_MAX

    def _keep(self, rows: Sequence[Row]) -> None:
        without_key = [row[1:] for row in rows]
        self._rows += self._new.executemany(self._queries["put"], without_key).rowcount

    def outcome(self, stretches: int) -> RecoveredTable:
        """Return what became of it, if so many stretches could not be read."""
        try:
            # Where the table has an index, this reads the index.
            ((count,),) = self._damaged.execute(self._queries["count"]).fetchall()
        except sqlite3.Error:
            lost = None if stretches else 0
        else:
            lost = max(0, count - self._rows)
        return RecoveredTable(name=self._name, rows=self._rows, lost=lost)


def _columns_of(damaged: sqlite3.Connection, table: str) -> set[str]:
    """Return the columns of a table of the damaged database, none if they cannot be told."""
    try:
        return {column for column, _, _ in damaged.execute(QUERIES["columns"], (table,))}
    except sqlite3.Error:
        return set()


def _check_of(column: str, type_name: str, is_required: int) -> Check:
    """Return what tells whether a value may stand in the column."""
    expected = _TYPES[type_name]

    def check(value: object) -> bool:
        if value is None:
            return not is_required
        return isinstance(value, expected)

    if column in {"time", "update_time"}:
        return lambda value: check(value) and _TIME.fullmatch(value) is not None
    if column == "information":
        return lambda value: check(value) and _is_json(value)
    return check


def _is_json(text: str) -> bool:
    try:
        return isinstance(orjson.loads(text), Mapping)
    except ValueError:
        return False
