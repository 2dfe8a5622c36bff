"""What a follower of a log works with: the fold and the work of one partition, and its desk."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from monstermq_shared.bus.ports import Entry
from monstermq_shared.errors import MonsterError
from monstermq_shared.stores.changes import Tenure
from monstermq_shared.stores.outages import Outage
from monstermq_shared.views.log_loading import Bounds, Loaded, LogSource, SharedDatabase
from monstermq_shared.views.log_tenures import Holders


@dataclass(slots=True, kw_only=True)
class GapCounts:
    """What was missing; every number only grows.

    Attributes:
        gaps: Times retention had overtaken a partition (P7).
        missed: Records that may have been missed so.
        reread: Times a hole was read again.
    """

    gaps: int = 0
    missed: int = 0
    reread: int = 0


class AnyBatch(Protocol):
    """What is committed together.

    Attributes:
        oldest_ms: The time of the first entry in it, -1 if there is none.
    """

    oldest_ms: int


B = TypeVar("B", bound=AnyBatch)
B_co = TypeVar("B_co", bound=AnyBatch, covariant=True)


class Fold(Protocol[B_co]):
    """What becomes of entries, see ``log_fold.LogFold``.

    Attributes:
        next_offset: The offset of the next entry.
    """

    next_offset: int

    @property
    def last_id(self) -> str | None:
        """``id_of`` the entry below ``next_offset``; None if that is not known."""
        ...

    @property
    def oldest_ms(self) -> int:
        """The time of the first entry that no batch has yet, -1 if there is none."""
        ...

    @property
    def holds_rows(self) -> bool:
        """Whether ``flush`` would give more than marks."""
        ...

    @property
    def waits(self) -> bool:
        """Whether something becomes rows by time alone: then ``tick`` is called now and then."""
        ...

    @property
    def known(self) -> tuple[int, str] | None:
        """(offset, ``id_of``) of an entry from ``next_offset`` on that was read before (P1)."""
        ...

    def tick(self, now_s: float) -> Iterable[B_co]:
        """It is so late, monotonic; return the batches that become full by that."""
        ...

    def fold(self, entries: Sequence[Entry]) -> Iterator[B_co]:
        """Take the next entries; yield the batches that become full.

        Raises:
            UnknownFact: It must stop at ``next_offset`` (R6); what is below may be flushed.
        """
        ...

    def flush(self) -> B_co:
        """Return the batch of what there is, and begin another."""
        ...

    def skip_to(self, offset: int) -> None:
        """Go on at an offset above."""
        ...


class Work(Protocol[B]):
    """What is done with one partition: ``log_lanes.Lanes``, for views."""

    @property
    def gap_remedy(self) -> str | None:
        """What to do where retention has overtaken it, for there it stops; None: it goes on."""
        ...

    @property
    def projections(self) -> Sequence[str]:
        """Whose marks are moved."""
        ...

    def starts(self, bounds: Bounds) -> Mapping[str, int]:
        """Return where each of them begins that has no mark yet (P1)."""
        ...

    async def begin(self, loaded: Loaded) -> Fold[B]:
        """Forget everything, and return the fold that begins where the marks stand.

        Raises:
            StoreConflict: Somebody else does the work now.
        """
        ...

    async def commit(self, batch: B) -> None:
        """Do what a batch asks for, again and again until it is done.

        Raises:
            StoreConflict: Somebody else does the work now.
        """
        ...

    async def at_end(self, elapsed_s: float) -> None:
        """For so long there was no more in the log than was folded; called now and then.

        Only time in which the log answered counts.
        """
        ...

    async def tend(self) -> None:
        """Do what is to be done beside, for as long as it is begun; it never returns."""
        ...

    @property
    def tenures(self) -> Sequence[Tenure]:
        """The rights that it commits with."""
        ...

    @property
    def stopped(self) -> list[str]:
        """What of it does not go on until somebody acts, and why."""
        ...

    @property
    def all_stopped(self) -> bool:
        """Whether none of it goes on."""
        ...

    def reflected(self) -> dict[str, int]:
        """Return projection -> up to where its rows reflect the partition."""
        ...


@dataclass(slots=True, kw_only=True)
class Desk:
    """What the followers of all partitions share.

    Attributes:
        name: What is followed for whom, as the log names it.
        log_id: Which log it is.
        database: Where the rows are.
        source: The log, to be asked and directed.
        fail: Told of an error after which the process must end.
        outage: What fails of the database.
        log_outage: What fails of the log.
        retry_s: How long a partition that was given up rests, before it is loaded again if it is
            still ours: whoever has it now is told of that by the group meanwhile.
        gaps: What was missing.
        ends: Partition -> the log's end as it was last seen, emptied while the log does not answer.
        answered_s: When that was, by the loop's clock.
        holders: Who has the projections, as the database said last.
        holders_s: When it was asked.
    """

    name: str
    log_id: str
    database: SharedDatabase
    source: LogSource
    fail: Callable[[MonsterError], None]
    outage: Outage
    log_outage: Outage
    retry_s: float
    gaps: GapCounts = field(default_factory=GapCounts)
    ends: dict[int, int] = field(default_factory=dict)
    answered_s: float = 0.0
    holders: Holders = field(default_factory=dict)
    holders_s: float = 0.0

    def answered(self, ends: Mapping[int, int], now_s: float) -> None:
        """The log has said where its partitions end."""
        self.ends.update(ends)
        self.answered_s = now_s

    def held(self, holders: Holders, asked_s: float) -> None:
        """The database has said who has the projections."""
        self.holders, self.holders_s = holders, asked_s
