"""Edges, projectors, PostgreSQL and Kafka die or freeze under load, alone and in pairs."""

import os

import pytest
from tests.integration.kafka_rounds import draw, play_round
from tests.integration.kafka_scenes import FragileScene
from tests.integration.kept_scenes import KeptScene

pytestmark = pytest.mark.integration

ROUNDS = int(os.environ.get("MONSTERMQ_FAULT_ROUNDS", "20")) // 4
"""5 in ``make test``, 50 in ``make test-faults``."""


async def test_whatever_dies_or_freezes_loses_and_doubles_nothing(
    fragile_scene: FragileScene,
) -> None:
    scene = fragile_scene
    await scene.begin()
    for _ in range(ROUNDS):
        await play_round(scene, draw(scene))
    await scene.finish()


async def test_whatever_dies_or_freezes_kept_sessions_get_all_of_it_once(
    kept_scene: KeptScene,
) -> None:
    scene = kept_scene
    await scene.begin()
    for _ in range(ROUNDS):
        await scene.leave(scene.rng.randint(0, 2))
        await play_round(scene, draw(scene))
    await scene.finish()
