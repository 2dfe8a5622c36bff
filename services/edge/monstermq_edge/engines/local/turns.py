"""How a turn becomes a commit of the session store's database."""

from monstermq_shared.counters import Counters
from monstermq_shared.sessions.local import Turn
from monstermq_shared.stores.changes import CommitResult, Tenure
from monstermq_shared.stores.memory import MemoryDatabase
from monstermq_shared.stores.outages import Outage
from monstermq_shared.stores.ports import Database
from monstermq_shared.views.view_set import ViewSet


class TurnCommitter:
    """Folds turns for the views that an acknowledgement waits for, and commits them.

    What lives in the session store's database is committed with the sessions, in one transaction
    and before the acknowledgement (ARCHITECTURE 11.6). Memory views belong to the process.

    Args:
        database: The session store's.
        tenure: The right to commit to it.
        views: Its views.
        memory: The database of views in memory, with its tenure and views.
        counters: Raised per row.
        outage: See below.

    Attributes:
        outage: What fails of the session store's database.
        delay_s: How long changes that nobody waits for may wait for their commit.
    """

    def __init__(
        self,
        database: Database,
        tenure: Tenure,
        views: ViewSet,
        memory: tuple[MemoryDatabase, Tenure, ViewSet],
        counters: Counters,
        outage: Outage,
    ) -> None:
        self.outage = outage
        self.delay_s = 0.0
        self._database = database
        self._tenure = tenure
        self._views = views
        self._memory, self._memory_tenure, self._memory_views = memory
        self._counters = counters

    @property
    def lost(self) -> str | None:
        """See ``Database.lost``."""
        return self._database.lost

    @staticmethod
    def has_work(turn: Turn) -> bool:
        """Whether a turn has anything to write."""
        return bool(turn.clients or turn.records)

    async def commit(self, turn: Turn) -> CommitResult:
        """Commit a turn's facts and records.

        Raises:
            StoreUnavailable: The same call may be repeated: Memory views take a turn twice without
                harm.
            StoreConflict, StoreDamaged: See ``Database.commit``.
        """
        records, upto = turn.records, turn.upto
        if records and self._memory_views:
            commit = self._memory_views.fold(records, upto)
            await self._memory.commit(self._memory_tenure, commit)
        commit = self._views.fold(records, upto)
        commit.sessions = turn.clients
        if commit.is_empty:
            return CommitResult({})
        result = await self._database.commit(self._tenure, commit)
        self._counters.rows_written += commit.rows
        return result
