"""PostgreSQL, the broker, or both, die under load: nothing is lost, nothing is there twice."""

import os
import random
from collections.abc import Callable, Iterator

import pytest
from tests.integration.faults import MIXES, POSTGRES, Mix, Scene
from tests.integration.observing import until_metric
from tests.support.broker import RunningBroker
from tests.support.chance import drawn_random
from tests.support.load import Cast
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.integration

ROUNDS = int(os.environ.get("MONSTERMQ_FAULT_ROUNDS", "20"))

FAILURES = "monstermq_commit_failures_total"
AWAY_ATTEMPTS = max(ROUNDS * 3 // 10, 3)
AWAY_MAX_S = 120.0
"""How long so many attempts may take."""

PACKETS_MAX = (30, 300, 3_000)
"""A server or broker dies after at most so many packets."""


def end_server(server: PostgresServer, rng: random.Random) -> None:
    """End a server in a way that lets it finish nothing."""
    if rng.random() < 0.5:
        server.kill()
    else:
        server.stop("immediate")


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server that never syncs: what it has written survives its own death all the same."""
    server = PostgresServer(fsync=False)
    try:
        yield server.start()
    finally:
        server.close()


async def test_kills_of_the_server_are_told_and_lose_nothing(
    broker: RunningBroker, cast: Cast, server: PostgresServer
) -> None:
    scene, rng = Scene(broker, cast, POSTGRES, server), drawn_random()
    await scene.begin()
    for _ in range(ROUNDS):
        await scene.some_load(rng.randint(1, rng.choice(PACKETS_MAX)))
        async with scene.trouble("nobody listens there; start the server"):
            end_server(server, rng)
        server.start()
        await scene.over()
        scene.ledger.assert_kept()
    await scene.finish()
    scene.assert_logged(ROUNDS)


async def test_a_killed_server_may_stay_away_for_long(
    broker: RunningBroker, cast: Cast, server: PostgresServer
) -> None:
    """A minute in ``make test-faults``: from then on there is an attempt every second."""
    scene = Scene(broker, cast, POSTGRES, server)
    await scene.begin()
    async with scene.trouble("nobody listens there; start the server"):
        server.kill()
        await until_metric(broker, FAILURES, AWAY_ATTEMPTS, within_s=AWAY_MAX_S)
    server.start()
    await scene.over()
    await scene.finish()
    scene.assert_logged(1)


def broker_killed(scene: Scene, rng: random.Random) -> None:
    scene.broker.kill()


def server_killed(scene: Scene, rng: random.Random) -> None:
    end_server(scene.server, rng)
    scene.server.start()


def both_killed(scene: Scene, rng: random.Random) -> None:
    kills: list[Callable[[], None]] = [lambda: end_server(scene.server, rng), scene.broker.kill]
    rng.shuffle(kills)
    for kill in kills:
        kill()
    scene.server.start()


@pytest.mark.parametrize("mix", MIXES, ids=str)
async def test_kills_of_broker_and_server_lose_nothing_that_is_promised(
    broker: RunningBroker, cast: Cast, server: PostgresServer, mix: Mix
) -> None:
    """Views beside the session store's database may miss what the next start names in the log."""
    scene, rng = Scene(broker, cast, mix, server), drawn_random()
    await scene.begin()
    for number in range(max(ROUNDS // 4, 3)):
        await scene.some_load(rng.randint(1, rng.choice(PACKETS_MAX)))
        (broker_killed, both_killed, server_killed)[number % 3](scene, rng)
        if not broker.is_running:
            await scene.restart_broker()
        await scene.over()
        scene.ledger.assert_kept()
    # A view of which a kill has cost something shows the last writes again once there are newer.
    await scene.some_load(1_000)
    await scene.finish(is_missing=scene.named_as_missing())
