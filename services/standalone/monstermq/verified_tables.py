"""What ``monstermq verify`` knows of one table in one partition: what it should hold."""

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from monstermq.doubts import Doubt
from monstermq.log_parts import View
from monstermq.terminal import Terminal
from monstermq_shared.clock import SystemClock
from monstermq_shared.operation.logging import escape
from monstermq_shared.records import Record
from monstermq_shared.stores.postgres.comparing import ArchivePart, Comparing, Difference, Snapshot
from monstermq_shared.stores.postgres.rows import Place
from monstermq_shared.views.catalogue import ArchiveView, MessageView

MARGIN_MS = 3_600_000
"""Rows that go so soon by retention may be gone before they are compared."""

RECORDS_AT_ONCE = 2_000
"""Records of one table that are compared in one snapshot."""

_offset = attrgetter("offset")


def no_longer_kept(view: View, now_ms: int) -> int:
    """Return the time, in ms, below which rows may have gone by retention; 0: they stay."""
    if view.retention is None:
        return 0
    kept_ms = int(view.retention.total_seconds() * 1000)
    return max(0, now_ms - kept_ms + MARGIN_MS)


@dataclass(slots=True)
class Findings:
    """What was found of one view, in all partitions.

    Attributes:
        name: The view's, as command lines have it.
        compared: Records of the log that the table should show.
        differences: Of those, and rows that should not be there.
        older_rows: Rows that are older than what the log has: nobody can compare them.
        older_records: Records that are older than the table: the projector began behind them.
        expired: Records whose rows may have gone by retention, and are not there.
        doubtful: Differences so near the log's beginning that retention may have taken what tells
            whether the record counts (R1, R3).
        guessed: Where the table began was not noted, so its first row says it.
        begun: Whether some projector has begun it.
    """

    name: str
    compared: int = 0
    differences: int = 0
    older_rows: int = 0
    older_records: int = 0
    expired: int = 0
    doubtful: int = 0
    guessed: bool = False
    begun: bool = False

    @property
    def text(self) -> str:
        """For people."""
        if not self.begun:
            return f"{self.name}: no projector has begun it; monstermq rebuild {self.name} fills it"
        parts = [f"{self.compared} records compared", f"{self.differences} differences"]
        if self.older_rows:
            parts.append(f"{self.older_rows} rows are older than the log")
        if self.older_records:
            where = ", as its first row says" if self.guessed else ""
            parts.append(f"{self.older_records} records are older than the table{where}")
        if self.expired:
            parts.append(f"{self.expired} are gone by retention")
        if self.doubtful:
            parts.append(f"{self.doubtful} at the log's beginning cannot be told")
        return f"{self.name}: {', '.join(parts)}"

    @property
    def members(self) -> Mapping[str, Any]:
        """For programs."""
        return {
            "table": self.name,
            "compared": self.compared,
            "differences": self.differences,
            "olderRows": self.older_rows,
            "olderRecords": self.older_records,
            "expired": self.expired,
            "doubtful": self.doubtful,
        }


@dataclass(slots=True, kw_only=True)
class Site:
    """What all tables share.

    Attributes:
        comparing: Where they are.
        partition_of: Where a topic's messages are.
        limit: How many differences are told.
        doubtful_ms: For how long after the log's beginning doubles and dead connections may not be
            known as such: 2 L.
        terminal: Where.
        number: What rows call the log; None where there are none of it.
        differences: How many were found.
    """

    comparing: Comparing
    partition_of: Callable[[str], int]
    limit: int
    doubtful_ms: int
    terminal: Terminal
    number: int | None = None
    differences: int = 0


class Table:
    """A table in one partition.

    Args:
        view: What it is of.
        name: Its name.
        place: The partition.
        site: What all share.
        findings: Where what is found is counted.

    Attributes:
        projection: Whose mark says how far it is.
        name: See above.
        place: See above.
        first: The first offset that it should show.
        upto: The offset behind the last one.
    """

    def __init__(self, view: View, name: str, place: Place, site: Site, findings: Findings) -> None:
        self.projection = view.projection.name
        self.name = name
        self.place = place
        self.first = 0
        self.upto = 0
        self._kept_from_ms = 0
        # Where a difference says nothing.
        self._doubt = Doubt(site.doubtful_ms)
        self._view = view
        self._site = site
        self._findings = findings

    def begin(self, first: int, upto: int, kept_from_ms: int) -> None:
        """Set the bounds of what it should show."""
        self.first, self.upto, self._kept_from_ms = first, upto, kept_from_ms

    def cut(self, first: int, behind: int) -> None:
        """Retention has taken what was there, and so what would tell some records' doubles."""
        self._doubt.cut(first, behind)

    async def take(self, records: Sequence[Record]) -> None:
        """Take the next records of the log; those that are not the table's own are passed over."""
        raise NotImplementedError

    def pass_over(self, first: int, behind: int) -> None:
        """Records from an offset up to another have gone before they were read, behind the others.

        What shows them can be compared with nothing.
        """
        raise NotImplementedError

    async def settle(self) -> None:
        """Wait for what is under way."""

    def close(self) -> None:
        """Give up what is under way."""

    def _older(self, records: Sequence[Record]) -> int:
        return bisect_left(records, self.first, key=_offset)

    def _own(self, records: Sequence[Record]) -> Sequence[Record]:
        """Return the part of records that the table should show."""
        return records[self._older(records) : bisect_left(records, self.upto, key=_offset)]

    def _is_kept(self, record: Record) -> bool:
        return record.timestamp_ms >= self._kept_from_ms

    def _judge(self, found: Sequence[Difference]) -> None:
        # Rows go by retention also while this goes on.
        kept_from_ms = no_longer_kept(self._view, SystemClock().wall_ms())
        for record, columns in found:
            if not columns and record.timestamp_ms < kept_from_ms:
                self._findings.expired += 1
            elif columns:
                self._tell(record.topic, record.offset, "differs", columns)
            else:
                self._tell(record.topic, record.offset, "missing")

    def _tell(self, topic: str, offset: int | None, kind: str, columns: Sequence[str] = ()) -> None:
        """Tell a difference, unless there were too many."""
        if offset is not None and self._doubt.concerns(offset):
            self._findings.doubtful += 1
            return
        self._findings.differences += 1
        self._site.differences += 1
        if self._site.differences > self._site.limit:
            return
        position = None if offset is None else f"{self.place.partition}:{offset}"
        meaning = {
            "missing": "is not in the table",
            "differs": f"is another in the table: {', '.join(columns)}",
            "surplus": "is in the table and not in the log",
            "uncleared": "is in the table, and was cleared in the log",
        }[kind]
        members: dict[str, Any] = {"table": self._findings.name, "difference": kind, "topic": topic}
        if position is not None:
            members["position"] = position
        if columns:
            members["columns"] = [*columns]
        where = f"{position} " if position is not None else ""
        self._site.terminal.tell(
            f"{self._findings.name}: {where}{escape(topic)} {meaning}", members
        )


class ArchiveTable(Table):
    """An archive, whose records are compared as they are read."""

    def __init__(self, view: View, name: str, place: Place, site: Site, findings: Findings) -> None:
        super().__init__(view, name, place, site, findings)
        assert isinstance(view, ArchiveView)
        self._projection = view.projection
        # A bit for each offset that has a row.
        self._expected = bytearray()
        self._rows = 0
        self._running: asyncio.Task[None] | None = None

    async def take(self, records: Sequence[Record]) -> None:
        """See ``Table.take``."""
        self._findings.older_records += len(self._projection.fold(records[: self._older(records)]))
        self._doubt.take(records)
        own = self._projection.fold(self._own(records))
        self._findings.compared += len(own)
        for record in own:
            self._expect(record.offset - self.first)
            self._rows += self._is_kept(record)
        for start in range(0, len(own), RECORDS_AT_ONCE):
            await self.settle()
            self._running = asyncio.create_task(self._look_up(own[start : start + RECORDS_AT_ONCE]))

    def pass_over(self, first: int, behind: int) -> None:
        """See ``Table.pass_over``: whatever stands there may."""
        self.cut(first, behind)
        for offset in range(max(first, self.first), min(behind, self.upto)):
            self._expect(offset - self.first)

    def _expect(self, place: int) -> None:
        byte = place >> 3
        if byte >= len(self._expected):
            self._expected.extend(bytes(byte + 1 - len(self._expected)))
        self._expected[byte] |= 1 << (place & 7)

    def _is_expected(self, place: int) -> bool:
        byte = place >> 3
        return byte < len(self._expected) and bool(self._expected[byte] & 1 << (place & 7))

    async def _look_up(self, records: Sequence[Record]) -> None:
        async with self._site.comparing.snapshot([self.name]) as snapshot:
            found = await snapshot.archive_differences(self.name, self.place, records)
            missing = [record for record, columns in found if not columns]
            doubtful, doubt = self._doubt.doubtful(missing), self._doubt
            doubles = await snapshot.archive_doubles(
                self.name, self.place, doubtful, doubt.deleted, doubt.within_ms
            )
        self._rows -= sum(map(self._is_kept, missing))
        self._findings.compared -= len(doubles)
        self._judge([at for at in found if at.record.offset not in doubles])

    async def settle(self) -> None:
        """See ``Table.settle``."""
        if self._running is not None:
            await self._running
            self._running = None

    def close(self) -> None:
        """See ``Table.close``."""
        if self._running is not None:
            self._running.cancel()

    async def find_surplus(self, snapshot: Snapshot, rows: int) -> None:
        """Tell the rows that are not of the log, if there are more than there should be."""
        if rows <= self._rows:
            return
        part = ArchivePart(self.place.partition, self.first, self.upto)
        found = snapshot.archive_positions(
            self.name, self.place.generation, part, self._kept_from_ms
        )
        async for position, topic in found:
            if not self._is_expected(position - self.first):
                self._tell(topic, position, "surplus")


class MessageTable(Table):
    """A table of one row for each topic, which is compared when all of the log is read."""

    def __init__(self, view: View, name: str, place: Place, site: Site, findings: Findings) -> None:
        super().__init__(view, name, place, site, findings)
        assert isinstance(view, MessageView)
        self._projection = view.projection
        self._expected: dict[str, Record | None] = {}

    async def take(self, records: Sequence[Record]) -> None:
        """See ``Table.take``."""
        self._findings.older_records += len(self._projection.fold(records[: self._older(records)]))
        self._doubt.take(records)
        self._expected.update(self._projection.fold(self._own(records)))

    def pass_over(self, first: int, behind: int) -> None:
        """See ``Table.pass_over``: nobody knows which topics those have changed."""
        self.cut(first, behind)
        self._expected.clear()
        self.first = max(self.first, behind)

    async def compare(self, snapshot: Snapshot) -> None:
        """Compare all rows with what was read."""
        records = [record for record in self._expected.values() if record is not None]
        self._findings.compared += len(self._expected)
        for start in range(0, len(records), RECORDS_AT_ONCE):
            part = records[start : start + RECORDS_AT_ONCE]
            self._judge(await snapshot.message_differences(self.name, self.place, part))
        async for topic, position in snapshot.message_rows(self.name, self.place):
            if position is None and self._site.partition_of(topic) != self.place.partition:
                continue
            if topic in self._expected:
                if self._expected[topic] is None:
                    self._tell(topic, position, "uncleared")
            elif position is None or position < self.first:
                self._findings.older_rows += 1
            else:
                self._tell(topic, position, "surplus")
