"""Where the numbers of JSON payloads are, as the argument ``field`` names them."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from monstermq_mcp.rendering.bounds import PAYLOAD_MAX
from monstermq_shared.errors import QueryRefused
from monstermq_shared.queries.fields import FieldPath
from monstermq_shared.queries.history import HistoryQuery
from monstermq_shared.queries.ports import ArchiveQueries

_FIELDS_MAX = 10
_DEPTH_MAX = 3
_PATH_LENGTH_MAX = 64
_PLAIN_NAME = re.compile(r'[^."\[\]$\s]+')


async def number_fields(archive: ArchiveQueries, filters: Sequence[str]) -> list[str]:
    """Return the paths of the first numbers in the newest message, none if it is no JSON object.

    Raises:
        QueryError: The newest message cannot be told; the message says why.
        StoreError: The database failed.
    """
    query = HistoryQuery(filters=tuple(filters), limit=1, payload_limit=PAYLOAD_MAX)
    newest = (await archive.history(query)).rows
    return fields_of(newest[0].payload) if newest else []


def fields_of(payload: bytes) -> list[str]:
    """Return the paths of the first numbers in a JSON object, such as ``motor.speed``."""
    try:
        document = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return []
    if not isinstance(document, dict):
        return []
    paths = [path for path in _paths(document, "", _DEPTH_MAX) if _is_path(path)]
    return paths[:_FIELDS_MAX]


def _paths(value: Any, way: str, depth: int) -> Iterator[str]:  # noqa: ANN401 - any JSON
    if isinstance(value, dict) and depth:
        for name, member in value.items():
            step = name if _PLAIN_NAME.fullmatch(name) else f'"{name}"'
            yield from _paths(member, f"{way}.{step}" if way else step, depth - 1)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield way


def _is_path(text: str) -> bool:
    """Tell whether a path can be asked for: some names cannot be written in one."""
    try:
        return len(text) <= _PATH_LENGTH_MAX and FieldPath.parse(text) is not None
    except QueryRefused:
        return False
