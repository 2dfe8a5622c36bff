"""Records that may be doubles of what retention has taken from the log, so that no fold can know.

Whether a record counts (R1, R3) is told by what stands before it, up to two latenesses. Where that
is deleted, what a projector has made of the record while it was there tells more than the log.
"""

from collections.abc import Mapping, Sequence
from itertools import takewhile

from monstermq_shared.records import Record
from monstermq_shared.stores.postgres.comparing import Comparing
from monstermq_shared.stores.postgres.rows import Place


class Doubt:
    """Where a reading of one partition is in doubt: behind what is deleted, for two latenesses.

    Args:
        within_ms: 2 L.

    Attributes:
        within_ms: See above.
        deleted: The offsets of what is deleted, which is what doubles would be doubles of.
    """

    def __init__(self, within_ms: int) -> None:
        self.within_ms = within_ms
        self.deleted = range(0)
        self._lasts = False
        self._until_ms: int | None = None
        self._sure_from = 0

    def cut(self, first: int, behind: int) -> None:
        """Begin again: what stands from an offset up to another is deleted."""
        self._lasts, self._until_ms = True, None
        self.deleted = range(first, behind)

    def take(self, records: Sequence[Record]) -> None:
        """Take the next records, so as to find where the doubt ends."""
        if not self._lasts or not records:
            return
        if self._until_ms is None:
            self._until_ms = records[0].timestamp_ms + self.within_ms
        for record in records:
            if record.timestamp_ms >= self._until_ms:
                self._lasts = False
                return
            self._sure_from = record.offset + 1

    def concerns(self, offset: int) -> bool:
        """Whether a record that was taken, or one before it, is in doubt."""
        return offset < self._sure_from

    def doubtful(self, records: Sequence[Record]) -> Sequence[Record]:
        """Return those that are: the first ones."""
        return [*takewhile(lambda record: self.concerns(record.offset), records)]


class UsedArchive:
    """An archive that is in use while it is made anew, and what it says of doubtful records.

    Args:
        comparing: Looks into it.
        table: Its name.
        projection: Whose mark says how far it is.
        generation: The log.
    """

    def __init__(self, comparing: Comparing, table: str, projection: str, generation: str) -> None:
        self._comparing = comparing
        self._table = table
        self._projection = projection
        self._generation = generation

    async def begins(self, projection: str) -> Mapping[int, int]:
        """Return partition -> where a projection of the log began.

        Raises:
            StoreError: The server does not answer, or refuses.
        """
        async with self._comparing.snapshot([]) as snapshot:
            marks = await snapshot.reflected(self._generation, [projection])
        return {number: mark.began or 0 for (_, number), mark in marks.items()}

    async def doubles(self, place: Place, records: Sequence[Record], doubt: Doubt) -> set[int]:
        """Return the offsets of records that did not count when a projector came to them.

        Raises:
            StoreError: The server does not answer, or refuses.
        """
        async with self._comparing.snapshot([self._table]) as snapshot:
            marks = await snapshot.reflected(self._generation, [self._projection])
            mark = marks.get((self._projection, place.partition))
            if mark is None:
                return set()
            # That it has no others says nothing of them.
            seen = range(mark.began or 0, mark.upto)
            known = [record for record in records if record.offset in seen]
            return await snapshot.archive_doubles(
                self._table, place, known, doubt.deleted, doubt.within_ms
            )

    async def close(self) -> None:
        """Close the connections."""
        await self._comparing.close()
