"""A follower of one partition of a log that others write: load, fold, commit, again and again.

Whoever reads the log hands over what it has read (``deliver``); the follower says where to begin,
and notices when something is missing. While one batch is being committed the next one is folded.
"""

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from functools import partial
from time import time
from typing import Generic

from monstermq_shared.bus.ports import Entry
from monstermq_shared.errors import MonsterError, StoreConflict, TenureEnded, UnknownFact
from monstermq_shared.positions import Partition
from monstermq_shared.views.log_fold import id_of
from monstermq_shared.views.log_loading import (
    Bounds,
    another_log,
    begin_views,
    refuse_shorter_log,
)
from monstermq_shared.views.log_tenures import TenureWatch
from monstermq_shared.views.log_work import B, Desk, Fold, Work

logger = logging.getLogger(__name__)

DELIVERIES_MAX = 2
"""Deliveries that wait to be folded; for one more, whoever delivers waits."""

MARKS_S = 1.0
"""How long marks may stay behind where there are no rows to commit with them."""

HOLES_MAX = 3
"""Times a hole that should not be there is read again, and the same record stands behind it. Then
nothing stands there: a transaction of a stranger leaves such holes."""

LOOK_S = 1.0
"""Between looks at the end of the log."""

ANSWER_S = 1.0
"""How much time an answer of the log stands for."""

REREAD_S = 2.0
"""How long what was on its way before the log is read again is thrown away."""


class Phase(StrEnum):
    """What a follower does."""

    LOADING = "is loading"
    FOLLOWING = "follows"
    STOPPED = "is stopped"
    GIVEN_UP = "was given up to another worker"


class _Stopped(MonsterError):
    """The partition must not go on before somebody has acted."""


class LogFollower(Generic[B]):
    """Does the work of one partition.

    Args:
        desk: What all partitions share.
        partition: Which.
        work: What is done.

    Attributes:
        phase: What it does now.
        reason: Why, where that is worth telling.
        position: Where the next delivery should begin; None until it is known.
        delivered: Deliveries so far.
        behind: Records that it was behind the log's end when it was loaded.
        loaded: Set once the position is known for the first time.
    """

    def __init__(self, desk: Desk, partition: Partition, work: Work[B]) -> None:
        self.partition = partition
        self.phase = Phase.LOADING
        self.reason: str | None = None
        self.position: int | None = None
        self.delivered = 0
        self.behind = 0
        self.loaded = asyncio.Event()
        self._desk = desk
        self._work: Work[B] = work
        self._unchecked: str | None = None
        self._known: tuple[int, str] | None = None
        # A hole that was read again: its first offset, and the one behind it; and how often.
        self._hole, self._hole_reads = (-1, -1), 0
        self._reread_until_s = 0.0
        self._thrown_away = False
        self._fold: Fold[B] | None = None
        self._inbox: asyncio.Queue[Sequence[Entry]] = asyncio.Queue(DELIVERIES_MAX)
        self._batches: asyncio.Queue[B] = asyncio.Queue(1)
        # The times of the oldest entries of the batches that are not committed.
        self._under_way: list[int] = []

    # -- for whoever reads the log ---------------------------------------------------------------

    async def deliver(self, entries: Sequence[Entry]) -> None:
        """Take what was read, at least one entry; wait while there is no room."""
        self.delivered += 1
        self.position = entries[-1].offset + 1
        await self._inbox.put(entries)

    def close(self) -> None:
        """Let nobody wait any more. ``run`` is cancelled by whoever runs it."""
        while not self._inbox.empty():
            self._inbox.get_nowait()

    # -- for whoever looks -----------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Whether it has something to do, so that nothing new need come for it to go on."""
        waits = self._inbox.empty() and not self._under_way
        return self.phase is not Phase.FOLLOWING or not waits

    @property
    def stopped(self) -> list[str]:
        """What does not go on until somebody acts, and why."""
        if self.phase is Phase.STOPPED and self.reason is not None:
            return [self.reason]
        return self._work.stopped

    def reflected(self) -> Mapping[str, int]:
        """Return projection -> up to where its rows reflect the partition."""
        return self._work.reflected()

    def oldest_age_s(self) -> float | None:
        """Return the age of the oldest entry that was read and is not committed; None: none."""
        times = [*self._under_way, -1 if self._fold is None else self._fold.oldest_ms]
        oldest_ms = next((at for at in times if at >= 0), None)
        return None if oldest_ms is None else max(0.0, time() - oldest_ms / 1000)

    # -- the work --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Follow until cancelled. Raises nothing but faults of ours."""
        while True:
            try:
                await self._follow(await self._load())
            except TenureEnded as exc:
                self._begin_again(exc)
            except StoreConflict as exc:
                await self._give_up(exc)
            except _Stopped as exc:
                await self._stop(exc)
            except MonsterError as exc:
                self._desk.fail(exc)
                await self._stop(exc)

    async def _load(self) -> Fold[B]:
        """P1, and P7 if the log begins above."""
        desk, number = self._desk, self.partition.number
        self.phase, self.position = Phase.LOADING, None
        starts = self._work.starts(await self._ask_log())
        begin = partial(begin_views, desk.database, desk.log_id, self.partition, starts)
        loaded = await desk.outage.repeat("loads", begin)
        bounds = await self._ask_log()
        refuse_shorter_log(self.partition, bounds, loaded.tenure)
        fold = self._fold = await self._work.begin(loaded)
        if bounds.first > fold.next_offset:
            self._skip_gap(fold, bounds.first)
            await self._work.commit(fold.flush())
        # The record below is read again, if it is there: it tells whether this is the same log.
        self._unchecked = fold.last_id if bounds.first < fold.next_offset else None
        self._known = fold.known
        self.position = self._begin_of(fold)
        self.phase, self.reason = Phase.FOLLOWING, None
        self.behind = bounds.end - fold.next_offset
        logger.debug(
            "%s: partition %d goes on at %d, %d records behind the end",
            *(desk.name, number, fold.next_offset, self.behind),
        )
        if self.loaded.is_set():
            await self._read_from(self.position)
        self.loaded.set()
        return fold

    def _begin_of(self, fold: Fold[B]) -> int:
        return fold.next_offset - (self._unchecked is not None)

    async def _ask_log(self) -> Bounds:
        ask = partial(self._desk.source.bounds, self.partition.number)
        return await self._desk.log_outage.repeat("requests", ask)

    async def _read_from(self, offset: int) -> None:
        self.position = offset
        ask = partial(self._desk.source.read_from, self.partition.number, offset)
        await self._desk.log_outage.repeat("seeks", ask)

    async def _follow(self, fold: Fold[B]) -> None:
        """Fold and commit at the same time; what ends one of them ends all."""
        self._batches = asyncio.Queue(1)
        self._under_way.clear()
        works = (
            self._fold_all(fold),
            self._commit_all(),
            self._look_around(fold),
            self._work.tend(),
        )
        tasks = [asyncio.create_task(work) for work in works]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._under_way.clear()

    async def _commit_all(self) -> None:
        while True:
            batch = await self._batches.get()
            await self._work.commit(batch)
            self._under_way.pop(0)
            self._batches.task_done()
            if not self._under_way and self._inbox.empty():
                self._inbox.put_nowait(())  # what was folded meanwhile goes now
            if self._work.all_stopped:
                raise _Stopped("; ".join(self._work.stopped))

    async def _look_around(self, fold: Fold[B]) -> None:
        """Find out if the partition is another's, and tell the work how long there was no more.

        Also while something is committed: with many clients that come and go that is always. An
        answer stands for ``ANSWER_S``, however long it took: nobody knows what the log was like
        meanwhile.

        Raises:
            StoreConflict: Somebody else does the work now (P5).
        """
        desk = self._desk
        loop = asyncio.get_running_loop()
        watch = TenureWatch()
        seen_s = None
        while True:
            await asyncio.sleep(LOOK_S)
            watch.look(self._work.tenures, desk.holders, desk.holders_s, loop.time())
            await self._read_what_was_thrown_away(fold)
            end = desk.ends.get(self.partition.number)
            if end is None or end > fold.next_offset or not self._inbox.empty():
                seen_s = None
                continue
            if seen_s is not None and desk.answered_s > seen_s:
                await self._work.at_end(min(desk.answered_s - seen_s, ANSWER_S))
            seen_s = desk.answered_s

    async def _fold_all(self, fold: Fold[B]) -> None:
        loop = asyncio.get_running_loop()
        flushed_s = loop.time()
        while True:
            entries = await self._next(fold, flushed_s)
            for batch in fold.tick(loop.time()):
                await self._emit(batch)
            try:
                await self._fold_delivery(fold, entries)
            except UnknownFact as exc:  # R6
                await self._emit(fold.flush())
                await self._batches.join()
                where = f"position {self.partition.number}:{fold.next_offset}"
                raise _Stopped(f"{self._desk.name} is stopped at {where}: {exc}") from exc
            # Rows do not wait for more than what is there, nor behind others that could have gone
            # with them; marks alone are not worth a commit.
            is_free = self._inbox.empty() and not self._under_way
            if is_free and (fold.holds_rows or loop.time() - flushed_s >= MARKS_S):
                flushed_s = loop.time()
                if fold.oldest_ms >= 0 or fold.holds_rows:
                    await self._emit(fold.flush())

    async def _next(self, fold: Fold[B], flushed_s: float) -> Sequence[Entry]:
        """Return what is delivered next; nothing if something could be committed meanwhile."""
        if self._under_way or (fold.oldest_ms < 0 and not fold.waits):
            return await self._inbox.get()
        try:
            async with asyncio.timeout_at(flushed_s + MARKS_S):
                return await self._inbox.get()
        except TimeoutError:
            return ()

    async def _emit(self, batch: B) -> None:
        self._under_way.append(batch.oldest_ms)
        await self._batches.put(batch)

    # -- what does not follow on what was read ---------------------------------------------------

    async def _fold_delivery(self, fold: Fold[B], entries: Sequence[Entry]) -> None:
        for part in _without_holes(entries):
            unseen = await self._unseen(fold, part)
            if not unseen:
                continue
            if unseen[0].offset > fold.next_offset and not await self._cross(fold, unseen):
                return
            # If the record below has not come, it is not there any more.
            self._unchecked = None
            self._check_known(unseen)
            for batch in fold.fold(unseen):
                await self._emit(batch)

    async def _unseen(self, fold: Fold[B], entries: Sequence[Entry]) -> Sequence[Entry]:
        """Return those from the next offset on; look at the one below, if that was not done."""
        first, expected = entries[0].offset, fold.next_offset
        behind = max(0, expected - first)
        if self._unchecked is not None and 0 < behind <= len(entries):
            unchecked, self._unchecked = self._unchecked, None
            self._check(entries[behind - 1], unchecked)
        elif behind >= len(entries) and not self._is_rereading():
            # Kafka has begun again somewhere, because what was asked for is not there.
            await self._refuse_truncation(fold)
            await self._reread(fold)
        return entries[behind:]

    def _check_known(self, entries: Sequence[Entry]) -> None:
        if self._known is not None and entries[-1].offset >= self._known[0]:
            (offset, expected), self._known = self._known, None
            if entries[0].offset <= offset:
                self._check(entries[offset - entries[0].offset], expected)

    def _check(self, entry: Entry, expected: str) -> None:
        found = id_of(entry)
        if found != expected:
            raise another_log(
                self.partition, f"at {entry.offset} stands {found}, and stood {expected}"
            )

    async def _refuse_truncation(self, fold: Fold[B]) -> Bounds:
        bounds = await self._ask_log()
        if bounds.end < fold.next_offset:
            raise another_log(
                self.partition, f"it ends at {bounds.end}, and was read up to {fold.next_offset}"
            )
        return bounds

    async def _cross(self, fold: Fold[B], entries: Sequence[Entry]) -> bool:
        """Deal with a hole below entries; return whether they may be folded."""
        is_real = self._is_real(fold.next_offset, entries[0].offset)
        if self._is_rereading() and not is_real:
            # Most likely it was on its way before; if not, it is read again, later.
            self._thrown_away = True
            return False
        bounds = await self._refuse_truncation(fold)
        if bounds.first > fold.next_offset:  # P7
            if fold.oldest_ms >= 0:
                await self._emit(fold.flush())
            self._skip_gap(fold, bounds.first)
        elif is_real:
            logger.warning(
                "%s: nothing stands at the positions %d to %d of partition %d",
                *(self._desk.name, fold.next_offset, entries[0].offset - 1, self.partition.number),
            )
            fold.skip_to(entries[0].offset)
        if entries[0].offset == fold.next_offset:
            return True
        await self._reread(fold)
        return False

    def _is_rereading(self) -> bool:
        return asyncio.get_running_loop().time() < self._reread_until_s

    def _is_real(self, first: int, behind: int) -> bool:
        """Whether a hole was read again so often that nothing can be there."""
        known_first, known_behind = self._hole
        if first != known_first or behind < known_behind:
            self._hole, self._hole_reads = (first, behind), 0
        elif behind > known_behind:
            # It was on its way before: where much is written, that is what mostly comes.
            return False
        self._hole_reads += 1
        return self._hole_reads > HOLES_MAX

    async def _reread(self, fold: Fold[B]) -> None:
        self._desk.gaps.reread += 1
        await self._read_from(self._begin_of(fold))
        self._reread_until_s = asyncio.get_running_loop().time() + REREAD_S

    async def _read_what_was_thrown_away(self, fold: Fold[B]) -> None:
        """Read on behind a hole of which nothing else may ever remind us; what comes now counts."""
        if self._thrown_away and not self._is_rereading():
            self._thrown_away = False
            if self.position is not None and self.position > fold.next_offset:
                await self._read_from(self._begin_of(fold))

    def _skip_gap(self, fold: Fold[B], to: int) -> None:
        """P7: what is below was deleted before it was read.

        Raises:
            _Stopped: The work must not go on without it.
        """
        lost, number = to - fold.next_offset, self.partition.number
        self._desk.gaps.gaps += 1
        self._desk.gaps.missed += lost
        told = (
            f"{self._desk.name}: retention has overtaken partition {number}: at most {lost} records"
            f" from {fold.next_offset} to {to - 1} are missing in "
            f"{', '.join(self._work.projections)}"
        )
        if self._work.gap_remedy is not None:
            raise _Stopped(f"{told}; {self._work.gap_remedy}")
        logger.error("%s; it goes on at %d. Raise Kafka.Bus.RetentionHours", told, to)
        self._unchecked = None
        fold.skip_to(to)

    # -- the ends --------------------------------------------------------------------------------

    def _begin_again(self, error: TenureEnded) -> None:
        """Nobody else has the partition, so it is loaded again at once."""
        self.phase, self.reason = Phase.LOADING, str(error)
        logger.warning(
            "%s: partition %d is loaded again: %s", self._desk.name, self.partition.number, error
        )
        self.close()

    async def _give_up(self, error: StoreConflict) -> None:
        """Somebody else commits: forget everything; if the partition stays ours, load again."""
        self.phase, self.reason = Phase.GIVEN_UP, str(error)
        logger.warning(
            "%s: partition %d is given up: %s", self._desk.name, self.partition.number, error
        )
        try:
            async with asyncio.timeout(self._desk.retry_s):
                await self._discard()
        except TimeoutError:
            return

    async def _stop(self, error: MonsterError) -> None:
        """Go on no more, loudly, until somebody has acted and the process is started again."""
        self.phase, self.reason, self.position = Phase.STOPPED, str(error), None
        if isinstance(error, _Stopped):
            logger.error("%s", error)
        self._desk.source.hold(self.partition.number)
        self.loaded.set()
        await self._discard()

    async def _discard(self) -> None:
        """Let nobody wait who still delivers."""
        while True:
            await self._inbox.get()


def _without_holes(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Yield the parts of entries within which the offsets follow each other."""
    first = 0
    while first < len(entries):
        rest = len(entries) - first
        if entries[-1].offset - entries[first].offset + 1 == rest:
            yield entries[first:] if first else entries
            return
        end = first + 1
        while end < len(entries) and entries[end].offset == entries[end - 1].offset + 1:
            end += 1
        yield entries[first:end]
        first = end
