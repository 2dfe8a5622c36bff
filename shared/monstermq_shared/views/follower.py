"""A follower: reads the log, folds it, commits it, for the views of one database."""

import logging
from collections.abc import Callable

from monstermq_shared.bus.ports import Entry, LogReader, RecordBatch
from monstermq_shared.errors import InvalidRecord
from monstermq_shared.records import Record
from monstermq_shared.stores.changes import Tenure
from monstermq_shared.stores.outages import Outage
from monstermq_shared.stores.ports import Database
from monstermq_shared.views.committing import commit_until_done
from monstermq_shared.views.view_set import ViewSet

logger = logging.getLogger(__name__)


class Follower:
    """Brings the views of one database up to date with one partition of the log.

    Attributes:
        outage: What fails of the database; others that ask it may tell theirs to the same one.
        rows: Rows written so far.
        failures: Commits that failed and were repeated.
        unreadable: Records that could not be decoded and were passed over.

    Args:
        name: What is followed for whom, as the log names it.
        database: Where the views are.
        tenure: The right to commit them.
        views: Folds.
        reader: Reads the partition, from the tenure's marks on.
        committed: Told up to which offset the views show everything, after each commit.
    """

    def __init__(
        self,
        name: str,
        database: Database,
        tenure: Tenure,
        views: ViewSet,
        reader: LogReader,
        committed: Callable[[int], None],
    ) -> None:
        self.name = name
        self.outage = Outage(name)
        self.rows = 0
        self.failures = 0
        self.unreadable = 0
        self._database = database
        self._tenure = tenure
        self._views = views
        self._reader = reader
        self._committed = committed

    async def run(self) -> None:
        """Follow until the reader ends.

        Raises:
            StoreConflict: The tenure is over.
            StoreError: The database refuses for good.
        """
        async for batch in self._reader:
            commit = self._views.fold(self._decoded(batch), batch.upto)
            if not commit.is_empty:
                await commit_until_done(
                    self._database, self._tenure, commit, self.outage, self._count_failure
                )
                self.rows += commit.rows
            self._committed(batch.upto)

    def _decoded(self, batch: RecordBatch) -> list[Record]:
        records: list[Record] = []
        for entry in batch.entries:
            record = self._decode(batch.partition, entry)
            if record is not None:
                records.append(record)
        return records

    def _decode(self, partition: int, entry: Entry) -> Record | None:
        try:
            return entry.record()
        except InvalidRecord as exc:
            self.unreadable += 1
            logger.warning(
                "%s: position %d:%d is not a record and is passed over: %s",
                self.name,
                partition,
                entry.offset,
                exc,
            )
            return None

    def _count_failure(self) -> None:
        self.failures += 1
