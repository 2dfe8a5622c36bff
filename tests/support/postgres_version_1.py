"""A PostgreSQL database as releases of schema version 1 have left it."""

from pathlib import Path

from tests.support.postgres_database import connected

SCRIPT = Path(__file__).with_suffix(".sql")

BEGIN = 3 << 40
"""Below the positions in it: those of the third boot."""


async def make_version_1(url: str) -> None:
    """Make its tables and rows in the schema that a URL names."""
    async with connected(url) as connection:
        await connection.execute(SCRIPT.read_text(encoding="utf-8"))
