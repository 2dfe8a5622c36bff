"""The primary dies and a standby takes over: a synchronous one has all that was acknowledged."""

import asyncio
from collections.abc import Iterator

import pytest
from tests.integration.faults import POSTGRES, VIEWS_IN_POSTGRES, Mix, Scene
from tests.integration.observing import metric, until_metric, until_ready
from tests.support.broker import STOP_S, RunningBroker
from tests.support.load import Cast
from tests.support.postgres import PostgresServer, PostgresStandby, both

from monstermq_shared.exit_codes import ExitCode

pytestmark = pytest.mark.integration

BEHIND_PACKETS = 500


@pytest.fixture
def standby(own_postgres: PostgresServer) -> Iterator[PostgresStandby]:
    """A running standby, which nobody waits for yet."""
    standby = PostgresStandby(own_postgres)
    try:
        standby.start()
        yield standby
    finally:
        standby.close()


def wait_for_standby(primary: PostgresServer) -> None:
    """Let commits wait for the standby from now on."""
    primary.psql("ALTER SYSTEM SET synchronous_standby_names = standby", "SELECT pg_reload_conf()")


@pytest.mark.parametrize("mix", [POSTGRES, VIEWS_IN_POSTGRES], ids=str)
async def test_a_synchronous_standby_goes_on_where_the_primary_died(
    broker: RunningBroker,
    cast: Cast,
    own_postgres: PostgresServer,
    standby: PostgresStandby,
    mix: Mix,
) -> None:
    scene = Scene(broker, cast, mix, own_postgres, url=both(own_postgres, standby))
    wait_for_standby(own_postgres)
    await scene.begin()
    async with scene.trouble("none of the 2 hosts can be used", "it is a standby"):
        own_postgres.kill()
    standby.promote()
    scene.server = standby
    await scene.over()
    await scene.finish()
    scene.assert_logged(1)


async def test_what_only_the_dead_primary_had_was_not_acknowledged(
    broker: RunningBroker, cast: Cast, own_postgres: PostgresServer, standby: PostgresStandby
) -> None:
    """A time-out ends the wait for the standby, and the row stays on the primary alone."""
    scene = Scene(broker, cast, POSTGRES, own_postgres, url=both(own_postgres, standby))
    wait_for_standby(own_postgres)
    await scene.begin()
    async with scene.trouble():
        standby.detach()
        await until_ready(broker, 503)
        acknowledged = len(scene.ledger.acknowledged)
        for _ in range(2):
            # Tried again, and found applied.
            failures = await metric(broker, "monstermq_commit_failures_total")
            await until_metric(broker, "monstermq_commit_failures_total", failures + 1, 30.0)
        assert len(scene.ledger.acknowledged) == acknowledged
        own_postgres.kill()
    standby.promote()
    scene.server = standby
    await scene.over()
    await scene.finish()
    scene.assert_logged(1)


async def test_a_standby_that_lacks_our_newest_commits_is_refused(
    broker: RunningBroker, cast: Cast, own_postgres: PostgresServer, standby: PostgresStandby
) -> None:
    scene = Scene(broker, cast, POSTGRES, own_postgres, url=both(own_postgres, standby))
    await scene.begin()
    # In a thread: what comes meanwhile would be taken for load after it.
    await asyncio.to_thread(standby.detach)
    await scene.some_load(BEHIND_PACKETS)
    own_postgres.kill()
    standby.promote()
    assert await asyncio.to_thread(broker.has_ended, within_s=STOP_S), broker.log_text()
    assert broker.wait() == ExitCode.STORE_IN_USE, broker.log_text()
    (said,) = [line for line in scene.complaints() if " CRITICAL " in line]
    assert "the server has lost what it had committed" in said
    assert "Bring back the server that has them, or start the broker again" in said
    await cast.gone()
