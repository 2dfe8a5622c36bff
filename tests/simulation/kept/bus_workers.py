"""Workers of one partition of the bus: the product's fold, and what a worker does around it."""

import random
from typing import Any

from tests.simulation.kept.database import LOG_ID, Holder, QueueTable, Write
from tests.simulation.kept.logs import SimWriter
from tests.support.edges import LATENESS_MS

from monstermq_shared.bus.facts import Gap
from monstermq_shared.bus.ports import Entry
from monstermq_shared.errors import StoreConflict
from monstermq_shared.sessions.distributed.queues.cuts import CutTable
from monstermq_shared.sessions.distributed.queues.fold import QueueFold
from monstermq_shared.stores.changes import Commit, Quarantined
from monstermq_shared.views.log_fold import LogFold, LogSettings
from monstermq_shared.views.view_set import ViewSet

UNANSWERED = 0.15
"""The share of COMMITs without an answer, where there are any; half of them were applied."""

ENTRIES = (1, 1, 1, 2, 5)
"""How many entries are folded at once."""


def _describe(entry: Entry, reason: str) -> Quarantined:
    raise AssertionError(f"nothing is quarantined here: {entry} {reason}")


LOG = LogSettings(log_id=LOG_ID, lateness_ms=LATENESS_MS, describe=_describe)


class BusWorker:
    """One worker.

    Args:
        world: Where it is.
        number: Of its partition.
        run: What its records carry, and its token.
        cuts: Those of its process.

    Attributes:
        cuts: See above.
    """

    def __init__(self, world: Any, number: int, run: bytes, cuts: CutTable) -> None:
        self.cuts = cuts
        self._world = world
        self._number = number
        self._chance: random.Random = world.chance
        self._table: QueueTable = world.database.queues[number]
        self._token = run.hex()
        self._writer = SimWriter(run, world.sessions, self._chance)
        stored = self._table.load()
        state = self._table.state
        self._holder: Holder = self._table.holder
        self._queues = QueueFold(number, cuts, state)
        self._queues.load(stored)
        self._fold = LogFold(
            *(LOG, ViewSet([], []), state.mark.restart, state), queues=self._queues
        )
        self._writes: list[Write] = []
        self._is_unanswered = False
        self._gap_to: int | None = None

    @property
    def _is_busy(self) -> bool:
        return bool(self._writes) or self._is_unanswered or self._gap_to is not None

    def read(self) -> bool:
        """Fold some entries."""
        world, fold = self._world, self._fold
        if self._is_busy:
            return False
        if fold.next_offset < world.first[self._number]:
            self._tell_of_gap()
            return True
        entries = world.messages.partitions[self._number]
        found = entries[fold.next_offset : fold.next_offset + self._chance.choice(ENTRIES)]
        for entry in found:
            self._queues.now_s += 1
            assert not [*fold.fold([entry])]
        return bool(found)

    def age(self) -> bool:
        """P6: the oldest entry of the window is older than T."""
        oldest = self._queues.window.oldest()
        if oldest is None or not self._world.is_aging or self._is_busy:
            return False
        if self._fold.next_offset < self._queues.begins:
            return False
        self._queues.age(oldest.read_s)
        return True

    # -- committing --------------------------------------------------------------------------------

    def commit(self) -> bool:
        """P5."""
        fold, table = self._fold, self._table
        if self._gap_to is not None:
            return self._cross_gap()
        if self._is_busy or fold.next_offset < self._queues.begins:
            return False
        is_moved = fold.next_offset > table.state.mark.reflected
        if not (self._queues.rows or is_moved or self._holder != table.holder):
            return False
        self._commit()
        return True

    def _commit(self) -> None:
        batch = self._fold.flush()
        assert batch.queues is not None, "N is reached"
        commit = Commit(
            upto=batch.upto,
            restart=batch.queues.restart,
            queues=batch.queues.changes,
            log=batch.state,
        )
        try:
            if self._world.configuration.without_transactions:
                self._writes = self._table.begin(commit, self._holder, self._token)
                self._holder = self._holder[0] + 2, self._token
            else:
                self._commit_at_once(commit)
        except StoreConflict:
            self.die()

    def _commit_at_once(self, commit: Commit) -> None:
        using, chance = self._world.configuration, self._chance
        self._table.refuse_others(self._holder)
        is_lost = using.unanswered and not self._world.is_over and chance.random() < UNANSWERED
        if not (is_lost and chance.random() < 0.5):
            self._table.commit(commit, self._holder, self._token)
            self._world.database.committed()
        self._holder = self._holder[0] + 1, self._token
        self._is_unanswered = is_lost

    def write(self) -> bool:
        """P8: do the next write of a commit."""
        if not self._writes:
            return False
        self._writes.pop(0)()
        return True

    def resolve(self) -> bool:
        """P5: the watermark says whether a COMMIT without an answer was applied."""
        if not self._is_unanswered:
            return False
        self._is_unanswered = False
        try:
            self._table.refuse_others(self._holder)
        except StoreConflict:
            self.die()
        return True

    # -- P7 ----------------------------------------------------------------------------------------

    def _tell_of_gap(self) -> None:
        world = self._world
        world.ledger.note("gap")
        self._gap_to = max(world.first[self._number], self._queues.begins)
        fact = Gap(partition=self._number, to=self._gap_to)
        for partition in range(self._writer.partitions):
            self._writer.append_facts(partition, [fact], world.wall_ms, None)

    def _cross_gap(self) -> bool:
        if any(self._writer.alive()):
            return False
        assert self._gap_to is not None
        self._fold.skip_to(self._gap_to)
        self._gap_to = None
        self._commit()
        return True

    def land(self) -> bool:
        """Let something that was appended land."""
        for queue in self._writer.alive():
            self._world.land(queue)
            return True
        return False

    def die(self) -> bool:
        """Be killed, or give up."""
        workers = self._world.workers[self._number]
        if self in workers:
            workers.remove(self)
            self.cuts.give_up(self._number)
            self._world.bury(self._writer.queues)
        return True
