"""The worker of the sessions log, killed between any two steps, and two at once.

Held against a reading of the whole log by the words of R2 and S2, without any state.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest

from monstermq_shared.bus.facts import Claim, Detach, Fact, Lease
from monstermq_shared.bus.runs import Runs
from monstermq_shared.errors import StoreConflict
from monstermq_shared.messages import Will
from monstermq_shared.positions import Partition
from monstermq_shared.sessions.distributed.claims import Claims
from monstermq_shared.stores.changes import Commit, Tenure
from monstermq_shared.stores.memory import MemoryDatabase
from monstermq_shared.testing.builders import NOON_MS

SEEDS = 300
STEPS = 400
CLIENTS = "abcd"
RUNS = [bytes([number]) * 8 for number in range(3)]
LEASE_MS = 3
LATENESS_MS = 900_000
PARTITION = Partition("kafka:a:b-sessions", 3)
WILL_RUN = b"will\0\0\0\3"


class Published(NamedTuple):
    """A will as it stands on the bus: whoever reads it applies R1."""

    client_id: str
    payload: bytes
    sequence: int


@dataclass
class World:
    """Both logs and the database.

    Attributes:
        facts: The sessions partition: the facts of each record.
        bus: What was appended to two partitions of the bus, doubled ones included.
    """

    chance: random.Random
    facts: list[list[Fact]] = field(default_factory=list)
    bus: list[list[Published]] = field(default_factory=lambda: [[], []])
    database: MemoryDatabase = field(default_factory=MemoryDatabase)

    def edge_step(self) -> None:
        """An edge appends something, late perhaps."""
        client_id = self.chance.choice(CLIENTS)
        run = self.chance.choice(RUNS)
        match self.chance.randrange(4):
            case 0 | 1:
                will = Will(
                    topic=self.chance.choice("xy"),
                    payload=b"%d" % len(self.facts),
                    qos=1,
                    retain=False,
                )
                fact: Fact = Claim(
                    client_id=client_id,
                    clean=True,
                    expiry_s=0,
                    will=self.chance.choice([will, None]),
                    run=run,
                    protocol=4,
                )
            case 2:
                epoch = self.chance.randrange(len(self.facts) + 1)
                fact = Detach(client_id=client_id, epoch=epoch, will=self.chance.random() < 0.5)
            case _:
                fact = Lease(run=run, for_ms=LEASE_MS)
        self.facts.append([fact])


@dataclass
class Worker:
    """One process that folds the partition.

    Attributes:
        steps: What it is in the middle of; a kill ends it there.
    """

    world: World
    claims: Claims
    tenure: Tenure
    position: int

    @classmethod
    async def start(cls, world: World) -> "Worker":
        tenure = await world.database.begin(PARTITION, ["sessions"])
        async with world.database.sessions.load(PARTITION) as snapshot:
            stored = [at async for page in snapshot.pages() for at in page]
        mark = tenure.marks.get("sessions")
        position = 0 if mark is None else mark.reflected
        claims = Claims(partitions=2, lease_ms=LEASE_MS)
        claims.load(stored)
        return cls(world, claims, tenure, position)

    def read(self) -> tuple[Iterator[tuple[int, Published]], Commit]:
        """Fold some records; return the wills to append, and what to commit after them."""
        stop = min(len(self.world.facts), self.position + self.world.chance.randrange(1, 6))
        for offset in range(self.position, stop):
            self.claims.take(self.world.facts[offset], offset, NOON_MS + offset)
        self.position = stop
        batch = self.claims.flush()
        published = (
            (ord(due.will.topic) % 2, Published(due.client_id, due.will.payload, due.sequence))
            for due in batch.wills
        )
        return published, Commit(upto=stop, sessions=batch.changes)

    def tick(self) -> None:
        """Time passes; at the end of the log silent edges are found."""
        if self.position == len(self.world.facts):
            self.claims.at_end(1, NOON_MS)
            for ask in self.claims.asks():
                self.world.facts.append([ask.fact])


async def run(world: World) -> None:
    """Let edges append, and workers fold, be killed, and overtake each other."""
    chance = world.chance
    workers = [await Worker.start(world)]
    for _ in range(STEPS):
        world.edge_step()
        if chance.random() < 0.05:
            # It takes the tenure: the others find out when they commit.
            workers.append(await Worker.start(world))
        for worker in [*workers]:
            if chance.random() < 0.4 and not await work(worker, killed=chance.random() < 0.1):
                workers.remove(worker)
        if not workers:
            workers.append(await Worker.start(world))
    await finish(world)


async def work(worker: Worker, *, killed: bool) -> bool:
    """Let a worker read, append and commit; return whether it still works."""
    world = worker.world
    wills, commit = worker.read()
    for partition, published in wills:
        world.bus[partition].append(published)
        if killed and world.chance.random() < 0.5:
            return False
    if killed:
        return False
    try:
        await world.database.commit(worker.tenure, commit)
    except StoreConflict:
        return False
    worker.tick()
    return True


async def finish(world: World) -> None:
    """Let one worker come to the end of the log, which its own detaches make longer."""
    worker = await Worker.start(world)
    while worker.position < len(world.facts):
        assert await work(worker, killed=False)


def counted(world: World) -> list[Published]:
    """Return what readers of the bus make of it (R1), in the order of the facts."""
    found: list[Published] = []
    for partition in world.bus:
        runs = Runs(LATENESS_MS)
        kept = [at for at in partition if runs.is_new(WILL_RUN, at.sequence, NOON_MS)]
        assert [at.sequence for at in kept] == sorted(at.sequence for at in kept)
        found += kept
    return sorted(found, key=lambda at: at.sequence)


def due(facts: list[list[Fact]]) -> tuple[list[Published], dict[str, int]]:
    """Return the wills that R2 and S2 make due, and the newest epoch of attached clients."""
    flat = [(o, i, fact) for o, record in enumerate(facts) for i, fact in enumerate(record)]
    wills: list[Published] = []
    attached: dict[str, int] = {}
    for client_id in CLIENTS:
        open_claim: tuple[int, Claim] | None = None
        for offset, index, fact in flat:
            if isinstance(fact, Lease) or getattr(fact, "client_id", None) != client_id:
                continue
            will = None if open_claim is None else open_claim[1].will
            sequence = offset * 65_536 + index
            if isinstance(fact, Claim):
                is_due, after = True, (offset, fact)
            elif open_claim is not None and open_claim[0] == fact.epoch:  # type: ignore[union-attr]  # only these two are written
                is_due, after = fact.will, None  # type: ignore[union-attr]  # the same
            else:
                continue
            if is_due and will is not None:
                wills.append(Published(client_id, will.payload, sequence))
            open_claim = after
        if open_claim is not None:
            attached[client_id] = open_claim[0]
    return sorted(wills, key=lambda at: at.sequence), attached


@pytest.mark.parametrize("seed", range(0, SEEDS, 50))
async def test_every_will_once_and_every_row_right(seed: int) -> None:
    for number in range(seed, seed + 50):
        world = World(random.Random(number))
        await run(world)
        wills, attached = due(world.facts)
        assert counted(world) == wills, f"seed {number}"
        rows = {at.row.client_id: at.row.epoch for at in world.database.sessions.stored()}
        assert rows == attached, f"seed {number}"
        assert sum(map(len, world.bus)) > len(wills), f"seed {number}: nothing was doubled"
