"""A round of faults: some of a stack's processes and servers die, freeze or stop under load."""

import asyncio
from collections.abc import Mapping

from tests.integration.kafka_scenes import FragileScene
from tests.support.kafka import KafkaServer
from tests.support.kafka_stack import EdgeProcess, StackProcess
from tests.support.postgres import PostgresServer

from monstermq_shared.exit_codes import ExitCode

PACKETS_MAX = (30, 300, 3_000)
"""Something happens after at most so many packets."""

LONG = 6_000
"""Packets that take longer than a lease, and than a projector's session."""

MOVES_MAX = 3
"""Clients that change the edge in a round, while nothing else happens."""

KILLED, FROZEN, STOPPED = "killed", "frozen", "stopped"

Victim = StackProcess | KafkaServer | PostgresServer


def victims_of(scene: FragileScene) -> Mapping[str, Victim]:
    """Return everybody who can be hurt, by name."""
    return {
        **{f"edge {number}": edge for number, edge in enumerate(scene.stack.edges)},
        "views": scene.stack.views,
        "sessions": scene.stack.sessions,
        "postgres": scene.postgres,
        "kafka": scene.kafka,
    }


def draw(scene: FragileScene) -> dict[str, str]:
    """Return to whom what happens in a round."""
    names = scene.rng.sample([*victims_of(scene)], scene.rng.choice((1, 2)))
    happens = {name: scene.rng.choice((KILLED, KILLED, FROZEN)) for name in names}
    if len(names) == 1 and names[0].startswith("edge") and scene.rng.random() < 0.3:
        happens = {names[0]: STOPPED}
    return happens


async def let_happen(scene: FragileScene, victim: Victim, how: str) -> None:
    """Hurt somebody."""
    if how == KILLED:
        victim.kill()
    elif how == FROZEN:
        victim.freeze()
    else:
        assert isinstance(victim, EdgeProcess)
        for client in scene.clients:
            if client.port == victim.tcp_port or not client.is_served:
                client.edge_stops()
        assert await asyncio.to_thread(victim.stop) == ExitCode.OK, victim.log_text()


def bring_back(scene: FragileScene) -> None:
    """Start what does not run: servers first, because an edge does not start without Kafka."""
    for server in (scene.kafka, scene.postgres):
        if not server.is_running:
            server.start()
    scene.stack.start()


def load_flows(scene: FragileScene) -> bool:
    """Whether somebody publishes by an edge that serves."""
    ports = {edge.tcp_port for edge in scene.serving}
    return any(p.is_connected and p.port in ports for p in scene.publishers)


async def play_round(scene: FragileScene, happens: Mapping[str, str]) -> None:
    """Hurt some under load, and bring all back."""
    rng, victims = scene.rng, victims_of(scene)
    await scene.some_load(rng.randint(1, rng.choice(PACKETS_MAX)))
    await scene.move(rng.randint(0, MOVES_MAX))
    print(f"{len(scene.ledger.sent)} messages sent: {dict(happens)}")
    for name, how in happens.items():
        await let_happen(scene, victims[name], how)
    if "kafka" not in happens and scene.serving:
        await scene.come_back()
        if load_flows(scene):
            await scene.some_load(LONG if FROZEN in happens.values() else 300)
    for name, how in happens.items():
        if how == FROZEN:
            victims[name].thaw()
    await asyncio.to_thread(bring_back, scene)
    await scene.until_ready()
    await scene.all_served()
    scene.ledger.assert_kept()
