"""E2: a kept session as of a claim: the rows of its worker, and the facts that they do not show.

Every edge keeps the session facts that the rows do not reflect yet. They are few: the worker is
asked every second how far it has come.
"""

from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from monstermq_shared.bus.facts import Claim, Detach, Fact, Open, Subs
from monstermq_shared.counters import Counters
from monstermq_shared.sessions.distributed.session_state import SessionState
from monstermq_shared.stores.queues import KeptRows

READ_MAX = 500
"""Clients of one partition whose rows are read at once."""

_FACT_SIZE = 400
"""Bytes that a fact takes beside its texts, about."""

Known = Callable[[SessionState | None], None]
"""Called with the session as of the claim; None: it cannot be known now, or has been taken over."""


class _Kept:
    """The facts of one partition.

    Attributes:
        begin: The offset of the first record whose facts are all here; at least what rows must
            reflect, so that nothing is missing between them and what is here.
        facts: Client -> (offset, fact, time in ms), the oldest first.
        order: (offset, client, size) of every fact, the oldest first.
        size: Bytes of all of them, about.
    """

    __slots__ = ("begin", "facts", "order", "size")

    def __init__(self) -> None:
        self.begin = 0
        self.facts: dict[str, deque[tuple[int, Fact, int]]] = {}
        self.order: deque[tuple[int, str, int]] = deque()
        self.size = 0

    def add(self, offset: int, fact: Claim | Subs | Open | Detach, time_ms: int) -> None:
        client_id, size = fact.client_id, _size_of(fact)
        self.facts.setdefault(client_id, deque()).append((offset, fact, time_ms))
        self.order.append((offset, client_id, size))
        self.size += size

    def forget_first(self) -> None:
        _, client_id, size = self.order.popleft()
        self.size -= size
        facts = self.facts[client_id]
        facts.popleft()
        if not facts:
            del self.facts[client_id]


class _Asked:
    """Somebody who wants to know a session as of a claim."""

    __slots__ = ("client_id", "epoch", "known", "was_early")

    def __init__(self, client_id: str, epoch: int, known: Known) -> None:
        self.client_id = client_id
        self.epoch = epoch
        self.known = known
        self.was_early = False


class KeptStates:
    """All kept sessions, as far as an edge can know them.

    Args:
        partitions: Of the sessions log.
        size_max: Bytes of facts that are kept in all. Beyond it those of a partition are dropped,
            and its sessions are refused until their worker has caught up.
        counters: What is counted.
        served: Kept sessions are served. Else nobody asks, and nothing is kept for them: without
            marks of the rows it would only grow.

    Attributes:
        is_down: The database does not answer: nobody's rows can be read.
    """

    def __init__(
        self, partitions: int, size_max: int, counters: Counters, *, served: bool = True
    ) -> None:
        self.is_down = False
        self._served = served
        self._size_max = size_max
        self._counters = counters
        self._kept = [_Kept() for _ in range(partitions)]
        self._reflected = [0] * partitions
        self._wanted: list[list[_Asked]] = [[] for _ in range(partitions)]
        self._reading: list[list[_Asked]] = [[] for _ in range(partitions)]

    def begin(self, positions: Mapping[int, int]) -> None:
        """Reading of the sessions log begins here, where the rows are (E1)."""
        for partition, offset in positions.items():
            self._kept[partition].begin = self._reflected[partition] = offset

    @property
    def size(self) -> int:
        """Bytes of the facts that are kept, about."""
        return sum(kept.size for kept in self._kept)

    # -- facts -----------------------------------------------------------------------------------

    def take(self, partition: int, offset: int, fact: Fact, time_ms: int) -> None:
        """Keep a fact that was read, if it says anything of a session."""
        if not (self._served and isinstance(fact, Claim | Subs | Open | Detach)):
            return
        if isinstance(fact, Claim) and fact.will is not None:
            fact = replace(fact, will=None)  # it concerns the worker alone
        kept = self._kept[partition]
        kept.add(offset, fact, time_ms)
        if kept.size > self._size_max // len(self._kept):
            self._drop(kept, offset + 1)

    def _drop(self, kept: _Kept, begin: int) -> None:
        self._counters.session_overlay_drops += 1
        while kept.order:
            kept.forget_first()
        kept.begin = begin

    def reflected(self, positions: Mapping[int, int]) -> None:
        """The rows reflect the sessions log up to here."""
        for partition, upto in positions.items():
            self._reflected[partition] = upto
            kept = self._kept[partition]
            while kept.order and kept.order[0][0] < upto:
                kept.forget_first()
            kept.begin = max(kept.begin, upto)

    def why_not(self, partition: int) -> str:
        """Return why no kept session of a partition can be served now; empty if they can be."""
        if self.is_down:
            return "the database with the sessions does not answer"
        if self._reflected[partition] < self._kept[partition].begin:
            return f"the worker of sessions is behind in partition {partition}"
        return ""

    @property
    def behind(self) -> list[int]:
        """Partitions whose kept sessions cannot be served until their worker has caught up."""
        return [
            partition
            for partition, kept in enumerate(self._kept)
            if self._reflected[partition] < kept.begin
        ]

    # -- states ----------------------------------------------------------------------------------

    def ask(self, partition: int, client_id: str, epoch: int, known: Known) -> None:
        """Find out what a session is as of a claim that was read, and call ``known``."""
        self._wanted[partition].append(_Asked(client_id, epoch, known))

    def take_reads(self) -> dict[int, list[str]]:
        """Return partition -> clients whose rows are to be read, for ``rows``; each once."""
        reads: dict[int, list[str]] = {}
        for partition, wanted in enumerate(self._wanted):
            if wanted and not self._reading[partition]:
                self._reading[partition] = wanted[:READ_MAX]
                self._wanted[partition] = wanted[READ_MAX:]
                clients = dict.fromkeys(asked.client_id for asked in self._reading[partition])
                reads[partition] = [*clients]
        return reads

    def rows(self, partition: int, client_ids: Collection[str], found: KeptRows) -> None:
        """Bring the rows that were read of these clients."""
        asked, self._reading[partition] = self._reading[partition], []
        kept, upto = self._kept[partition], found.mark.reflected
        read = frozenset(client_ids)
        for each in asked:
            if each.client_id not in read:
                # The read that answers was given up on, and somebody else waits since.
                self._wanted[partition].append(each)
                continue
            is_early = upto <= each.epoch and upto < kept.begin <= self._reflected[partition]
            if is_early and not each.was_early:
                # They may have been read before facts were forgotten, and then there are newer.
                each.was_early = True
                self._wanted[partition].append(each)
            else:
                each.known(self._state(partition, each, found))

    def give_up(self) -> None:
        """The database does not answer: whoever waits is told that nobody knows."""
        self.is_down = True
        for waiting in (self._reading, self._wanted):
            for partition, asked in enumerate(waiting):
                waiting[partition] = []
                for each in asked:
                    each.known(None)

    def _state(self, partition: int, asked: _Asked, found: KeptRows) -> SessionState | None:
        kept, upto = self._kept[partition], found.mark.reflected
        row = found.rows.get(asked.client_id)
        state = SessionState() if row is None else SessionState.of_row(row)
        if upto <= asked.epoch:
            if upto < kept.begin:
                return None  # what is in between is nowhere
            for offset, fact, time_ms in kept.facts.get(asked.client_id, ()):
                if upto <= offset <= asked.epoch:
                    state.take(fact, offset, time_ms)
        # Rows that are ahead say the same, or that somebody else has it now.
        return state if state.epoch == asked.epoch and state.attached else None


def _size_of(fact: Claim | Subs | Open | Detach) -> int:
    size = _FACT_SIZE + len(fact.client_id)
    if isinstance(fact, Subs):
        size += sum(100 + len(name) for name, _, _ in fact.add)
        size += sum(50 + len(name) for name in fact.remove)
    elif isinstance(fact, Detach):
        size += 32 * len(fact.in_flight or ()) + 120 * len(fact.sent or ())
    return size
