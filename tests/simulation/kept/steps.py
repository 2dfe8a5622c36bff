"""Which steps there are, how often each is taken, and how a simulation goes on and ends."""

from bisect import bisect
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from typing import NamedTuple

from tests.simulation.kept.configurations import CONFIGURATIONS
from tests.simulation.kept.ledger import Violation
from tests.simulation.kept.promises import Promises
from tests.simulation.kept.world import DEAD_QUEUES, EDGES, World

TRIES_MAX = 20_000
"""Steps in a row that are not possible: then nothing is."""

ROUNDS_MAX = 3_000
"""Rounds in which everything must have come to rest."""

CONNECTIONS = 12
"""Connections that are served, oldest first."""

STORE_STEPS_MAX = 5
"""How often a step is repeated in one round of coming to rest."""


class Step(NamedTuple):
    """Something that can happen.

    Attributes:
        weight: How often it is tried.
        name: For people.
        act: Does it; returns whether it was possible.
    """

    weight: float
    name: str
    act: Callable[[], bool]


def steps_of(world: World) -> list[Step]:
    """Return all steps of a world."""
    found = [*_log_steps(world), *_worker_steps(world), *_client_steps(world)]
    for place in range(EDGES):
        found += _edge_steps(world, place)
    # Where it does nothing of itself it may be there all the same, and write rows.
    if world.configuration.sessions_worker or world.chance.random() < 0.5:
        found += _sessions_steps(world)
    found += _fault_steps(world)
    return [step for step in found if step.weight]


def _log_steps(world: World) -> list[Step]:
    late = world.configuration.land_rate
    found: list[Step] = []
    for index in range(DEAD_QUEUES):
        found.append(Step(late / 3, "late append lands", partial(world.land_dead, index)))
        found.append(Step(late / 15, "late append is lost", partial(world.lose_dead, index)))
    return found


def _edge_steps(world: World, place: int) -> list[Step]:
    def on_edge(weight: float, name: str, *arguments: object) -> Step:
        def act() -> bool:
            edge = world.edges[place]
            return edge is not None and bool(getattr(edge, name)(*arguments))

        return Step(weight, f"edge {place}: {name}", act)

    found = [
        Step(3, "edge starts", partial(world.start_edge, place)),
        Step(0.15, "edge goes on", partial(world.go_on, place)),
        on_edge(6, "hear"),
        on_edge(6, "turn"),
        on_edge(0.3, "tick"),
        on_edge(3, "look"),
        on_edge(4, "answer"),
    ]
    logs = {"messages": world.messages, "sessions": world.sessions}
    for log, its in logs.items():
        for partition in range(len(its.partitions)):
            land = partial(world.land_edge, place, log, partition)
            found.append(Step(world.land_rate, f"edge {place}: append lands", land))
            found.append(on_edge(5, "read", log, partition))
    return found


def _worker_steps(world: World) -> list[Step]:
    using = world.configuration
    found: list[Step] = []
    for number in range(len(world.messages.partitions)):
        found.append(Step(2, "worker starts", partial(world.start_worker, number)))
        for place in range(1 + using.zombies):
            for name, weight in (
                ("read", 3),
                ("commit", using.commit_rate),
                ("write", using.write_rate),
                ("resolve", 0.5),
                ("age", using.age_rate),
                ("land", 2),
            ):
                act = partial(_of_worker, world, number, place, name)
                found.append(Step(weight, f"worker {number}: {name}", act))
    return found


def _of_worker(world: World, number: int, place: int, name: str) -> bool:
    workers = world.workers[number]
    return place < len(workers) and bool(getattr(workers[place], name)())


def _sessions_steps(world: World) -> list[Step]:
    found = [Step(2, "sessions worker starts", partial(world.start_sessions_worker, 0))]
    rates = {"land": 4.0, "read": 3.0, "commit": 0.5}
    if world.configuration.sessions_worker:
        expiry_rate = world.configuration.expiry_rate
        rates |= {"detach_lost": 0.3, "expire": expiry_rate, "sweep": 0.5, "limit": 1.0}
    for place in range(2):
        for name, weight in rates.items():
            act = partial(_of_sessions_worker, world, place, name)
            found.append(Step(weight, f"sessions worker: {name}", act))
    return found


def _of_sessions_worker(world: World, place: int, name: str) -> bool:
    workers = world.sessions_workers
    return place < len(workers) and bool(getattr(workers[place], name)())


def _client_steps(world: World) -> list[Step]:
    using = world.configuration
    found: list[Step] = []
    for client in world.clients:
        found += [
            *(Step(1, "connect", partial(world.connect, client, at)) for at in range(EDGES)),
            Step(4, "receive", partial(world.receive, client)),
            Step(2, "notice", partial(world.notice, client)),
            Step(using.acknowledge_rate, "acknowledge", partial(world.acknowledge, client)),
        ]
        if client.client_id in world.publishers:
            found.append(Step(1.2, "publish", partial(world.publish, client)))
        else:
            found.append(Step(1, "subscribe", partial(world.subscribe, client)))
    for index in range(CONNECTIONS):
        found.append(Step(4, "serve", partial(world.serve, index)))
        found.append(Step(0.5, "lose", partial(world.lose, index)))
    return found


def _fault_steps(world: World) -> list[Step]:
    using = world.configuration
    found: list[Step] = []

    def fault(weight: float, name: str, act: Callable[[], bool]) -> None:
        found.append(Step(weight, name, partial(_fault, world, act)))

    for place in range(EDGES):
        fault(using.edge_crash_rate, "EDGE DIES", partial(world.crash_edge, place))
        fault(using.pause_rate, "EDGE STANDS STILL", partial(world.pause, place))
    for client in world.clients:
        fault(using.drop_rate, "CONNECTION ENDS", partial(world.drop, client))
    for number in range(len(world.messages.partitions)):
        for place in range(1 + using.zombies):
            kill = partial(_of_worker, world, number, place, "die")
            fault(using.worker_crash_rate, "WORKER DIES", kill)
        fault(using.gap_rate, "GAP", partial(world.overtake, number))
        if using.zombies:
            fault(using.zombie_rate, "ZOMBIE", partial(world.start_second, number))
    fault(using.failover_rate, "FAILOVER", world.fail_over)
    if using.sessions_worker:
        for place in range(2):
            kill = partial(_of_sessions_worker, world, place, "die")
            fault(0.08, "SESSIONS WORKER DIES", kill)
            lies = partial(_of_sessions_worker, world, place, "detach_all")
            fault(using.false_expiry_rate, "FALSE EXPIRY", lies)
        fault(0.05, "SECOND SESSIONS WORKER", partial(world.start_sessions_worker, 1))
    return found


def _fault(world: World, act: Callable[[], bool]) -> bool:
    if world.is_over or world.faults_left <= 0 or not act():
        return False
    world.faults_left -= 1
    return True


class Simulation:
    """One seed of one configuration.

    Attributes:
        world: What happens.
        steps: What can.
        trace: Told of every step that is taken.
    """

    def __init__(
        self, name: str, seed: int, trace: Callable[[int, str], None] | None = None
    ) -> None:
        self.world = World(CONFIGURATIONS[name], seed)
        self.steps = steps_of(self.world)
        self.trace = trace
        self._weights = [*accumulate(step.weight for step in self.steps)]

    def run(self) -> None:
        """Let everything happen, and hold it against the promises.

        Raises:
            Violation: One is broken.
        """
        world = self.world
        for _ in range(world.configuration.steps):
            if not self._step():
                break
            if not world.messages_left and world.chance.random() < 0.01:
                break
        world.end()
        self._settle()
        for edge in world.living():
            for why in edge.waiting():
                raise Violation(f"f: {why}")
        world.is_aging = True
        self._settle()
        for broken in Promises(world).broken():
            raise Violation(broken)

    def _step(self) -> bool:
        """Take one step; return whether there was one."""
        chance, weights, steps = self.world.chance, self._weights, self.steps
        total = weights[-1]
        for _ in range(TRIES_MAX):
            step = steps[bisect(weights, chance.random() * total)]
            if step.act():
                self._taken(step)
                return True
        return False

    def _taken(self, step: Step) -> None:
        ledger = self.world.ledger
        ledger.step += 1
        if self.trace is not None:
            self.trace(ledger.step, step.name)

    def _settle(self) -> None:
        """Let everything that can happen without faults happen, until nothing can."""
        quiet = [step for step in self.steps if not step.name.endswith((": tick", ": turn"))]
        for _ in range(ROUNDS_MAX):
            self.world.tick()
            self.world.chance.shuffle(quiet)
            taken = [self._repeat(step) for step in quiet]
            # Without a lease an edge waits for time to pass (E13), which is all that happens.
            if not any(taken) and all(edge.is_ready() for edge in self.world.living()):
                return
        names = sorted({step.name for step in quiet if step.act()})
        raise Violation(f"f: nothing comes to rest: {names}")

    def _repeat(self, step: Step) -> bool:
        for count in range(STORE_STEPS_MAX):
            if not step.act():
                return count > 0
            self._taken(step)
        return True


def simulate(name: str, seed: int) -> None:
    """Run one seed of a configuration.

    Raises:
        AssertionError: A promise is broken.
    """
    Simulation(name, seed).run()
