"""The version of the schema, and how older ones become this one: forward only."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

VERSION = 1
"""What this release makes and understands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """What one step of the version changes.

    Attributes:
        version: The one it leads to, from the one before.
        once: Statements for the database.
        of_kind: Name of a kind of tables -> statements for each of them; ``{table}`` is its name.
    """

    version: int
    once: Sequence[str] = ()
    of_kind: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def statements(self, tables: Iterable[tuple[str, str]]) -> list[str]:
        """Return all statements for a database with these tables, given as (name, kind)."""
        found = [*self.once]
        for table, kind in tables:
            found += [text.replace("{table}", table) for text in self.of_kind.get(kind, ())]
        return found


MIGRATIONS: Sequence[Migration] = ()
"""In order of version; the last one leads to ``VERSION``."""
