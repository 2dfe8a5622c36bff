"""Which tables of a database file are ours."""

import sqlite3
from collections.abc import Iterable

from monstermq_shared.errors import ConfigError
from monstermq_shared.stores.sql import load_queries, table_name

_QUERIES = load_queries(__package__, "tables.sql")


def tables_in(connection: sqlite3.Connection) -> set[str]:
    """Return the names of all tables."""
    return {name for (name,) in connection.execute(_QUERIES["tables"])}


def message_tables_in(connection: sqlite3.Connection) -> list[str]:
    """Return the tables of message stores and archives, by what columns they have."""
    return _ours(name for (name,) in connection.execute(_QUERIES["message_tables"]))


def holds_one_partition(connection: sqlite3.Connection) -> bool:
    """Tell whether a table has the position as its key, as those of schema version 1."""
    return bool(connection.execute(_QUERIES["position_is_key"]).fetchall())


def is_table_name(name: str) -> bool:
    """Tell whether a store's table can have the name."""
    try:
        return table_name(name) == name
    except ConfigError:
        return False


def _ours(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if is_table_name(name))
