"""What can be read with SQL, in words: a model writes better SQL if it knows the columns."""

import asyncio
from collections.abc import Mapping, Sequence

from monstermq_mcp.groups import Groups
from monstermq_shared.errors import MonsterError
from monstermq_shared.queries.ports import SqlQueries
from monstermq_shared.queries.sql import Column, Table, TableKind

PATIENCE_S = 2.0
"""Seconds that a list of tools waits for a database; it is told without columns then."""

_TABLES_MAX = 20
"""Tables of one kind that are named."""

_EXAMPLES = {
    "POSTGRES": "SELECT topic, avg(payload::float) FROM {archive} WHERE topic LIKE 'rooms/%' AND"
    " time > now() - interval '1 hour' AND jsonb_typeof(payload_json) = 'number' GROUP BY topic;"
    " of a field: avg((payload_json ->> 'temperature')::float)",
    "SQLITE": "SELECT topic, avg(payload_json ->> '$.temperature') FROM {archive} WHERE topic LIKE"
    " 'rooms/%' AND time > strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-1 hour') GROUP BY topic; of"
    " payloads that are bare numbers: avg(CAST(payload AS REAL))",
}
_NOTES = {
    "SQLITE": "time is text such as 2026-01-15T10:30:00.000Z, in UTC: compare it with"
    " strftime('%Y-%m-%dT%H:%M:%fZ', ...), never with datetime(), which has a space for the T."
    " payload is the whole payload as text; a field of it is payload_json ->> '$.field'.",
}
"""What a name and a type do not tell, by the type of the store."""


class TablesText:
    """The sentences about tables and columns, asked for once.

    Args:
        groups: The archive groups, of whose databases it tells.
    """

    def __init__(self, groups: Groups) -> None:
        self._groups = groups
        self._known: dict[int, str] = {}

    async def get(self) -> str:
        """Return what there is; of a database that does not answer soon, that it does not."""
        return "\n".join([await self._of(queries) for queries in self._groups.databases()])

    async def _of(self, queries: SqlQueries) -> str:
        key = id(queries)
        if key not in self._known:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    tables = await queries.tables()
            except (TimeoutError, MonsterError):
                return f"{queries.store_type}: its tables are not known, it does not answer now."
            self._known[key] = _database(queries.store_type, tables)
        return self._known[key]


def _database(store_type: str, tables: Sequence[Table]) -> str:
    """Return the tables of one database; those of one kind have the same columns."""
    alike: dict[tuple[str, tuple[Column, ...]], list[str]] = {}
    for one in tables:
        alike.setdefault((one.kind.value, tuple(one.columns)), []).append(one.name)
    lines = [f"Tables of {store_type}:"]
    told: dict[str, tuple[Column, ...]] = {}
    for (keeps, columns), names in alike.items():
        more = f" and {len(names) - _TABLES_MAX} more" if len(names) > _TABLES_MAX else ""
        listed = f"{', '.join(names[:_TABLES_MAX])}{more}"
        lines.append(f"- {listed}: {keeps}. {_columns(columns, told)}.")
        told[names[0]] = columns
    if store_type in _NOTES:
        lines.append(_NOTES[store_type])
    archive = next((one.name for one in tables if one.kind is TableKind.ARCHIVE), None)
    if archive is not None and store_type in _EXAMPLES:
        lines.append(f"For example: {_EXAMPLES[store_type].format(archive=archive)}")
    return "\n".join(lines)


def _columns(columns: tuple[Column, ...], told: Mapping[str, tuple[Column, ...]]) -> str:
    """Return the columns; what a table has in common with one before is not told again."""
    for name, others in told.items():
        if set(others) <= set(columns):
            more = ", ".join(_column(one) for one in columns if one not in others)
            return f"Columns: those of {name}" + (f", and {more}" if more else "")
    return f"Columns: {', '.join(map(_column, columns))}"


def _column(column: Column) -> str:
    return f"{column.name} {column.type}"
