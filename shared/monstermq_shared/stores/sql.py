"""SQL with names: loaded from ``.sql`` files, for tables whose names have been checked.

A file holds statements under headers of the form ``-- name --``; what follows a header up to the
next one is one statement, comments included. ``{table}`` in it stands for the name of a table.
"""

import re
from collections.abc import Iterable, Mapping
from importlib.resources import files

from monstermq_shared.errors import ConfigError

_HEADER = re.compile(r"^-- (\w+) --$", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_NAME_LENGTH_MAX = 63  # PostgreSQL cuts longer identifiers, so that two groups might share a table


def load_queries(package: str, resource: str) -> Mapping[str, str]:
    """Read the statements of a ``.sql`` file that lies in a package, by name.

    Raises:
        ValueError: Two statements have the same name.
    """
    text = files(package).joinpath(resource).read_text(encoding="utf-8")
    _, *parts = _HEADER.split(text)
    queries: dict[str, str] = {}
    for name, query in zip(parts[::2], parts[1::2], strict=True):
        if name in queries:
            raise ValueError(f"{resource} has two statements called {name}")
        queries[name] = query.strip()
    return queries


def fill_in(queries: Mapping[str, str], values: Mapping[str, str]) -> Mapping[str, str]:
    """Return the statements with every ``{name}`` of ``values`` replaced.

    The values are fragments from a ``.sql`` file, or names that ``table_name`` has returned.
    """

    def fill(query: str) -> str:
        for name, value in values.items():
            query = query.replace(f"{{{name}}}", value)
        return query

    return {name: fill(query) for name, query in queries.items()}


def table_name(store: str) -> str:
    """Return the name of a store's table: the store's in lower case, as in the original.

    Raises:
        ConfigError: The name could mean something else to a database than a name.
    """
    if not _NAME.fullmatch(store) or len(store) > _NAME_LENGTH_MAX:
        raise ConfigError(
            f"ArchiveGroups[].Name: {store[:80]!r} cannot name a table; use letters, digits, _ "
            f"and -, begin with a letter or _, and stay below {_NAME_LENGTH_MAX} characters "
            "together with the suffix Archive or Lastval"
        )
    table = store.lower()
    if table.startswith(("sqlite_", "pg_")):
        raise ConfigError(
            f"ArchiveGroups[].Name: {store!r} begins with a prefix that databases keep to "
            "themselves; choose another name"
        )
    return table


def table_names(stores: Iterable[str], *, reserved: Iterable[str] = ()) -> dict[str, str]:
    """Return each store's table.

    Raises:
        ConfigError: A name is refused by ``table_name``, is reserved, or two stores would share
            a table.
    """
    taken = dict.fromkeys(reserved, "a table of the broker")
    tables: dict[str, str] = {}
    for store in stores:
        table = table_name(store)
        if table in taken:
            raise ConfigError(
                f"ArchiveGroups[].Name: the table {table} of {store!r} is already that of "
                f"{taken[table]}; upper and lower case make no difference, choose another name"
            )
        taken[table] = repr(store)
        tables[store] = table
    return tables
