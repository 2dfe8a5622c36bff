"""The log on Kafka from a place on, its partitions merged by time."""

import asyncio
import heapq
from collections import deque
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

from monstermq_mcp.kafka.door import BusDoor
from monstermq_shared.bus.kafka.log import KafkaLog
from monstermq_shared.bus.ports import RecordBatch
from monstermq_shared.bus.wanted import Wanted, message_in
from monstermq_shared.errors import BusGap, QueryRefused
from monstermq_shared.queries.cursors import Cursors, refused_position
from monstermq_shared.queries.history import Message
from monstermq_shared.queries.live import LogPage, LogQuery, LogSource

SCANNED_MAX = 50_000
"""Records that are looked at for one page."""

READ_S = 5.0
"""How long that may take; then the page has what was found, and the next one goes on there."""


class _Found(NamedTuple):
    """A message, and where it stands."""

    partition: int
    offset: int
    message: Message


_time_of = attrgetter("message.time_ms")


class KafkaLogQueries:
    """See ``queries.ports.LogQueries``.

    Args:
        door: Opens the bus.
        cursors: Seals places.
    """

    def __init__(self, door: BusDoor, cursors: Cursors) -> None:
        self._door = door
        self._cursors = cursors

    async def read(self, query: LogQuery) -> LogPage:
        """See ``LogQueries.read``."""
        place = self._place(query)
        log = (await self._door.bus()).messages
        firsts, ends = await log.first_positions(), await log.end_positions()
        newest = place is None and query.start_ms is None
        if place is not None:
            asked = dict(enumerate(map(int, place)))
        elif query.start_ms is not None:
            asked = {**ends, **await log.positions_since(query.start_ms)}
        else:
            asked = {each: end - SCANNED_MAX // log.partitions for each, end in ends.items()}
        lost = 0
        if place is not None:
            lost = sum(max(firsts[each] - at, 0) for each, at in asked.items())
        # What was deleted meanwhile is passed over, and told: a page shows what is there.
        begin = {each: min(max(asked.get(each, 0), firsts[each]), ends[each]) for each in ends}
        scan = _Scan(query, begin, ends, newest=newest)
        await scan.run(log)
        shown, after = scan.picked()
        return LogPage(
            messages=[each.message for each in shown],
            source=LogSource.BUS,
            next_cursor=self._seal(query, after),
            cursors=self._cursors_of(query, shown, after),
            more=any(after[each] < end for each, end in ends.items()),
            lost=lost + scan.lost,
        )

    def _place(self, query: LogQuery) -> list[str | int] | None:
        if query.cursor is None:
            return None
        try:
            return self._cursors.open(query.question, query.cursor)
        except QueryRefused as exc:
            instead = "startTime, the time of the last message, instead of it"
            raise refused_position(instead) from exc

    def _cursors_of(
        self, query: LogQuery, shown: Sequence[_Found], after: Mapping[int, int]
    ) -> list[str]:
        """Return for each message the cursor that begins with the first one after it."""
        at, cursors = dict(after), []
        for each in reversed(shown):
            cursors.append(self._seal(query, at))
            at[each.partition] = each.offset
        return cursors[::-1]

    def _seal(self, query: LogQuery, at: Mapping[int, int]) -> str:
        return self._cursors.seal(query.question, [at[each] for each in sorted(at)])


class _Scan:
    """Looks through partitions for the messages of one page.

    Args:
        query: What is wanted.
        begin: Partition -> the first offset.
        ends: Partition -> where it ends.
        newest: The last messages are wanted, else the first.

    Attributes:
        lost: How many records were deleted before they were looked at.
    """

    def __init__(
        self,
        query: LogQuery,
        begin: Mapping[int, int],
        ends: Mapping[int, int],
        *,
        newest: bool,
    ) -> None:
        self.lost = 0
        self._ends = ends
        self._upto = dict(begin)
        self._query = query
        self._wanted = Wanted(query.filters)
        # Kafka may begin a little earlier than it was asked to.
        self._since_ms = (query.start_ms or 0) if query.cursor is None else 0
        self._newest = newest
        self._found: dict[int, deque[_Found]] = {
            each: deque(maxlen=query.limit if newest else None) for each in begin
        }
        self._scanned = 0

    async def run(self, log: KafkaLog) -> None:
        """Look until there is enough, or enough was looked at."""
        try:
            async with asyncio.timeout(READ_S):
                while open_ones := self._open_ones():
                    await self._read(log, open_ones)
        except TimeoutError:
            pass  # what there is by then is the page

    def _open_ones(self) -> dict[int, int]:
        """Return the partitions that are not looked through, with where to go on."""
        if self._scanned >= SCANNED_MAX:
            return {}
        return {
            each: offset
            for each, offset in self._upto.items()
            if offset < self._ends[each]
            and (self._newest or len(self._found[each]) < self._query.limit)
        }

    async def _read(self, log: KafkaLog, positions: Mapping[int, int]) -> None:
        """Read these until none of them is open."""
        reader = log.read(positions)
        try:
            async for batch in reader:
                self._take(batch)
                if not self._open_ones():
                    return
        except BusGap as gap:
            self.lost += gap.lost or 0
            self._upto[gap.partition] = max(gap.found, self._upto[gap.partition])
        finally:
            await reader.aclose()

    def _take(self, batch: RecordBatch) -> None:
        partition, found = batch.partition, self._found[batch.partition]
        end, limit = self._ends[partition], self._query.limit
        self._scanned += len(batch.entries)
        if batch.first != self._upto[partition]:  # it has enough
            return
        upto = min(batch.upto, end)
        for entry in batch.entries:
            if entry.offset >= end:
                break
            if entry.time_ms < self._since_ms or not self._wanted.takes(entry.topic):
                continue
            record = message_in(entry)
            if record is None:
                continue
            message = Message.of(record, payload_limit=self._query.payload_limit)
            found.append(_Found(partition, entry.offset, message))
            if len(found) == limit and not self._newest:
                upto = entry.offset + 1
                break
        self._upto[partition] = upto

    def picked(self) -> tuple[list[_Found], dict[int, int]]:
        """Return the messages of the page, merged by time, and where the next one begins."""
        after, limit = dict(self._upto), self._query.limit
        merged = list(heapq.merge(*self._found.values(), key=_time_of))
        if self._newest:
            return merged[-limit:], after
        for each in reversed(merged[limit:]):
            after[each.partition] = each.offset
        return merged[:limit], after
