"""The fold of one partition of the sessions log: entries in, what a worker commits out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from monstermq_shared.bus.fact_reading import SESSION_KINDS, facts_of
from monstermq_shared.bus.facts import Claim, Fact, Subs
from monstermq_shared.bus.header import FOREIGN_FLAGS
from monstermq_shared.bus.ports import Entry
from monstermq_shared.bus.runs import Runs
from monstermq_shared.errors import InvalidRecord
from monstermq_shared.sessions.distributed.claims import Claims
from monstermq_shared.sessions.distributed.session_asks import ClaimsBatch
from monstermq_shared.stores.changes import LogState, Quarantined, StoredLogState
from monstermq_shared.views.log_fold import FoldCounts, LogSettings, id_of

FACTS_MAX = 5_000
"""Facts, and filters in them, after which a batch ends (P5): each changes at most one row."""

SIZE_MAX = 4 * 1024 * 1024
"""Bytes of wills, and of what is quarantined, after which it ends as well."""


@dataclass(slots=True, kw_only=True)
class SessionsBatch:
    """What is committed together, once what it asks for is appended.

    Attributes:
        upto: The next offset: what the mark becomes.
        claims: What has come of the facts.
        quarantined: What is no record.
        state: What is kept with the mark.
        oldest_ms: The time of the first entry in it, -1 if there is none.
    """

    upto: int
    claims: ClaimsBatch
    quarantined: Sequence[Quarantined]
    state: LogState
    oldest_ms: int


class SessionsFold:
    """Folds one partition; see ``log_work.Fold``.

    Args:
        log: The log.
        claims: The sessions, as their rows say.
        next_offset: Where it begins.
        kept: What was kept there (R1).
        counts: Where what it meets is counted.

    Attributes:
        next_offset: The offset of the next entry.
        oldest_ms: The time of the first entry that no batch has yet, -1 if there is none.
    """

    def __init__(
        self,
        log: LogSettings,
        claims: Claims,
        next_offset: int,
        kept: StoredLogState,
        counts: FoldCounts,
    ) -> None:
        self.next_offset = next_offset
        self.oldest_ms = -1
        self._log = log
        self._claims = claims
        self._counts = counts
        self._runs = Runs.load(kept.runs, log.lateness_ms)
        self._last: Entry | str | None = kept.last_id
        self._quarantined: list[Quarantined] = []
        self._facts = 0
        self._size = 0

    @property
    def last_id(self) -> str | None:
        """``id_of`` the entry below ``next_offset``; None if that is not known."""
        last = self._last
        return last if last is None or isinstance(last, str) else id_of(last)

    @property
    def holds_rows(self) -> bool:
        """Whether ``flush`` would give more than marks."""
        return self._claims.holds_changes or bool(self._quarantined)

    waits = False
    known = None

    def tick(self, now_s: float) -> Sequence[SessionsBatch]:
        """Return nothing: what waits for time waits for ``Claims.at_end``."""
        return ()

    def fold(self, entries: Sequence[Entry]) -> Iterator[SessionsBatch]:
        """Take the next entries; yield the batches that become full.

        Raises:
            UnknownFact: It must stop at ``next_offset`` (R6); what is below may be flushed.
        """
        for entry in entries:
            self._take(entry)
            self._last = entry
            self.next_offset = entry.offset + 1
            self._counts.records += 1
            if self._facts >= FACTS_MAX or self._size >= SIZE_MAX:
                yield self.flush()

    def flush(self) -> SessionsBatch:
        """Return the batch of what there is, and begin another."""
        batch = SessionsBatch(
            upto=self.next_offset,
            claims=self._claims.flush(),
            quarantined=self._quarantined,
            state=LogState(log_id=self._log.log_id, last_id=self.last_id, runs=self._runs.dump()),
            oldest_ms=self.oldest_ms,
        )
        self._quarantined, self._facts, self._size, self.oldest_ms = [], 0, 0, -1
        return batch

    def skip_to(self, offset: int) -> None:
        """Go on at an offset above."""
        self.next_offset = offset
        self._last = None

    def _take(self, entry: Entry) -> None:
        if self.oldest_ms < 0:
            # Kafka takes records without a time, too, which is -1.
            self.oldest_ms = max(0, entry.time_ms)
        if entry.flags == FOREIGN_FLAGS:
            self._quarantine(entry)
            return
        # Before R1 notes it: what stops the partition has to count when it is read again.
        facts = facts_of(entry, SESSION_KINDS)
        if self._runs.is_new(entry.writer, entry.sequence, entry.time_ms):  # R1
            self._claims.take(facts, entry.offset, entry.time_ms)
            self._facts += sum(map(_weight_of, facts))
            self._size += sum(map(_size_of, facts))
        else:
            self._counts.doubles += 1

    def _quarantine(self, entry: Entry) -> None:
        self._counts.quarantined += 1
        try:
            entry.record()
            reason = "not a record of this broker"
        except InvalidRecord as exc:
            reason = str(exc)
        record = self._log.describe(entry, reason)
        self._quarantined.append(record)
        self._facts += 1
        self._size += len(record.key) + len(record.value)


def _weight_of(fact: Fact) -> int:
    """Return how many rows it changes, about."""
    return max(1, len(fact.add) + len(fact.remove)) if isinstance(fact, Subs) else 1


def _size_of(fact: Fact) -> int:
    """Return the bytes that a row gets large by."""
    if isinstance(fact, Claim) and fact.will is not None:
        return len(fact.will.payload)
    return 0
