"""Records that cannot become messages, in the quarantine of PostgreSQL."""

import logging
from collections.abc import Sequence
from itertools import groupby

from monstermq_edge.ingress.messages import Source
from monstermq_shared.config.postgres_urls import ConnectionSettings
from monstermq_shared.errors import StartupError, StoreError
from monstermq_shared.kafka.admin import Admin, TopicFacts
from monstermq_shared.positions import Partition
from monstermq_shared.retries import pause
from monstermq_shared.stores.changes import Quarantined
from monstermq_shared.stores.postgres.database import PostgresDatabase

logger = logging.getLogger(__name__)


class Quarantine:
    """The quarantine, see ``aside.Aside``; ``monstermq quarantine`` shows what is there.

    Args:
        settings: Of the database, which the broker has made.
    """

    def __init__(self, settings: ConnectionSettings) -> None:
        self.trouble: str | None = None
        self._settings = settings
        self._cluster_id = ""
        self._database: PostgresDatabase | None = None

    async def prepare(self, admin: Admin, source: TopicFacts) -> None:
        """See ``Aside.prepare``."""
        self._cluster_id = admin.cluster_id

    async def put(self, topic: str, letters: Sequence[tuple[Source, str]]) -> None:
        """See ``Aside.put``."""
        generation = f"kafka:{self._cluster_id}:{topic}"
        of_partition = sorted(letters, key=lambda at: (at[0].partition, at[0].offset))
        for number, found in groupby(of_partition, key=lambda at: at[0].partition):
            records = [_quarantined(source, reason) for source, reason in found]
            await self._put(Partition(generation, number), records)
        self.trouble = None

    async def _put(self, partition: Partition, records: Sequence[Quarantined]) -> None:
        attempt = 0
        while True:
            try:
                if self._database is None:
                    self._database = await PostgresDatabase.inspect(self._settings)
                await self._database.put_in_quarantine(partition, records)
            except (StartupError, StoreError) as exc:
                self.trouble = f"the quarantine does not take records: {exc}"
                if not attempt:
                    logger.warning("%s", self.trouble)
            else:
                return
            await pause(attempt)
            attempt += 1

    async def close(self) -> None:
        """See ``Aside.close``."""
        if self._database is not None:
            await self._database.close()


def _quarantined(source: Source, reason: str) -> Quarantined:
    return Quarantined(
        offset=source.offset,
        time_ms=source.time_ms,
        reason=reason,
        key=source.key or b"",
        value=source.value or b"",
        headers=tuple(source.headers),
    )
