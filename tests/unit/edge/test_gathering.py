"""What nobody waits for is gathered, and what somebody waits for takes it along."""

import asyncio
from collections.abc import Callable

import pytest
from tests.support.engine import Bench, subscribe_to
from tests.support.links import RecordingLink

from monstermq_edge.engines.local.gathering import GATHERED_SHARE, Gathering
from monstermq_shared.close_reasons import CloseReason

BACKLOG_SIZE = 64 * 1024
FOR_EVER_S = 60.0
DEADLINE_S = 20.0


class Stage:
    """An engine, a publisher and a persistent subscriber, and when its turns are due."""

    def __init__(self, delay_s: float) -> None:
        self.bench = Bench()
        self.publisher = self.bench.connect("publisher", clean=True)
        self.subscriber = self.bench.connect("subscriber", ("queued/#", 2))
        self.over = asyncio.Event()
        self.gathering = Gathering(
            self.bench.engine.journal,
            delay_s=delay_s,
            backlog_size_max=BACKLOG_SIZE,
            over=self.over.set,
        )

    def publish(self, qos: int, payload: bytes = b"x") -> None:
        self.bench.publish(self.publisher, "stored/topic", payload, qos=qos)

    def commit(self) -> None:
        self.bench.commit()
        self.gathering.taken()


def subscribe(stage: Stage) -> None:
    session = stage.subscriber.session
    assert session is not None
    subscribe_to(stage.bench.engine, session, 2, [("other", 1)])


def come_back(stage: Stage) -> None:
    stage.bench.attach("newcomer", link=RecordingLink())


def receive(stage: Stage) -> None:
    stage.bench.publish(stage.publisher, "queued/topic", b"x", qos=2)
    stage.bench.settle()
    session = stage.subscriber.session
    assert session is not None
    stage.bench.engine.receive(session, [1])


def leave(stage: Stage) -> None:
    """Nobody is answered, but if the broker crashes now, the will must not be published."""
    stage.bench.drop(stage.subscriber, CloseReason.CLIENT_DISCONNECTED)


async def test_what_nobody_waits_for_is_due_when_its_delay_is_over() -> None:
    stage = Stage(0.01)
    assert not stage.gathering.is_due()
    stage.publish(0)
    assert not stage.gathering.is_due()
    async with asyncio.timeout(DEADLINE_S):
        await stage.over.wait()
    assert stage.gathering.is_due()


async def test_what_comes_after_a_commit_waits_anew() -> None:
    stage = Stage(0.01)
    stage.publish(0)
    assert not stage.gathering.is_due()
    stage.commit()
    assert not stage.gathering.is_due()
    stage.publish(0)
    assert not stage.gathering.is_due()
    async with asyncio.timeout(DEADLINE_S):
        await stage.over.wait()
    assert stage.gathering.is_due()


@pytest.mark.parametrize(
    "cause",
    [
        lambda stage: stage.publish(1),
        lambda stage: stage.publish(2),
        subscribe,
        come_back,
        receive,
        leave,
    ],
    ids=["PUBACK", "PUBREC", "SUBACK", "CONNACK", "PUBREL", "DISCONNECT"],
)
async def test_what_an_answer_waits_for_is_due_at_once(cause: Callable[[Stage], None]) -> None:
    stage = Stage(FOR_EVER_S)
    stage.publish(0)
    assert not stage.gathering.is_due()
    cause(stage)
    assert stage.gathering.is_due()


async def test_an_acknowledgement_of_a_subscriber_may_wait() -> None:
    stage = Stage(FOR_EVER_S)
    stage.bench.publish(stage.publisher, "queued/topic", b"x", qos=1)
    assert stage.gathering.is_due()
    stage.commit()
    session = stage.subscriber.session
    assert session is not None
    stage.bench.engine.acknowledge(session, [1])
    assert not stage.bench.engine.journal.is_empty
    assert not stage.gathering.is_due()


async def test_a_large_turn_is_due_at_once() -> None:
    stage = Stage(FOR_EVER_S)
    stage.publish(0, bytes(BACKLOG_SIZE // GATHERED_SHARE))
    assert stage.gathering.is_due()


async def test_what_is_being_committed_makes_no_turn_large() -> None:
    stage = Stage(FOR_EVER_S)
    stage.publish(0, bytes(BACKLOG_SIZE // GATHERED_SHARE))
    assert stage.bench.engine.take_turn() is not None
    stage.gathering.taken()
    stage.publish(0)
    assert not stage.gathering.is_due()


@pytest.mark.parametrize("ended", [True, False], ids=["at a stop", "without a delay"])
async def test_everything_is_due_at_once(ended: bool) -> None:
    stage = Stage(FOR_EVER_S if ended else 0)
    if ended:
        stage.gathering.end()
    stage.publish(0)
    assert stage.gathering.is_due()
