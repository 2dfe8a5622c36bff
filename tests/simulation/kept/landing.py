"""What lands of what was appended: in order per writer and partition, late, twice, or never."""

import random

from tests.simulation.kept.configurations import Configuration
from tests.simulation.kept.edges import SimEdge
from tests.simulation.kept.ledger import Ledger
from tests.simulation.kept.logs import Log, Queue
from tests.simulation.kept.oracle import Oracle

from monstermq_shared.bus.facts import Release

SESSIONS_PARTITIONS = 2

DOUBLED = 0.08
"""How often an append is made again although it has landed, where that happens."""

STANDS = 0.3
"""How often a record stands that is refused for ever."""

LATE_RELEASES = 0.12
"""How often the release of a dead edge lands, where that is to be late."""


class Landing:
    """Both logs, and what is on its way there.

    Attributes:
        ledger: What was written down.
        oracle: What the logs say.
        messages: The bus.
        sessions: The sessions log.
        is_over: Nothing happens any more but what has to.
        land_rate: Of the appends of the fastest edge.
    """

    def __init__(self, configuration: Configuration, chance: random.Random) -> None:
        self.configuration = configuration
        self.chance = chance
        count = configuration.partitions or chance.choice((1, 2, 3))
        self.ledger = Ledger()
        self.oracle = Oracle(self.ledger, count, SESSIONS_PARTITIONS)
        self.messages = Log("messages", count)
        self.sessions = Log("sessions", SESSIONS_PARTITIONS)
        self.is_over = False
        self.land_rate = 3 if configuration.lagging else configuration.land_rate
        # What dead writers had on their way.
        self._dead: list[Queue] = []

    def land(self, queue: Queue) -> None:
        """Let the first append of a queue come to stand in the log, and its writer know."""
        pending = queue.pending.popleft()
        copies = [pending]
        if self.configuration.doubled and not self.is_over and self.chance.random() < DOUBLED:
            # Its writer did not hear of it, and has made it again.
            self.ledger.note("doubled")
            if self.chance.random() < 0.5:
                copies.append(pending)
            else:
                again = Queue(queue.log, queue.partition, queue.run, None)
                again.pending.append(pending)
                self._dead.append(again)
        for copied in copies:
            entries = queue.log.write(queue.partition, copied, queue.run, self.ledger.step)
            if queue.log is self.messages:
                self.oracle.messages_landed(queue.partition, entries)
            else:
                self.oracle.sessions_landed(queue.partition, entries)
        if queue.writer is not None:
            queue.writer.landed.append(pending)

    def land_of(self, edge: SimEdge, log: str, partition: int) -> bool:
        """Let the next append of an edge land, or be refused."""
        queue = (edge.messages if log == "messages" else edge.facts).queues[partition]
        if not queue.pending:
            return False
        using, chance = self.configuration, self.chance
        if not self.is_over:
            if edge.land_rate < self.land_rate * chance.random():
                return False
            if using.refused and chance.random() < using.refused:
                # R1: nothing else of the partition is with the producer; the same is made again.
                self.ledger.note("refused")
                return True
            if using.too_old and chance.random() < using.too_old:
                self._refuse(edge, queue)
                return True
        self.land(queue)
        return True

    def _refuse(self, edge: SimEdge, queue: Queue) -> None:
        """Refuse an append for ever, though an earlier try of it may stand (R1)."""
        pending = queue.pending[0]
        if self.chance.random() < STANDS:
            writer, queue.writer = queue.writer, None
            self.land(queue)
            queue.writer = writer
        else:
            queue.pending.popleft()
        edge.refused(pending.tickets)

    def land_dead(self, index: int) -> bool:
        """Let an append of a dead writer land."""
        if index >= len(self._dead):
            return False
        queue = self._dead[index]
        first = queue.pending[0].facts
        is_late = self.configuration.late_releases and not self.is_over
        is_release = bool(first) and isinstance(first[0], Release)
        if is_late and is_release and self.chance.random() > LATE_RELEASES:
            return False
        self.land(queue)
        if not queue.pending:
            del self._dead[index]
        return True

    def lose_dead(self, index: int) -> bool:
        """Let what a dead writer had on its way to a partition be lost."""
        if index >= len(self._dead) or self.configuration.late_releases:
            return False
        del self._dead[index]
        return True

    def bury(self, queues: list[Queue]) -> None:
        """A writer is dead; what it had on its way may land yet."""
        for queue in queues:
            if queue.pending:
                queue.writer = None
                self._dead.append(queue)
