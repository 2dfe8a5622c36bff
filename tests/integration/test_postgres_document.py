"""docs/postgres.md, taken at its word: its SQL prepares a server, lets readers in and monitors."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.integration.observing import until_ready
from tests.support.broker import LOOPBACK
from tests.support.load import Cast
from tests.support.newcomer import Newcomer, leave_traces
from tests.support.postgres import PostgresServer
from tests.support.repository import ROOT

from monstermq_shared.exit_codes import ExitCode

pytestmark = pytest.mark.integration

TEXT = (ROOT / "docs" / "postgres.md").read_text(encoding="utf-8")
OWNER, DATABASE, SCHEMA, PASSWORD = "monstermq", "monster", "monstermq", "choose one"

Start = Callable[[str], Newcomer]


def statements(beginning: str) -> list[str]:
    """Return the statements of the block that begins so."""
    blocks = re.findall(r"^```sql\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    (block,) = (block for block in blocks if block.startswith(beginning))
    return [statement.strip() for statement in block.split(";") if statement.strip()]


@pytest.fixture
def start(tmp_path: Path, own_postgres: PostgresServer) -> Iterator[Start]:
    """Starts the example on a database of that server, as the document's role."""
    opened: list[Newcomer] = []

    def on(database: str) -> Newcomer:
        variables = {
            "MONSTERMQ_POSTGRES__URL": (
                f"jdbc:postgresql://{LOOPBACK}:{own_postgres.port}/{database}"
            ),
            "MONSTERMQ_POSTGRES__USER": OWNER,
            "MONSTERMQ_POSTGRES__PASS": PASSWORD,
        }
        example = ROOT / "examples" / "config-postgres.yaml"
        newcomer = Newcomer(tmp_path, config=example, variables=variables)
        opened.append(newcomer)
        newcomer.run()
        return newcomer

    yield on
    for newcomer in opened:
        newcomer.close()


async def test_the_broker_runs_on_what_the_document_makes_and_readers_only_read(
    start: Start, own_postgres: PostgresServer, cast: Cast
) -> None:
    server = own_postgres
    server.psql(*statements("CREATE ROLE monstermq"))
    newcomer = start(DATABASE)
    await until_ready(newcomer, 200)
    await leave_traces(newcomer, cast)
    server.psql(*statements("CREATE ROLE reader"), database=DATABASE)
    read = "SELECT count(*) FROM mcparchive WHERE topic = 'tour/values'"
    assert server.psql("SET ROLE reader", read, database=DATABASE) == "3"
    with pytest.raises(AssertionError, match="permission denied"):
        server.psql("SET ROLE reader", "DELETE FROM mcparchive", database=DATABASE)

    _, _, monitoring = TEXT.partition("\n## Monitoring\n")
    queries = re.findall(r"`(SELECT [^`]+)`", monitoring)
    assert len(queries) == 3
    activity, holder, sizes = (
        server.psql(f'SET ROLE "{OWNER}"', query, database=DATABASE) for query in queries
    )
    assert activity
    assert f"|{newcomer.pid}|" in holder
    assert "mcparchive|" in sizes
    assert newcomer.stop() == ExitCode.OK
    assert server.psql(queries[1], database=DATABASE) == "||"


async def test_the_broker_keeps_to_the_schema_that_the_document_gives_it(
    start: Start, own_postgres: PostgresServer, cast: Cast
) -> None:
    server = own_postgres
    server.psql(statements("CREATE ROLE monstermq")[0], "CREATE DATABASE plant")
    server.psql(*statements("CREATE SCHEMA"), database="plant")
    (parameter,) = set(re.findall(r"/plant(\?\w+=\w+)`", TEXT))
    newcomer = start(f"plant{parameter}")
    await leave_traces(newcomer, cast)
    assert newcomer.stop() == ExitCode.OK
    count = f"SELECT count(*) FROM {SCHEMA}.mcparchive WHERE topic = 'tour/values'"
    assert server.psql(count, database="plant") == "3"
    strangers = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    assert server.psql(strangers, database="plant") == "0"
