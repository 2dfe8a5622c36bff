"""The worker of the sessions log: what is done with one partition of it (S1 to S6)."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from monstermq_projector.sessions_appends import FactAppends
from monstermq_projector.sessions_fold import SessionsBatch, SessionsFold
from monstermq_projector.sessions_rounds import Rounds
from monstermq_projector.sessions_wills import Wills
from monstermq_shared.clock import Clock
from monstermq_shared.errors import StoreConflict
from monstermq_shared.operation.limited_log import LimitedLog
from monstermq_shared.positions import Partition
from monstermq_shared.sessions.distributed.claims import Claims
from monstermq_shared.sessions.distributed.session_asks import ClaimCounts
from monstermq_shared.stores.changes import Commit, Tenure
from monstermq_shared.views.catalogue import SESSIONS
from monstermq_shared.views.committing import commit_until_done
from monstermq_shared.views.log_fold import FoldCounts, LogSettings
from monstermq_shared.views.log_lanes import CommitCounts
from monstermq_shared.views.log_loading import Bounds, Loaded
from monstermq_shared.views.log_work import Desk

logger = logging.getLogger(__name__)

ELAPSED_S_MAX = 2.0
"""What counts at most as time in which the log was read, from one look to the next: a process that
was stopped for an hour has not heard whether edges live."""


SILENCE_S = 60.0
"""A silent edge is told once in so much time: the partitions notice it one after the other."""

PIECES_MAX = 20
"""Pieces of what is asked for that are appended in one look, at most."""


@dataclass(slots=True, kw_only=True)
class SessionsCounts:
    """What came of sessions in all partitions; every number only grows.

    Attributes:
        claims: What was met and asked for.
        dropped: Messages of queues over their limit.
    """

    claims: ClaimCounts = field(default_factory=ClaimCounts)
    dropped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionsDesk:
    """What the work of all partitions shares.

    Attributes:
        wills: Where wills go.
        facts: Where facts go.
        clock: What time it is.
        partitions: Of the bus.
        lease_s: How long an edge may be silent that has said nothing yet.
        rounds_of: Partition of the sessions log -> who looks after queues for it; None: nobody,
            because the database has none.
        counts: What came of sessions.
        silence: Keeps each partition from telling of the same silent edge.
    """

    wills: Wills
    facts: FactAppends
    clock: Clock
    partitions: int
    lease_s: float
    rounds_of: Callable[[int], Rounds | None]
    counts: SessionsCounts = field(default_factory=SessionsCounts)
    silence: LimitedLog = field(default_factory=lambda: LimitedLog(logger, interval_s=SILENCE_S))


class SessionsWork:
    """Does the work of one partition; see ``log_work.Work``.

    Args:
        log: What is followed.
        partition: Of it.
        desk: What all partitions share of any log.
        sessions: What they share of this one.

    Attributes:
        folds: What was met in the log.
        counts: What was committed.
    """

    gap_remedy = "to go on without them, run monstermq db skip-gap, and start the projector again"
    projections: Sequence[str] = (SESSIONS,)
    all_stopped = False

    def __init__(
        self, log: LogSettings, partition: Partition, desk: Desk, sessions: SessionsDesk
    ) -> None:
        self.folds = FoldCounts()
        self.counts = CommitCounts()
        self.stopped: list[str] = []
        self._log = log
        self._partition = partition
        self._desk = desk
        self._sessions = sessions
        self._claims = self._new_claims()
        self._tenure: Tenure | None = None
        self._reflected: dict[str, int] = {}
        self._rounds = sessions.rounds_of(partition.number)

    def starts(self, bounds: Bounds) -> dict[str, int]:
        """See ``Work``."""
        return {SESSIONS: bounds.first}

    def _new_claims(self) -> Claims:
        sessions = self._sessions
        return Claims(
            partitions=sessions.partitions,
            lease_ms=int(sessions.lease_s * 1000),
            counts=sessions.counts.claims,
        )

    async def begin(self, loaded: Loaded) -> SessionsFold:
        """Load the sessions, and return the fold that begins where the mark stands."""
        # Those of before are forgotten first: there may be a million.
        self._tenure, self._claims = None, self._new_claims()
        load = partial(self._load, loaded.begin)
        await self._desk.outage.repeat("loads", load, self._count_failure)
        self._tenure = loaded.tenure
        self._reflected = {SESSIONS: loaded.begin}
        claims = self._claims
        logger.debug(
            "%s: partition %d has %d sessions", self._desk.name, self._partition.number, len(claims)
        )
        return SessionsFold(self._log, claims, loaded.begin, loaded.lowest, self.folds)

    async def _load(self, begin: int) -> None:
        claims = self._new_claims()
        async with self._desk.database.sessions.load(self._partition) as snapshot:
            # P1: on newer rows the facts from the mark on would make wills due that are not.
            if snapshot.marks[SESSIONS].reflected != begin:
                raise StoreConflict("another worker has committed sessions meanwhile")
            async for page in snapshot.pages():
                claims.load(page)
        self._claims = claims

    async def commit(self, batch: SessionsBatch) -> None:
        """Append, then commit: what is not committed is appended again, and counts once.

        Raises:
            StoreConflict: Somebody else does the work now.
            BusUnavailable: The bus was closed.
        """
        number, sessions = self._partition.number, self._sessions
        await sessions.wills.publish(number, batch.claims.wills)  # S2
        for asks in self._claims.debts(batch.claims):  # S4, S6
            await sessions.facts.resolve(number, asks)
        commit = Commit(
            upto=batch.upto,
            sessions=batch.claims.changes,
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
        """Detach clients of silent edges, end sessions, look after their queues (S3 to S5)."""
        if self._tenure is None:
            return
        claims, sessions = self._claims, self._sessions
        elapsed_s = min(elapsed_s, ELAPSED_S_MAX)
        silent = claims.at_end(int(elapsed_s * 1000), sessions.clock.wall_ms())
        for run in silent:
            if sessions.silence.admit(run, sessions.clock.monotonic()) is not None:
                logger.warning(
                    "%s: the edge with run %s is silent; its clients are detached",
                    *(self._desk.name, run.hex()),
                )
        for _ in range(PIECES_MAX):
            asks = claims.asks()
            if not asks or not sessions.facts.offer(self._partition.number, asks):
                break
            await asyncio.sleep(0)
        if self._rounds is not None:
            sessions.counts.dropped += await self._rounds.make(claims, elapsed_s)

    async def tend(self) -> None:
        """See ``Work``: there is nothing beside."""
        await asyncio.Event().wait()

    @property
    def tenures(self) -> Sequence[Tenure]:
        """See ``Work``."""
        return [] if self._tenure is None else [self._tenure]

    def reflected(self) -> dict[str, int]:
        """Return projection -> up to where its rows reflect the partition."""
        return self._reflected
