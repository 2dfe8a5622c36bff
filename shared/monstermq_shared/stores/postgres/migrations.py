"""The version of the schema, and how older ones become this one: forward only."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

VERSION = 4
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


MIGRATIONS: Sequence[Migration] = (
    Migration(
        version=2,
        once=[
            'ALTER TABLE watermarks ADD COLUMN log_id text COLLATE "C", '
            'ADD COLUMN last_id text COLLATE "C", ADD COLUMN runs json',
        ],
        of_kind={
            # One log had one partition, and mostly the first number: that rewrites nothing.
            "sessions": [
                'ALTER TABLE "{table}" ADD COLUMN generation smallint NOT NULL DEFAULT 1, '
                "ADD COLUMN partition integer NOT NULL DEFAULT 0, ADD COLUMN epoch bigint, "
                "ADD COLUMN run text COLLATE \"C\" NOT NULL DEFAULT ''",
                'UPDATE "{table}" SET generation = number FROM monstermq_meta '
                "JOIN generations ON generations.generation = monstermq_meta.generation "
                "WHERE number <> 1",
            ]
        },
    ),
    Migration(
        version=3,
        once=["ALTER TABLE watermarks ADD COLUMN skips json"],
        of_kind={
            "sessions": ['ALTER TABLE "{table}" ADD COLUMN sent json'],
            "open_ids": [
                'ALTER TABLE "{table}" ADD COLUMN client_id text COLLATE "C", '
                "ADD COLUMN epoch bigint",
            ],
            "inflight": [
                'ALTER TABLE "{table}" ALTER COLUMN partition DROP NOT NULL, '
                "ALTER COLUMN position DROP NOT NULL, ALTER COLUMN state DROP NOT NULL",
            ],
        },
    ),
    Migration(version=4, once=["ALTER TABLE watermarks ADD COLUMN began bigint"]),
)
"""In order of version; the last one leads to ``VERSION``."""
