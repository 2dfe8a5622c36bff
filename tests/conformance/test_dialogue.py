"""The same dialogue with two brokers gets the same answers."""

import asyncio
from collections.abc import Iterator

import pytest
from tests.conformance.dialogue import Conversation, dialogue, without_ids
from tests.support.broker import BrokerProcess, RunningMosquitto

STEPS = 40


@pytest.fixture(scope="module")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """The broker to compare with."""
    process = RunningMosquitto(tmp_path_factory.mktemp("mosquitto"))
    try:
        yield process.start()
    finally:
        process.close()


@pytest.mark.integration
@pytest.mark.parametrize("seed", range(30))
async def test_a_random_dialogue_hears_what_mosquitto_would_say(
    broker: BrokerProcess, mosquitto: BrokerProcess, seed: int
) -> None:
    prefix = f"d{seed}"
    ours, theirs = await asyncio.gather(
        *(Conversation.begin(port, prefix) for port in (broker.tcp_port, mosquitto.tcp_port))
    )
    said = []
    try:
        for step in dialogue(seed, STEPS):
            said.append(step)
            expected = await theirs.take(step)
            heard = await ours.take(step, expected)
            assert without_ids(heard) == without_ids(expected), said
    finally:
        ours.end()
        theirs.end()
