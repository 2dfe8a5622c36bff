"""Results of the MCP tools over PostgreSQL: within the same bounds as over SQLite."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.mcp_bounds import CALLS, check_bounds, each_fat_character, fat_messages
from tests.support.mcp_server import served
from tests.support.postgres import PostgresServer
from tests.support.postgres_reading import LAST_VALUES, ReadingSite

from monstermq_shared.stores.changes import Commit
from monstermq_shared.testing.builders import ARCHIVE, RETAINED, commit_once

pytestmark = pytest.mark.integration


@pytest.fixture
def site(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[ReadingSite]:
    site = ReadingSite(postgres_server, tmp_path, user="postgres")
    yield site
    site.close()


@each_fat_character
async def test_every_result_stays_within_its_bound(site: ReadingSite, fat: str) -> None:
    archive, values = fat_messages(fat)
    database = await site.open()
    commit = Commit(
        upto=10**9,
        archives={ARCHIVE: archive},
        messages={
            LAST_VALUES: {record.topic: record for record in archive},
            RETAINED: {record.topic: record for record in values},
        },
    )
    await commit_once(database, commit, ARCHIVE, LAST_VALUES, RETAINED)
    await database.close()
    await site.init()

    async with served(site.config) as asked:
        await check_bounds(asked, CALLS)
