"""Workers of the sessions log: the product's fold, and what a worker does around it (S1 to S6).

One process has all partitions of the sessions log. What it appends lands late, as everybody's does;
it commits once what a batch asks for has landed.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from tests.simulation.kept.bus_workers import LOG
from tests.simulation.kept.database import Holder, SessionTable
from tests.simulation.kept.edge_writing import EXPIRY_S, LEASE_S
from tests.simulation.kept.logs import Pending, Queue, SimWriter, partition_of

from monstermq_projector.sessions_fold import SessionsBatch, SessionsFold
from monstermq_shared.bus.facts import Claim, Detach
from monstermq_shared.bus.header import RUN_SIZE
from monstermq_shared.bus.runs import WILL_RUN
from monstermq_shared.errors import StoreConflict
from monstermq_shared.records import Record
from monstermq_shared.sessions.distributed.claims import Claims
from monstermq_shared.sessions.distributed.queue_limits import Overfull, QueueBounds
from monstermq_shared.sessions.distributed.session_asks import Ask, WillDue
from monstermq_shared.stores.changes import Commit
from monstermq_shared.stores.queues import QueueTotal
from monstermq_shared.views.log_fold import FoldCounts

LEASE_MS = int(LEASE_S * 1000)

ENTRIES = (1, 1, 2, 5)
"""How many entries are folded at once."""


class Share:
    """What one worker has of one partition: the sessions, and the batch that is being committed.

    Attributes:
        claims: Its sessions.
        fold: Folds its entries.
        batch: What waits for what it asked for to land.
    """

    def __init__(self, table: SessionTable, bus_partitions: int) -> None:
        self.table = table
        self.holder: Holder = table.holder
        self.claims = Claims(partitions=bus_partitions, lease_ms=LEASE_MS)
        self.claims.load(table.load())
        self.fold = SessionsFold(
            LOG, self.claims, table.state.mark.reflected, table.state, FoldCounts()
        )
        self.batch: SessionsBatch | None = None


class SessionsWorker:
    """One process.

    Attributes:
        run: What its facts carry.
    """

    def __init__(self, world: Any, run: bytes) -> None:
        self._world = world
        self._chance: random.Random = world.chance
        self.run = run
        self._facts = SimWriter(run, world.sessions, self._chance)
        self._bus = SimWriter(run, world.messages, self._chance)
        self._wills: list[Queue] = []
        self._shares = [
            Share(table, len(world.messages.partitions)) for table in world.database.sessions
        ]
        self._overfull = Overfull(QueueBounds(max(1, world.configuration.queue_max), 10**9))

    # -- reading and committing --------------------------------------------------------------------

    def read(self) -> bool:
        """Fold some entries of a partition."""
        for number in self._shuffled():
            share = self._shares[number]
            entries = self._world.sessions.partitions[number]
            first = share.fold.next_offset
            if first < len(entries):
                found = entries[first : first + self._chance.choice(ENTRIES)]
                assert not [*share.fold.fold(found)]
                return True
        return False

    def _shuffled(self) -> list[int]:
        numbers = [*range(len(self._shares))]
        self._chance.shuffle(numbers)
        return numbers

    def commit(self) -> bool:
        """Append what a batch asks for; or commit it, once all that has landed."""
        for number in self._shuffled():
            share = self._shares[number]
            if share.batch is None:
                if share.fold.next_offset > share.table.state.mark.reflected:
                    share.batch = share.fold.flush()
                    self._append_debts(number, share)
                    return True
            elif not any(queue.pending for queue in self._queues()):
                self._commit(share, share.batch)
                return True
        return False

    def _append_debts(self, number: int, share: Share) -> None:
        assert share.batch is not None
        for will in share.batch.claims.wills:
            self._append_will(number, will)
        for asks in share.claims.debts(share.batch.claims):
            self._append(number, asks)

    def _commit(self, share: Share, batch: SessionsBatch) -> None:
        commit = Commit(upto=batch.upto, sessions=batch.claims.changes, log=batch.state)
        try:
            share.holder = share.table.commit(commit, share.holder, self.run.hex())
        except StoreConflict:
            self.die()
        share.batch = None

    # -- what it appends ---------------------------------------------------------------------------

    def _append_will(self, number: int, due: WillDue) -> None:
        """S2: the run is that of the partition, the sequence that of the fact."""
        world, will = self._world, due.will
        partition = partition_of(will.topic, len(world.messages.partitions))
        run = WILL_RUN + number.to_bytes(RUN_SIZE - len(WILL_RUN), "big")
        record = Record(will.topic, will.payload, will.qos, False, due.client_id, world.wall_ms, 0)
        pending = Pending([record], [], due.sequence)
        for queue in self._wills:
            if (queue.run, queue.partition) == (run, partition):
                queue.pending.append(pending)
                return
        self._wills.append(Queue(world.messages, partition, run, self._bus))
        self._wills[-1].pending.append(pending)

    def _append(self, number: int, asks: Sequence[Ask]) -> None:
        for ask in asks:
            writer = self._facts if ask.partition is None else self._bus
            partition = number if ask.partition is None else ask.partition
            writer.append_facts(partition, [ask.fact], self._world.wall_ms, None)

    def _queues(self) -> Iterator[Queue]:
        yield from self._facts.queues
        yield from self._bus.queues
        yield from self._wills

    def land(self) -> bool:
        """Let something that was appended land."""
        waiting = [queue for queue in self._queues() if queue.pending]
        if not waiting:
            return False
        self._world.land(self._chance.choice(waiting))
        return True

    # -- what it does of itself --------------------------------------------------------------------

    def _ask(self, wanted: Callable[[Ask], bool]) -> bool:
        """Let time pass in partitions that are read to their end, and append what comes of it.

        Steps take no time, so what is asked for because of it is appended only where it is wanted.
        """
        found = False
        for number, share in enumerate(self._shares):
            if share.fold.next_offset < len(self._world.sessions.partitions[number]):
                continue
            share.claims.at_end(LEASE_MS, self._world.wall_ms)
            asks = [ask for ask in share.claims.asks() if wanted(ask)]
            self._append(number, asks)
            found |= bool(asks)
        return found

    def detach_lost(self) -> bool:
        """S3: detach the clients of edges that are dead or stand still."""
        world = self._world
        alive = {edge.facts.run for edge in world.living() if not edge.is_paused}
        lost = {
            client_id
            for client_id, session in world.oracle.sessions.items()
            if session.attached is not None and session.run not in alive
        }
        return bool(lost) and self._ask(partial(_is_detach, lost))

    def detach_all(self) -> bool:
        """S3, and a lease is missed that was there."""
        attached = {name for name, at in self._world.oracle.sessions.items() if at.attached}
        return bool(attached) and self._ask(partial(_is_detach, attached))

    def expire(self) -> bool:
        """S4: some sessions are over."""
        world = self._world
        if world.is_over:
            return False
        detached = [
            name
            for name, session in world.oracle.sessions.items()
            if session.attached is None and session.is_kept and session.newest >= 0
        ]
        if not detached:
            return False
        over = self._chance.choice(detached)
        world.late_ms += EXPIRY_S * 1000
        return self._ask(lambda ask: isinstance(ask.fact, Claim) and ask.fact.client_id == over)

    def sweep(self) -> bool:
        """S4: look for what ended sessions have left."""
        found = False
        for number, share in enumerate(self._shares):
            share.claims.at_end(LEASE_MS, self._world.wall_ms)
            asked = share.claims.to_sweep(10)
            if asked:
                asks = share.claims.swept(asked, self._old_cuts(asked))
                self._append(number, asks)
                found |= bool(asks)
        return found

    def _old_cuts(self, ended: Mapping[str, int]) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for client_id, epoch in ended.items():
            for number, table in enumerate(self._world.database.queues):
                cut = table.cuts.get(client_id)
                if cut is not None and cut.epoch < epoch:
                    found.setdefault(client_id, []).append(number)
        return found

    def limit(self) -> bool:
        """S5: drop from queues that are over their limit."""
        world = self._world
        if not world.configuration.queue_max:
            return False
        found = False
        for number in range(len(self._shares)):
            # What the counts in the cuts say (S5) is about this.
            asked = self._overfull.look(self._totals(number), 0.1)
            rows = [world.database.queues[at.partition].oldest(at) for at in asked]
            asks = [ask for ask, _ in self._overfull.drops(asked, rows)]
            self._append(number, asks)
            found |= bool(asks)
        if found:
            world.ledger.note("dropped at the limit")
        return found

    def _totals(self, number: int) -> dict[str, QueueTotal]:
        """Return what waits for the clients of a partition that are over the limit."""
        totals: dict[str, QueueTotal] = {}
        for client in sorted({client.client_id for client in self._world.clients}):
            if partition_of(client, len(self._shares)) == number:
                tables = enumerate(self._world.database.queues)
                counts = {p: table.waiting(client) for p, table in tables}
                messages = sum(count.messages for count in counts.values())
                if messages > self._world.configuration.queue_max:
                    totals[client] = QueueTotal(messages, 0, counts)
        return totals

    def die(self) -> bool:
        """Be killed."""
        if self in self._world.sessions_workers:
            self._world.sessions_workers.remove(self)
            self._world.bury([*self._queues()])
        return True


def _is_detach(clients: set[str], ask: Ask) -> bool:
    return isinstance(ask.fact, Detach) and ask.fact.client_id in clients
