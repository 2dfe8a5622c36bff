"""A PostgreSQL database as releases of schema version 2 have left it, on Kafka."""

from pathlib import Path

from tests.support.postgres_database import connected

from monstermq_shared.positions import Partition

SCRIPT = Path(__file__).with_suffix(".sql")

BUS = Partition("kafka:Zm9v:monstermq", 3)
SESSIONS = Partition("kafka:Zm9v:monstermq-sessions", 7)
"""The partitions whose rows it has."""


async def make_version_2(url: str) -> None:
    """Make its tables and rows in the schema that a URL names."""
    async with connected(url) as connection:
        await connection.execute(SCRIPT.read_text(encoding="utf-8"))
