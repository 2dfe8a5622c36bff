"""Kinds of tables: how each is made, and what it must look like."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TableKind:
    """Tables that are made, checked and migrated alike.

    Attributes:
        name: What ``monstermq_tables`` calls it.
        create: Statements; ``{table}`` is the name of the table.
        columns: Name -> type, as PostgreSQL writes it.
        key: The columns of the primary key, in order.
    """

    name: str
    create: Sequence[str]
    columns: Mapping[str, str]
    key: Sequence[str]

    def statements(self, table: str) -> list[str]:
        """Return the statements that make a table of that name."""
        return [statement.replace("{table}", table) for statement in self.create]


def columns(text: str) -> dict[str, str]:
    """Read columns from ``name type, name type``."""
    found: dict[str, str] = {}
    for column in text.split(","):
        name, type_name = column.strip().split(" ", 1)
        found[name] = type_name
    return found
