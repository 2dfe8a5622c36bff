"""Questions read what they answer with and little more, however many topics there are."""

from collections.abc import AsyncIterator

import pytest
from tests.support.plans import blocks_of, executed, rows_of
from tests.support.postgres import PostgresServer
from tests.support.postgres_database import connected

from monstermq_shared.config.postgres_urls import parse_url
from monstermq_shared.queries.bounds import PAGE_SIZE_MAX
from monstermq_shared.queries.cursors import Cursors
from monstermq_shared.queries.patterns import TopicPattern
from monstermq_shared.queries.topics import NameSearch
from monstermq_shared.stores.postgres.connection import Connection
from monstermq_shared.stores.postgres.database import PostgresDatabase
from monstermq_shared.stores.postgres.queries.archive import NEWEST_FIRST
from monstermq_shared.stores.postgres.queries.asking import IN_ORDER, SEARCHING
from monstermq_shared.stores.postgres.queries.children import Children
from monstermq_shared.stores.postgres.queries.database import PostgresQueries
from monstermq_shared.stores.postgres.queries.filters import Filters
from monstermq_shared.stores.postgres.queries.message_tables import MessageTables
from monstermq_shared.stores.postgres.queries.rows import FIRST, LAST
from monstermq_shared.stores.postgres.queries.values import statements
from monstermq_shared.stores.postgres.search_indexes import index_existing
from monstermq_shared.stores.sql import fill_in
from monstermq_shared.testing.builders import ARCHIVE, LAST_VALUES, RETAINED

pytestmark = pytest.mark.integration

TABLES = MessageTables(retained="retainedmessages", last_values="mcplastval")
COLUMNS = (
    "topic, time, payload_blob, qos, retained, client_id, message_uuid, generation, partition, "
    "position"
)
NAMES = "SELECT number, format('plant/line%s/machine%s', number % 100, number / 100) AS topic"
TOPICS = 30_000
FILL = [
    f"INSERT INTO {table} ({COLUMNS}, topic_digest) SELECT topic, now(), '1', 0, false, '', '', 1, "
    f"0, number, convert_to(topic, 'UTF8') FROM ({NAMES} FROM generate_series(1, {TOPICS}) AS "
    f"number) AS named WHERE number % {every} = 0"
    for table, every in (("retainedmessages", 3), ("mcplastval", 1))
]
HISTORY = (
    f"INSERT INTO mcparchive ({COLUMNS}) SELECT topic, to_timestamp(number), '1', 0, false, '', "
    f"'', 1, 0, number FROM ({NAMES} FROM generate_series(1, 3000) AS number) AS named"
)
PAGE = 100
BLOCKS_MAX = 12 * PAGE


@pytest.fixture(scope="module")
def url(postgres_server: PostgresServer) -> str:
    return postgres_server.url(postgres_server.create_database())


@pytest.fixture
async def filled(url: str) -> AsyncIterator[Connection]:
    """A connection to a database with many topics; its tables are analysed."""
    database = await PostgresDatabase.open(
        parse_url(url),
        session_store=False,
        message_stores=[RETAINED, LAST_VALUES],
        archive_stores=[ARCHIVE],
    )
    await database.close()
    async with connected(url) as connection:
        if not await connection.fetchval("SELECT count(*) FROM mcparchive"):
            for statement in (*FILL, HISTORY, "CREATE EXTENSION pg_trgm"):
                await connection.execute(statement)
            await index_existing(connection, ["retainedmessages", "mcplastval"])
            await connection.execute("ANALYZE")
        yield connection


async def test_a_page_of_a_filter_is_read_from_the_index(filled: Connection) -> None:
    await filled.execute(IN_ORDER)
    filters = Filters(["plant/line7/#"])
    ((low, high),) = filters.ranges()
    bounds = (PAGE, 2048, PAGE_SIZE_MAX)
    _, walk = statements(TABLES)
    found = await executed(filled, walk, low, "", high, filters.expression, *bounds)
    assert max(map(rows_of, found)) <= 2 * PAGE + 2
    assert max(map(blocks_of, found)) <= BLOCKS_MAX


async def test_children_are_found_whatever_is_below_them(filled: Connection) -> None:
    await filled.execute(IN_ORDER)
    hops = Children(TABLES).hops
    found = await executed(filled, hops, "plant/", "plant0", "plant/", PAGE)
    assert max(map(blocks_of, found)) <= BLOCKS_MAX


async def test_a_part_of_a_name_is_found_by_its_index(filled: Connection) -> None:
    await filled.execute(SEARCHING)
    pattern = TopicPattern.containing("e77/machine12").to_like()
    found = await executed(
        filled, "SELECT topic FROM mcplastval WHERE topic ILIKE $1 ORDER BY topic", pattern
    )
    assert {node["Node Type"] for node in found} >= {"Bitmap Index Scan", "Bitmap Heap Scan"}
    assert max(map(blocks_of, found)) < 200


@pytest.mark.parametrize("topics", [["plant/line7/machine3"], ["plant/line7/machine3", "no"]])
async def test_a_history_is_read_from_the_topics_index(
    filled: Connection, topics: list[str]
) -> None:
    await filled.execute(IN_ORDER)
    history = fill_in(NEWEST_FIRST, {"table": "mcparchive"})["of_topics"]
    bounds = (FIRST, LAST, None, None, None, PAGE, 2048, PAGE_SIZE_MAX)
    found = await executed(filled, history, topics, *bounds)
    assert max(map(blocks_of, found)) <= 40


@pytest.mark.parametrize("text", ["line99/", "machine1", "e77/machine12", "9", "nowhere"])
@pytest.mark.parametrize("ignore_case", [True, False])
async def test_all_names_with_a_part_are_found_wherever_they_stand(
    filled: Connection, url: str, text: str, ignore_case: bool
) -> None:
    rows = await filled.fetch("SELECT topic FROM mcplastval")
    expected = sorted(row["topic"] for row in rows if text in row["topic"])
    queries = PostgresQueries(
        parse_url(url), reader=None, readable={}, cursors=Cursors(), timeout_s=20
    )
    topics = queries.topics(retained=RETAINED, last_values=LAST_VALUES)
    found: list[str] = []
    cursor: str | None = None
    while len(found) < 3000:
        search = NameSearch(
            pattern=TopicPattern.containing(text),
            ignore_case=ignore_case,
            limit=1000,
            cursor=cursor,
        )
        page = await topics.find_by_name(search)
        found += [one.topic for one in page.rows]
        cursor = page.cursor_after(len(page.rows))
        if cursor is None:
            break
    assert found == expected[: len(found)]
    assert cursor is not None or len(found) == len(expected)
    await queries.close()
