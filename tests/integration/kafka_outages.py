"""What clients and processes on a Kafka bus show of a server that is away, and of its return."""

import asyncio

from tests.integration.kafka_scenes import KafkaScene
from tests.integration.observing import until_ready
from tests.support.kafka_stack import StackProcess

BOUND_S = 60.0


async def until_told(process: StackProcess, *words: str) -> str:
    """Return what ``/ready`` says once all words are in it."""
    body = ""
    try:
        async with asyncio.timeout(BOUND_S):
            while not all(word in body for word in words):
                body = await until_ready(process, 503, BOUND_S)
    except TimeoutError:
        raise AssertionError(f"/ready does not say {words}: {body}") from None
    return body


def connections(scene: KafkaScene) -> list[int]:
    """Return how many connections each client has had; asserts that all are there."""
    absent = [client.client_id for client in scene.clients if not client.is_served]
    assert not absent, f"{absent} are not connected any more"
    return [len(client.connections) for client in scene.clients]


async def outlast_a_lease(scene: KafkaScene) -> None:
    """Return once every edge has had no lease for a while, and says so."""
    for edge in scene.stack.edges:
        await until_told(edge, "lease")


async def until_more(scene: KafkaScene) -> None:
    """Return once messages are acknowledged again."""
    acknowledged = len(scene.ledger.acknowledged)
    await scene.ledger.until(lambda: len(scene.ledger.acknowledged) > acknowledged + 200, BOUND_S)
