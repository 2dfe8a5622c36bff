"""PostgreSQL is away, silent, slow, or lets nobody in, under load: all goes on afterwards."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress

import asyncpg
import pytest
from tests.integration.faults import (
    EXCHANGES,
    MIXES,
    POSTGRES,
    ROUND_S,
    VIEWS_IN_POSTGRES,
    Mix,
    Scene,
)
from tests.integration.observing import Neighbours, until_ready
from tests.support.broker import RunningBroker
from tests.support.load import Cast
from tests.support.postgres import PASSWORD, ROLE, SUPERUSER, PostgresServer
from tests.support.proxy import CommitLoss, Proxy

pytestmark = pytest.mark.integration

CONNECTIONS_MAX = 20
LOSSES = 10
DELAY_S = 0.03
SLOW_PACKETS = 1_500
IMPATIENT = "?socketTimeout=4"
"""Seconds after which a server that says nothing counts as lost; from 5 on it is told as late."""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server that the tests of this module share, each with a database of its own."""
    server = PostgresServer(settings={"max_connections": str(CONNECTIONS_MAX)})
    try:
        yield server.start()
    finally:
        server.close()


def end_sessions(scene: Scene) -> str:
    """Return the statement that ends all connections of the broker."""
    return (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE usename = '{ROLE}' AND datname = '{scene.database}'"
    )


@contextmanager
def stopped(scene: Scene) -> Iterator[None]:
    scene.server.stop()
    try:
        yield
    finally:
        scene.server.start()


@contextmanager
def frozen(scene: Scene) -> Iterator[None]:
    scene.server.freeze()
    try:
        yield
    finally:
        scene.server.thaw()


@contextmanager
def changed(scene: Scene, change: str, undo: str) -> Iterator[None]:
    """Change what only new connections meet, and end the old ones."""
    scene.server.psql(change, end_sessions(scene))
    try:
        yield
    finally:
        scene.server.psql(undo)


def wrong_password(scene: Scene) -> AbstractContextManager[None]:
    role = f"ALTER ROLE {ROLE} PASSWORD"
    return changed(scene, f"{role} 'another one'", f"{role} '{PASSWORD}'")


def may_not_log_in(scene: Scene) -> AbstractContextManager[None]:
    return changed(scene, f"ALTER ROLE {ROLE} NOLOGIN", f"ALTER ROLE {ROLE} LOGIN")


def read_only(scene: Scene) -> AbstractContextManager[None]:
    change = f'ALTER DATABASE "{scene.database}" {{}} default_transaction_read_only'
    return changed(scene, f"{change.format('SET')} = on", change.format("RESET"))


@contextmanager
def database_missing(scene: Scene) -> Iterator[None]:
    """The database has another name for a while."""
    name, server = scene.database, scene.server
    allow = f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS'
    server.psql(
        f"{allow} false", end_sessions(scene), f'ALTER DATABASE "{name}" RENAME TO elsewhere'
    )
    try:
        yield
    finally:
        server.psql(f'ALTER DATABASE elsewhere RENAME TO "{name}"', f"{allow} true")


@contextmanager
def without_rights(scene: Scene) -> Iterator[None]:
    """Somebody takes the right to write from the owner of the tables."""
    rights = "INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public"
    scene.server.psql(f"REVOKE {rights} FROM {ROLE}", database=scene.database)
    try:
        yield
    finally:
        scene.server.psql(f"GRANT {rights} TO {ROLE}", database=scene.database)


TROUBLES: dict[Callable[[Scene], AbstractContextManager[None]], tuple[str, ...]] = {
    stopped: ("nobody listens there; start the server",),
    frozen: ("it does not answer in time",),
    wrong_password: ("the password is wrong", "set Postgres.User and Postgres.Pass"),
    may_not_log_in: ("it does not let us in", "set Postgres.User and Postgres.Pass"),
    read_only: ("it takes no writes",),
    database_missing: ("the database does not exist; make it with CREATE DATABASE",),
    without_rights: ("the role lacks a right; grant it",),
}
"""What happens, and what ``/ready`` says of it."""


@pytest.mark.parametrize(
    ("happens", "mix"),
    [
        *((happens, POSTGRES) for happens in TROUBLES),
        *((happens, VIEWS_IN_POSTGRES) for happens in (stopped, frozen, without_rights)),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
async def test_trouble_is_told_and_passes(
    broker: RunningBroker,
    cast: Cast,
    server: PostgresServer,
    happens: Callable[[Scene], AbstractContextManager[None]],
    mix: Mix,
) -> None:
    # Only those who need a time-out have one: on a busy machine it may end, as another trouble.
    limit = IMPATIENT if happens is frozen else ""
    scene = Scene(broker, cast, mix, server, url=lambda name: server.url(name) + limit)
    await scene.begin()
    with happens(scene):
        async with scene.trouble(*TROUBLES[happens]):
            pass
    await scene.over()
    await scene.finish()
    scene.assert_logged(1)


async def test_others_take_all_connections(
    broker: RunningBroker, cast: Cast, server: PostgresServer
) -> None:
    scene = Scene(broker, cast, POSTGRES, server)
    await scene.begin()
    async with scene.trouble("it has no connection free; raise its max_connections"):
        others = await take_all_connections(scene)
    for connection in others:
        connection.terminate()
    await scene.over()
    await scene.finish()
    scene.assert_logged(1)


async def take_all_connections(scene: Scene) -> "list[asyncpg.Connection[asyncpg.Record]]":
    """Take those of the broker too; until then it gets none back, or its trouble would be two.

    All means as many as there are: one may be refused because somebody else is on his way out.
    """
    taken: list[asyncpg.Connection[asyncpg.Record]] = []
    limit = f'ALTER DATABASE "{scene.database}" CONNECTION LIMIT'
    reserved = int(scene.server.psql("SHOW superuser_reserved_connections"))
    scene.server.psql(f"{limit} 0", end_sessions(scene))
    while len(taken) < CONNECTIONS_MAX - reserved:
        with suppress(asyncpg.TooManyConnectionsError):
            taken.append(await asyncpg.connect(scene.server.url(SUPERUSER)))
    scene.server.psql(f"{limit} -1")
    return taken


@asynccontextmanager
async def behind_proxy(
    broker: RunningBroker, cast: Cast, mix: Mix, server: PostgresServer
) -> AsyncIterator[tuple[Scene, Proxy]]:
    """Give a scene whose broker reaches the server through a proxy."""
    async with Proxy(server.port) as proxy:

        def url(database: str) -> str:
            return server.url(database).replace(f":{server.port}/", f":{proxy.port}/")

        scene = Scene(broker, cast, mix, server, url=url)
        await scene.begin()
        yield scene, proxy
        await scene.finish()


@pytest.mark.parametrize("mix", MIXES, ids=str)
async def test_commits_of_unknown_outcome_count_once(
    broker: RunningBroker, cast: Cast, server: PostgresServer, mix: Mix
) -> None:
    async with behind_proxy(broker, cast, mix, server) as (scene, proxy):
        for number in range(LOSSES):
            lost = proxy.lose_next_commit(list(CommitLoss)[number % 2])
            async with asyncio.timeout(ROUND_S):
                await lost.wait()
            await scene.over()
        assert proxy.commits_lost == LOSSES
        scene.assert_logged(LOSSES)


async def test_a_slow_server_makes_all_slow_that_need_it_and_is_no_trouble(
    broker: RunningBroker, cast: Cast, server: PostgresServer
) -> None:
    async with behind_proxy(broker, cast, POSTGRES, server) as (scene, proxy):
        proxy.delay_s = DELAY_S
        neighbours = await Neighbours.settle_in(broker)
        await scene.some_load(SLOW_PACKETS)
        for _ in range(EXCHANGES):
            await neighbours.exchange()
        neighbours.move_out()
        await until_ready(broker, 200)
        proxy.delay_s = 0.0
        await scene.over()
        scene.assert_logged(0)


@pytest.mark.parametrize("mix", [POSTGRES, VIEWS_IN_POSTGRES], ids=str)
async def test_a_network_that_stalls_and_breaks_is_told_and_passes(
    broker: RunningBroker, cast: Cast, server: PostgresServer, mix: Mix
) -> None:
    async with behind_proxy(broker, cast, mix, server) as (scene, proxy):
        async with scene.trouble("the connection was lost"):
            proxy.stall()
            proxy.cut()
            await proxy.shut()
        await proxy.open()
        await scene.over()
        scene.assert_logged(1)
