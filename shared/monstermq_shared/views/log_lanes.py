"""Lanes: views that are committed together; apart, once the store has refused a record of one."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

from monstermq_shared.bus.runs import Runs
from monstermq_shared.errors import StoreConflict, StoreError
from monstermq_shared.positions import Partition
from monstermq_shared.stores.changes import Tenure
from monstermq_shared.stores.outages import COMMITS, Outage
from monstermq_shared.stores.ports import Database
from monstermq_shared.views.committing import commit_until_done
from monstermq_shared.views.log_fold import Batch, FoldCounts, LogFold, LogSettings
from monstermq_shared.views.log_loading import Loaded
from monstermq_shared.views.view_set import ViewSet

logger = logging.getLogger(__name__)


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


@dataclass(slots=True, kw_only=True)
class Lane:
    """Views that are committed together.

    Attributes:
        views: They.
        tenure: The right to.
        starts: Projection -> the offset it begins at, of those that are ahead of the others.
        reflected: Up to where their rows reflect the log.
        stopped: Why nothing is committed any more; None if all is well.
    """

    views: ViewSet
    tenure: Tenure
    starts: Mapping[str, int]
    reflected: int
    stopped: str | None = None


@dataclass(slots=True, kw_only=True)
class Lanes:
    """All views of one database, in one partition: the ``Work`` of their follower.

    Attributes:
        views: They.
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
        return self.views.names

    async def begin(self, loaded: Loaded) -> LogFold:
        """Begin with all views in one lane."""
        marks, begin = loaded.tenure.marks, loaded.begin
        starts = {name: at.reflected for name, at in marks.items() if at.reflected > begin}
        lane = Lane(views=self.views, tenure=loaded.tenure, starts=starts, reflected=begin)
        self.lanes, self.runs = [lane], loaded.lowest.runs
        return LogFold(self.log, self.views, begin, loaded.lowest, self.folds)

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
            for name in lane.views.names
        }

    gap_remedy: ClassVar[None] = None
    begins_at_end = True

    async def at_end(self, elapsed_s: float) -> None:
        """Do nothing: no view waits for time to pass."""

    async def commit(self, batch: Batch) -> None:
        """Commit a batch in every lane, again and again while the database is unavailable.

        A view whose record the store refuses is stopped; the others go on.

        Raises:
            StoreConflict: The tenure is over.
        """
        for lane in list(self.lanes):
            if lane.stopped is None:
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
        await commit_until_done(
            self.database, lane.tenure, commit, self.outage, self._count_failure
        )
        lane.reflected = commit.upto
        lane.starts = {name: at for name, at in lane.starts.items() if at > commit.upto}
        self.counts.commits += 1
        self.counts.rows += commit.rows

    def _count_failure(self) -> None:
        self.counts.failures += 1

    # -- what the store refuses ------------------------------------------------------------------

    async def _refused(self, lane: Lane, batch: Batch, error: StoreError) -> None:
        """Part the views, so that only the one whose record is refused stops (V1)."""
        views = lane.views.each()
        if len(views) == 1:
            await self._stop(lane, batch, error)
            return
        logger.warning(
            "partition %d: the database refuses a commit; its views (%s) are committed one by one "
            "from now on: %s",
            self.partition.number,
            ", ".join(lane.views.names),
            error,
        )
        self.lanes.remove(lane)
        for view in views:
            single = await self._single(lane, view)
            self.lanes.append(single)
            await self._commit_lane(single, batch)

    async def _single(self, lane: Lane, views: ViewSet) -> Lane:
        """Return a lane of its own for one view of a lane.

        Raises:
            StoreConflict: Somebody else has gone on where the lane stands.
        """
        (name,) = views.names
        starts = {each: at for each, at in lane.starts.items() if each == name}
        begin = partial(self.database.begin, self.partition, views.names)
        tenure = await self.outage.repeat(COMMITS, begin, self._count_failure)
        mark = tenure.marks.get(name)
        if mark is not None and mark.reflected != max(lane.reflected, starts.get(name, 0)):
            raise StoreConflict(f"another process has committed {name} meanwhile")
        return Lane(views=views, tenure=tenure, starts=starts, reflected=lane.reflected)

    async def _stop(self, lane: Lane, batch: Batch, error: StoreError) -> None:
        """Commit what is below the refused record, and name that."""
        (name,) = lane.views.names
        done, refused = 0, len(batch.records)
        known = Runs.load(self.runs, self.log.lateness_ms)
        while refused - done > 1:
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
        if batch.records:
            record = batch.records[done]
            where = f"position {number}:{record.offset} (topic {record.topic!r:.200})"
        lane.stopped = f"{name} is stopped: the database refuses {where}: {error}"
        logger.error("%s", lane.stopped)
