"""The worker of the sessions log, killed between any two steps, and two at once.

Held against a reading of the whole log without any state, and against what the partitions of the
bus show of each session in the end.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from tests.simulation.sessions_world import (
    CLIENTS,
    LEASE_MS,
    PARTITION,
    PARTITIONS,
    RUNS,
    STEP_MS,
    Published,
    Told,
    World,
)
from tests.support.form import pure_only

from monstermq_shared.bus.control import kind_of
from monstermq_shared.bus.fact_reading import check_facts
from monstermq_shared.bus.facts import EXPIRY_S_MAX, Claim, Lease, Marker
from monstermq_shared.bus.runs import Runs
from monstermq_shared.errors import StoreConflict
from monstermq_shared.sessions.distributed.claims import Claims
from monstermq_shared.sessions.distributed.session_asks import Ask, ClaimsBatch
from monstermq_shared.sessions.distributed.session_state import SessionState
from monstermq_shared.stores.changes import Commit, Tenure
from monstermq_shared.testing.builders import NOON_MS

SEEDS = 300
STEPS = 400
TICKS = 40
"""Seconds that everybody has to come to an end."""

LATENESS_MS = 900_000
WILL_RUN = b"will\0\0\0\3"


@dataclass
class Worker:
    """One process that folds the partition."""

    world: World
    claims: Claims
    tenure: Tenure
    position: int

    @classmethod
    async def start(cls, world: World) -> "Worker":
        tenure = await world.database.begin(PARTITION, ["sessions"])
        claims = Claims(partitions=PARTITIONS, lease_ms=LEASE_MS)
        async with world.database.sessions.load(PARTITION) as snapshot:
            async for page in snapshot.pages():
                claims.load(page)
        mark = tenure.marks.get("sessions")
        return cls(world, claims, tenure, 0 if mark is None else mark.reflected)

    def read(self) -> ClaimsBatch:
        """Fold some records."""
        stop = min(len(self.world.facts), self.position + self.world.chance.randrange(1, 6))
        for offset in range(self.position, stop):
            facts = self.world.facts[offset]
            check_facts(kind_of(facts[0]), facts)
            self.claims.take(facts, offset, self.world.times_ms[offset])
        self.position = stop
        return self.claims.flush()

    def owed(self, batch: ClaimsBatch) -> Iterator[Callable[[], None]]:
        """Yield what is appended before the commit, one by one."""
        for due in batch.wills:
            will = Published(due.client_id, due.will.payload, due.sequence)
            yield partial(self.world.wills["xy".index(due.will.topic)].append, will)
        for piece in self.claims.debts(batch):
            for ask in piece:
                yield partial(self.append, ask)

    def append(self, ask: Ask) -> None:
        if ask.partition is None:
            self.world.under_way.append(ask.fact)
        else:
            assert isinstance(ask.fact, Marker)
            self.world.bus[ask.partition].markers.append(ask.fact)

    def tick(self) -> None:
        """Time passes; at the end of the log it looks around."""
        if self.position < len(self.world.facts):
            return
        self.claims.at_end(STEP_MS, self.world.now_ms)
        for ask in self.claims.asks():
            self.append(ask)
        ended = self.claims.to_sweep(10)
        for ask in self.claims.swept(ended, self.world.old_cuts(ended)):
            self.append(ask)


async def run(world: World) -> None:
    """Let edges append, and workers fold, be killed, and overtake each other."""
    chance = world.chance
    workers = [await Worker.start(world)]
    for _ in range(STEPS):
        world.edge_step()
        world.bus_step()
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
    batch = worker.read()
    for append in worker.owed(batch):
        append()
        if killed and world.chance.random() < 0.3:
            return False
    if killed:
        return False
    try:
        await world.database.commit(
            worker.tenure, Commit(upto=worker.position, sessions=batch.changes)
        )
    except StoreConflict:
        return False
    worker.tick()
    return True


async def finish(world: World) -> None:
    """Let the edges live, and everybody come to an end; who was there at a gap comes back."""
    worker = await Worker.start(world)
    returned: set[int] = set()
    for _ in range(TICKS):
        world.now_ms += STEP_MS
        world.land(len(world.under_way))
        for run_ in RUNS:
            world.append(Lease(run=run_, for_ms=LEASE_MS))
        world.edges_read(len(world.facts))
        while worker.position < len(world.facts):
            assert await work(worker, killed=False)
        world.edges_read(len(world.facts))
        for partition in world.bus:
            while partition.position < len(partition.markers):
                partition.work()
        for client_id, told in told_of(world).sessions.items():
            if told.over_gap and not told.attached and told.epoch not in returned:
                returned.add(told.epoch)
                world.append(
                    Claim(
                        client_id=client_id,
                        clean=False,
                        expiry_s=EXPIRY_S_MAX,
                        will=None,
                        run=RUNS[0],
                        protocol=4,
                    )
                )


def told_of(world: World) -> Told:
    """Return what the whole log says."""
    told = Told()
    for offset, facts in enumerate(world.facts):
        told.read(facts, offset)
    return told


def counted(world: World) -> list[Published]:
    """Return what readers of the bus make of the wills (R1), in the order of the facts."""
    found: list[Published] = []
    for partition in world.wills:
        runs = Runs(LATENESS_MS)
        kept = [at for at in partition if runs.is_new(WILL_RUN, at.sequence, NOON_MS)]
        assert [at.sequence for at in kept] == sorted(at.sequence for at in kept)
        found += kept
    return sorted(found, key=lambda at: at.sequence)


def shown(world: World) -> dict[str, Any]:
    """Return what the rows say of each client."""
    return {
        at.row.client_id: (
            *(at.row.epoch, at.row.incarnation, at.row.connected, at.row.expiry_s),
            *(at.subscriptions, at.opened, at.row.sent),
        )
        for at in world.database.sessions.stored()
    }


def check(world: World) -> None:
    """Hold everything against the log."""
    told = told_of(world)
    assert counted(world) == told.wills
    there = {
        client_id: (
            *(at.epoch, at.incarnation, at.attached, at.expiry_s),
            *(at.subscriptions, at.in_flight, at.sent),
        )
        for client_id, at in told.sessions.items()
        if at.attached or at.expiry_s
    }
    assert shown(world) == there
    for partition in world.bus:
        for client_id in CLIENTS:
            cut = partition.cuts.get(client_id)
            at = told.sessions.get(client_id)
            wanted = at.subscriptions if at is not None and at.expiry_s else {}
            assert (cut.subscriptions if cut is not None else {}) == wanted, client_id


@pytest.mark.parametrize("seed", range(0, SEEDS, 50))
async def test_every_will_once_and_every_row_right(seed: int) -> None:
    doubled = 0
    for number in range(seed, seed + 50):
        world = World(random.Random(number))
        await run(world)
        try:
            check(world)
        except AssertionError as exc:
            raise AssertionError(f"seed {number}: {exc}") from exc
        doubled += sum(map(len, world.wills)) - len(counted(world))
    assert doubled > 0


def _no_sweep(claims: Claims, batch: ClaimsBatch) -> Iterator[list[Ask]]:
    batch.ended = ()
    return _debts(claims, batch)


def _no_gap(claims: Claims, batch: ClaimsBatch) -> Iterator[list[Ask]]:
    batch.gaps = ()
    return _debts(claims, batch)


def _any_end(state: SessionState, claim: Claim, offset: int, time_ms: int) -> Any:
    if claim.only_if is not None:
        state.epoch = claim.only_if
    return _claim(state, claim, offset, time_ms)


_debts, _claim = Claims.debts, SessionState._claim

BREAKS: dict[str, list[tuple[type, str, Any]]] = {
    "S4": [(Claims, "debts", _no_sweep), (Claims, "swept", lambda *_: [])],
    "S6": [(Claims, "debts", _no_gap)],
    "R2 if": [(SessionState, "_claim", _any_end)],
    "S1 sent": [(SessionState, "sent", property(lambda _: None, lambda *_: None))],
}


@pure_only
@pytest.mark.parametrize("rule", BREAKS)
async def test_it_notices_a_rule_that_is_taken_out(
    rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for owner, name, broken in BREAKS[rule]:
        monkeypatch.setattr(owner, name, broken)
    failed = 0
    for number in range(60):
        world = World(random.Random(number))
        await run(world)
        try:
            check(world)
        except AssertionError:
            failed += 1
    assert failed
