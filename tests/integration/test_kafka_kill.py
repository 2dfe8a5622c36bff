"""Edges, projectors, PostgreSQL and Kafka die under load, alone and in pairs, and come back."""

import asyncio
import os
from collections.abc import Callable, Sequence

import pytest
from tests.integration.kafka_scenes import FragileScene

pytestmark = pytest.mark.integration

ROUNDS = int(os.environ.get("MONSTERMQ_FAULT_ROUNDS", "20")) // 4
"""5 in ``make test``, 50 in ``make test-faults``."""

PACKETS_MAX = (30, 300, 3_000)
"""Somebody dies after at most so many packets."""

VICTIMS = ("edge", "views", "sessions", "postgres", "kafka")


def kill(scene: FragileScene, victims: Sequence[str]) -> None:
    """End them so that they can finish nothing."""
    stack = scene.stack
    kills: dict[str, Callable[[], None]] = {
        "edge": scene.rng.choice(stack.edges).kill,
        "views": stack.views.kill,
        "sessions": stack.sessions.kill,
        "postgres": scene.postgres.kill,
        "kafka": scene.kafka.kill,
    }
    for victim in victims:
        kills[victim]()


def bring_back(scene: FragileScene) -> None:
    """Start what does not run: servers first, because an edge does not start without Kafka."""
    for server in (scene.kafka, scene.postgres):
        if not server.is_running:
            server.start()
    scene.stack.start()


async def play_round(scene: FragileScene, victims: Sequence[str]) -> None:
    """Kill them under load, and bring all back."""
    await scene.some_load(scene.rng.randint(1, scene.rng.choice(PACKETS_MAX)))
    print(f"killed: {victims}")
    kill(scene, victims)
    await asyncio.to_thread(bring_back, scene)
    await scene.until_ready()
    await scene.all_served()
    scene.ledger.assert_kept()


async def test_kills_lose_and_double_nothing(fragile_scene: FragileScene) -> None:
    scene = fragile_scene
    await scene.begin()
    for _ in range(ROUNDS):
        await play_round(scene, scene.rng.sample(VICTIMS, scene.rng.choice((1, 2))))
    await scene.finish()
