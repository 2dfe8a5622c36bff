"""What the tests of the tools share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.mcp_server import Asked, configured, fill, served

from monstermq_shared.testing.builders import NOON_MS, make_record

ROOMS = ("bath", "hall", "kitchen")
"""Each has a temperature every minute of the day from noon on: its place in here, plus the hour."""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Where the database is."""
    return tmp_path / "monstermq.db"


@pytest.fixture
async def rooms(database: Path) -> AsyncIterator[Asked]:
    """A client of a server whose database has a day of rooms."""
    archive = [
        make_record(
            minute * len(ROOMS) + place,
            f"rooms/{room}/temperature",
            str(place * 100 + minute // 60).encode(),
            timestamp_ms=NOON_MS + minute * 60_000,
            retained=False,
        )
        for minute in range(24 * 60)
        for place, room in enumerate(ROOMS)
    ]
    described = make_record(
        len(archive),
        "rooms/bath/temperature/<config>",
        b'{"Description": "Warmth of the bath, in degrees Celsius"}',
        timestamp_ms=NOON_MS,
    )
    await fill(database, archive=archive, values=[described])
    async with served(configured(database)) as asked:
        yield asked
