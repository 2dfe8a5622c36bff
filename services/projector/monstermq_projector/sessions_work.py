"""The worker of the sessions log: what is done with one partition of it (S1 to S3)."""

import logging
from collections.abc import Sequence
from functools import partial

from monstermq_projector.sessions_appends import SessionsAppends
from monstermq_projector.sessions_fold import SessionsBatch, SessionsFold
from monstermq_shared.errors import StoreConflict
from monstermq_shared.positions import Partition
from monstermq_shared.sessions.distributed.claims import Claims
from monstermq_shared.stores.changes import Commit, StoredSession, Tenure
from monstermq_shared.views.catalogue import SESSIONS
from monstermq_shared.views.committing import commit_until_done
from monstermq_shared.views.log_fold import FoldCounts, LogSettings
from monstermq_shared.views.log_lanes import CommitCounts
from monstermq_shared.views.log_loading import Loaded
from monstermq_shared.views.log_work import Desk

logger = logging.getLogger(__name__)

ELAPSED_S_MAX = 2.0
"""What counts at most as time in which the log was read, from one look to the next: a process that
was stopped for an hour has not heard whether edges live."""


class SessionsWork:
    """Does the work of one partition; see ``log_work.Work``.

    Args:
        log: What is followed.
        partition: Of it.
        desk: What all partitions share.
        appends: Where wills and detaches go.
        lease_s: How long an edge may be silent that has said nothing yet.

    Attributes:
        folds: What was met in the log.
        counts: What was committed.
    """

    gap_remedy = "to go on without them, run monstermq db skip-gap, and start the projector again"
    begins_at_end = False
    projections: Sequence[str] = (SESSIONS,)
    all_stopped = False

    def __init__(
        self,
        log: LogSettings,
        partition: Partition,
        desk: Desk,
        appends: SessionsAppends,
        lease_s: float,
    ) -> None:
        self.folds = FoldCounts()
        self.counts = CommitCounts()
        self.stopped: list[str] = []
        self._log = log
        self._partition = partition
        self._desk = desk
        self._appends = appends
        self._lease_ms = int(lease_s * 1000)
        self._claims: Claims | None = None
        self._tenure: Tenure | None = None
        self._reflected: dict[str, int] = {}

    async def begin(self, loaded: Loaded) -> SessionsFold:
        """Load the sessions, and return the fold that begins where the mark stands."""
        load = partial(self._load, loaded.begin)
        stored = await self._desk.outage.repeat("loads", load, self._count_failure)
        claims = self._claims = Claims(stored, self._lease_ms)
        self._tenure = loaded.tenure
        self._reflected = {SESSIONS: loaded.begin}
        logger.debug(
            "%s: partition %d has %d sessions", self._desk.name, self._partition.number, len(claims)
        )
        return SessionsFold(self._log, claims, loaded.begin, loaded.lowest, self.folds)

    async def _load(self, begin: int) -> list[StoredSession]:
        async with self._desk.database.sessions.load(self._partition) as snapshot:
            # P1: on newer rows the facts from the mark on would make wills due that are not.
            if snapshot.marks[SESSIONS].reflected != begin:
                raise StoreConflict("another worker has committed sessions meanwhile")
            return [session async for page in snapshot.pages() for session in page]

    async def commit(self, batch: SessionsBatch) -> None:
        """Append the wills, then commit: what is not committed is appended again, and counts once.

        Raises:
            StoreConflict: Somebody else does the work now.
            BusUnavailable: The bus was closed.
        """
        await self._appends.publish(self._partition.number, batch.wills)
        commit = Commit(
            upto=batch.upto,
            sessions=batch.changes,
            log=batch.state,
            quarantined=batch.quarantined,
        )
        assert self._tenure is not None, "it has begun"
        desk = self._desk
        await commit_until_done(
            desk.database, self._tenure, commit, desk.outage, self._count_failure
        )
        self.counts.commits += 1
        self.counts.rows += commit.rows
        self._reflected = {SESSIONS: batch.upto}

    def _count_failure(self) -> None:
        self.counts.failures += 1

    async def at_end(self, elapsed_s: float) -> None:
        """Detach the clients of edges that have been silent for a whole lease (S3)."""
        if self._claims is None:
            return
        silent = self._claims.at_end(int(min(elapsed_s, ELAPSED_S_MAX) * 1000))
        for run, detaches in silent.items():
            logger.warning(
                "%s: the edge with run %s is silent; its %d clients in partition %d are detached",
                *(self._desk.name, run.hex(), len(detaches), self._partition.number),
            )
            self._appends.detach(self._partition.number, detaches)

    @property
    def tenures(self) -> Sequence[Tenure]:
        """See ``Work``."""
        return [] if self._tenure is None else [self._tenure]

    def reflected(self) -> dict[str, int]:
        """Return projection -> up to where its rows reflect the partition."""
        return self._reflected
