"""Lanes: views that are committed together; apart, once the store has refused a record of one."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Protocol

from monstermq_shared.bus.runs import Runs
from monstermq_shared.errors import StoreConflict, StoreError
from monstermq_shared.positions import Mark, Partition
from monstermq_shared.stores.changes import Tenure
from monstermq_shared.stores.outages import COMMITS, Outage
from monstermq_shared.stores.ports import Database
from monstermq_shared.stores.queue_changes import QueueBatch, QueueGrowth
from monstermq_shared.views.catalogue import QUEUES
from monstermq_shared.views.committing import commit_until_done
from monstermq_shared.views.log_fold import Batch, FoldCounts, LogFold, LogSettings, Queues
from monstermq_shared.views.log_loading import Bounds, Loaded
from monstermq_shared.views.view_set import ViewSet

logger = logging.getLogger(__name__)

NO_VIEWS = ViewSet([], [])

LOADS = "loads"
"""What the database is asked before anything is committed."""


@dataclass(slots=True, kw_only=True)
class CommitCounts:
    """What was committed; every number only grows.

    Attributes:
        rows: Rows written.
        commits: Transactions that succeeded.
        failures: Those that failed and were repeated.
    """

    rows: int = 0
    commits: int = 0
    failures: int = 0


class QueueWork(Protocol):
    """The queues of kept sessions in a partition, as far as databases and other logs go."""

    async def begin(self, partition: Partition, mark: Mark) -> Queues:
        """Load them, and return what folds them.

        Raises:
            StoreConflict: Rows reflect another offset than the mark.
        """
        ...

    async def prepare(self, batch: QueueBatch) -> None:
        """Do what must be done before a batch is committed, and add to it what else is to be."""
        ...

    def committed(self, batch: QueueBatch, grown: Mapping[str, QueueGrowth]) -> None:
        """A batch was committed; the queues of clients have grown by so much."""
        ...

    async def tend(self) -> None:
        """See ``Work``."""
        ...


@dataclass(slots=True, kw_only=True)
class Lane:
    """Views that are committed together.

    Attributes:
        views: They.
        has_queues: Whether the queues are committed with them.
        tenure: The right to.
        starts: Projection -> the offset it begins at, of those that are ahead of the others.
        reflected: Up to where their rows reflect the log.
        stopped: Why nothing is committed any more; None if all is well.
    """

    views: ViewSet
    has_queues: bool
    tenure: Tenure
    starts: Mapping[str, int]
    reflected: int
    stopped: str | None = None

    @property
    def names(self) -> list[str]:
        """Whose marks its commits move."""
        return [*self.views.names, *([QUEUES] if self.has_queues else [])]


@dataclass(slots=True, kw_only=True)
class Lanes:
    """All views of one database, in one partition: the ``Work`` of their follower.

    Attributes:
        views: They.
        queues: Those of kept sessions, if that database has them.
        log: What is followed.
        database: Where they are.
        partition: Of the log.
        outage: Told of what fails.
        counts: What was committed.
        folds: What was met in the log.
        lanes: One, until the store refuses a record of a view.
        runs: What R1 knew behind the last batch that was committed.
    """

    views: ViewSet
    queues: QueueWork | None = None
    log: LogSettings
    database: Database
    partition: Partition
    outage: Outage
    counts: CommitCounts
    folds: FoldCounts
    lanes: list[Lane] = field(default_factory=list)
    runs: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def projections(self) -> Sequence[str]:
        """See ``Work``."""
        return [*self.views.names, *([] if self.queues is None else [QUEUES])]

    def starts(self, bounds: Bounds) -> dict[str, int]:
        """P1: views begin at the end, and queues where a session may have begun."""
        starts = dict.fromkeys(self.views.names, bounds.end)
        return starts if self.queues is None else {**starts, QUEUES: bounds.first}

    async def begin(self, loaded: Loaded) -> LogFold:
        """Begin with all views, and the queues, in one lane."""
        marks, begin = loaded.tenure.marks, loaded.begin
        starts = {
            name: marks[name].reflected
            for name in self.views.names
            if marks[name].reflected > begin
        }
        lane = Lane(
            views=self.views,
            has_queues=self.queues is not None,
            tenure=loaded.tenure,
            starts=starts,
            reflected=begin,
        )
        self.lanes, self.runs = [lane], loaded.lowest.runs
        if self.queues is None:
            return LogFold(self.log, self.views, begin, loaded.lowest, self.folds)
        mark = marks[QUEUES]
        if mark.reflected > begin:
            # What is committed for views that are behind says nothing of the queues.
            await self._part(lane)
        load = partial(self.queues.begin, self.partition, mark)
        queues = await self.outage.repeat(LOADS, load, self._count_failure)
        restart = min(begin, mark.restart)
        return LogFold(self.log, self.views, restart, loaded.lowest, self.folds, queues)

    async def _part(self, lane: Lane) -> None:
        """Give the queues a lane of their own."""
        self.lanes = [
            await self._single(lane, self.views, has_queues=False),
            await self._single(lane, NO_VIEWS, has_queues=True),
        ]

    @property
    def tenures(self) -> Sequence[Tenure]:
        """The rights of all lanes."""
        return [lane.tenure for lane in self.lanes]

    @property
    def stopped(self) -> list[str]:
        """Why views are not committed any more."""
        return [lane.stopped for lane in self.lanes if lane.stopped is not None]

    @property
    def all_stopped(self) -> bool:
        """Whether no view is committed any more."""
        return all(lane.stopped is not None for lane in self.lanes)

    def reflected(self) -> dict[str, int]:
        """Return projection -> up to where its rows reflect the log."""
        return {
            name: max(lane.reflected, lane.starts.get(name, 0))
            for lane in self.lanes
            for name in lane.names
        }

    gap_remedy: ClassVar[None] = None

    async def at_end(self, elapsed_s: float) -> None:
        """Do nothing: neither views nor queues wait for that."""

    async def tend(self) -> None:
        """See ``Work``: only queues have something to tend."""
        if self.queues is not None:
            await self.queues.tend()
        await asyncio.Event().wait()

    async def commit(self, batch: Batch) -> None:
        """Commit a batch in every lane, again and again while the database is unavailable.

        A view whose record the store refuses is stopped; the others go on.

        Raises:
            StoreConflict: The tenure is over.
        """
        for lane in list(self.lanes):
            if lane.stopped is None and batch.upto >= lane.reflected:
                await self._commit_lane(lane, batch)
        self.runs = batch.state.runs

    async def _commit_lane(self, lane: Lane, batch: Batch) -> None:
        try:
            await self._write(lane, batch)
        except StoreConflict:
            raise
        except StoreError as exc:
            await self._refused(lane, batch, exc)

    async def _write(self, lane: Lane, batch: Batch) -> None:
        commit = lane.views.fold(batch.records, batch.upto, lane.starts)
        # Every lane brings what is no record: whoever comes first puts it there.
        commit.log, commit.quarantined = batch.state, batch.quarantined
        queues = batch.queues if lane.has_queues else None
        if queues is not None and self.queues is not None:
            await self.queues.prepare(queues)
            commit.queues, commit.restart = queues.changes, queues.restart
        elif lane.has_queues:
            # They are not read up to their mark yet.
            return
        result = await commit_until_done(
            self.database, lane.tenure, commit, self.outage, self._count_failure
        )
        if queues is not None and self.queues is not None:
            self.queues.committed(queues, result.grown)
        lane.reflected = commit.upto
        lane.starts = {name: at for name, at in lane.starts.items() if at > commit.upto}
        self.counts.commits += 1
        self.counts.rows += commit.rows

    def _count_failure(self) -> None:
        self.counts.failures += 1

    # -- what the store refuses ------------------------------------------------------------------

    async def _refused(self, lane: Lane, batch: Batch, error: StoreError) -> None:
        """Part the views, so that only the one whose record is refused stops (V1)."""
        parts = [(views, False) for views in lane.views.each()]
        if lane.has_queues:
            parts.append((NO_VIEWS, True))
        if len(parts) == 1:
            await self._stop(lane, batch, error)
            return
        logger.warning(
            "partition %d: the database refuses a commit; its views (%s) are committed one by one "
            "from now on: %s",
            self.partition.number,
            ", ".join(lane.names),
            error,
        )
        self.lanes.remove(lane)
        for views, has_queues in parts:
            single = await self._single(lane, views, has_queues=has_queues)
            self.lanes.append(single)
            await self._commit_lane(single, batch)

    async def _single(self, lane: Lane, views: ViewSet, *, has_queues: bool) -> Lane:
        """Return a lane of its own for some of a lane.

        Raises:
            StoreConflict: Somebody else has gone on where the lane stands.
        """
        names = [*views.names, *([QUEUES] if has_queues else [])]
        starts = {each: at for each, at in lane.starts.items() if each in names}
        begin = partial(self.database.begin, self.partition, names)
        tenure = await self.outage.repeat(COMMITS, begin, self._count_failure)
        reflected = lane.reflected
        for name, mark in tenure.marks.items():
            # Those of a lane that begins may be ahead of it.
            before = lane.tenure.marks.get(name, mark).reflected
            if mark.reflected != max(reflected, starts.get(name, 0), before):
                raise StoreConflict(f"another process has committed {name} meanwhile")
        if has_queues:
            reflected = max(reflected, tenure.marks[QUEUES].reflected)
        return Lane(
            views=views,
            has_queues=has_queues,
            tenure=tenure,
            starts=starts,
            reflected=reflected,
        )

    async def _stop(self, lane: Lane, batch: Batch, error: StoreError) -> None:
        """Commit what is below the refused record, and name that."""
        (name,) = lane.names
        done, refused = 0, len(batch.records)
        known = Runs.load(self.runs, self.log.lateness_ms)
        while refused - done > 1 and not lane.has_queues:
            middle, runs = (done + refused) // 2, known.copy()
            try:
                await self._write(lane, batch.between(done, middle, runs))
            except StoreConflict:
                raise
            except StoreError as exc:
                refused, error = middle, exc
            else:
                done, known = middle, runs
        number = self.partition.number
        where = f"the marks at {number}:{batch.upto}"
        if batch.records and not lane.has_queues:
            record = batch.records[done]
            where = f"position {number}:{record.offset} (topic {record.topic!r:.200})"
        lane.stopped = f"{name} is stopped: the database refuses {where}: {error}"
        logger.error("%s", lane.stopped)
