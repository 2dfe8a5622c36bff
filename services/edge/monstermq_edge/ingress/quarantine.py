"""Records that cannot become messages, in the quarantine of PostgreSQL."""

from collections.abc import Sequence
from functools import partial
from itertools import groupby

from monstermq_edge.ingress.messages import Source
from monstermq_shared.config.postgres_urls import ConnectionSettings
from monstermq_shared.errors import MonsterError
from monstermq_shared.kafka.admin import Admin, TopicFacts
from monstermq_shared.positions import Partition
from monstermq_shared.retries import telling_when_late
from monstermq_shared.stores.changes import Quarantined
from monstermq_shared.stores.outages import Outage
from monstermq_shared.stores.postgres.database import PostgresDatabase

WRITES = "writes"


class Quarantine:
    """The quarantine, see ``aside.Aside``; ``monstermq quarantine`` shows what is there.

    Args:
        settings: Of the database, which the broker has made.
    """

    def __init__(self, settings: ConnectionSettings) -> None:
        self._outage = Outage("the quarantine of Kafka.Ingress", MonsterError)
        self._settings = settings
        self._cluster_id = ""
        self._database: PostgresDatabase | None = None

    @property
    def trouble(self) -> str | None:
        """See ``Aside.trouble``."""
        return self._outage.trouble

    async def prepare(self, admin: Admin, source: TopicFacts) -> None:
        """See ``Aside.prepare``."""
        self._cluster_id = admin.cluster_id

    async def put(self, topic: str, letters: Sequence[tuple[Source, str]]) -> None:
        """See ``Aside.put``."""
        generation = f"kafka:{self._cluster_id}:{topic}"
        of_partition = sorted(letters, key=lambda at: (at[0].partition, at[0].offset))
        for number, found in groupby(of_partition, key=lambda at: at[0].partition):
            records = [_quarantined(source, reason) for source, reason in found]
            write = partial(self._write, Partition(generation, number), records)
            await self._outage.repeat(WRITES, write)

    async def _write(self, partition: Partition, records: Sequence[Quarantined]) -> None:
        with telling_when_late(partial(self._outage.late, WRITES)):
            if self._database is None:
                self._database = await PostgresDatabase.inspect(self._settings)
            await self._database.put_in_quarantine(partition, records)

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
