"""What kept sessions wait for of their database: marks, pages of queues, rows of sessions."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeVar

from monstermq_edge.engines.kafka.unfollowed import Unfollowed
from monstermq_shared.stores.outages import Outage
from monstermq_shared.stores.queues import KeptRows, QueueAsk, QueuePage
from monstermq_shared.views.catalogue import QUEUES, SESSIONS

logger = logging.getLogger(__name__)

T = TypeVar("T")

TICK_S = 0.025
"""How often the marks of queues are read while a session waits for them (E5)."""

MARKS_S = 1.0
"""How often marks are read when nobody waits (E1)."""

LATE_S = 2.0
"""Without an answer for so long a database counts as down: who comes is refused meanwhile."""

ASKS_MAX = 200
"""Pages that one statement reads; most are empty where many clients come back at once."""

ROWS_MAX = 5_000
"""Rows that one statement reads at most, over all its pages: some 30 ms, in pieces."""

CLIENTS_MAX = 500
"""With so many clients no partition more is asked for in one statement."""

QUEUES_UNFOLLOWED = (
    "kept sessions wait for what they are owed. Start monstermq-projector with VIEWS among its "
    "kinds; if it runs, its log tells what it waits for"
)

SESSIONS_UNFOLLOWED = (
    "kept sessions cannot connect (code 3). Start monstermq-projector with SESSIONS among its "
    "kinds; if it runs, its log tells what it waits for"
)

PAGE_SIZE_MAX = 256 * 1024
"""Bytes of one page; it has a row if there is one."""

PAGES_SIZE_MAX = 16 * 1024 * 1024
"""Bytes of all pages of one statement, but for those that one row of each exceeds."""


class KeptEngine(Protocol):
    """What an engine wants for its kept sessions, and is brought; see ``DistributedEngine``."""

    @property
    def awaits_queues(self) -> bool:
        """See above."""
        ...

    @property
    def queue_waits(self) -> Mapping[int, int]:
        """See above."""
        ...

    @property
    def sessions_behind(self) -> Sequence[int]:
        """See above."""
        ...

    def queues_reflected(self, positions: Mapping[int, int]) -> None:
        """See above."""
        ...

    def sessions_reflected(self, positions: Mapping[int, int]) -> None:
        """See above."""
        ...

    def take_asks(self) -> list[QueueAsk]:
        """See above."""
        ...

    def queue_pages(self, asks: Sequence[QueueAsk], pages: Sequence[QueuePage]) -> None:
        """See above."""
        ...

    def take_row_reads(self) -> dict[int, list[str]]:
        """See above."""
        ...

    def kept_rows(self, partition: int, client_ids: Sequence[str], rows: KeptRows) -> None:
        """See above."""
        ...

    def databases_down(self, down: bool) -> None:
        """See above."""
        ...


class KeptDatabase(Protocol):
    """Where all that is; see ``EdgeDatabases``."""

    async def queue_marks(self) -> Mapping[int, int]:
        """See above."""
        ...

    async def session_marks(self) -> Mapping[int, int]:
        """See above."""
        ...

    async def queue_pages(self, asks: Sequence[QueueAsk], *, size_max: int) -> list[QueuePage]:
        """See above."""
        ...

    async def kept_rows(self, asked: Mapping[int, Sequence[str]]) -> Mapping[int, KeptRows]:
        """See above."""
        ...


class KeptReads:
    """Reads what an engine asks for, all that has been asked together, and tells of an outage.

    What waits is bounded by the sessions: each asks for one page a partition, and for its rows
    once. While the database is down the engine takes no more of them in.

    Attributes:
        reflected: Partition -> up to where the queues were last seen to be.

    Args:
        engine: Whose.
        database: Where.
        outage: What fails of it.
        touch: Makes sure that the loop turn is finished, after something was brought.
        stands_s: After how long of standing still rows have no projector.
    """

    def __init__(
        self,
        engine: KeptEngine,
        database: KeptDatabase,
        outage: Outage,
        touch: Callable[[], None],
        stands_s: float,
    ) -> None:
        self.reflected: Mapping[int, int] = {}
        self._engine = engine
        self._database = database
        self._outage = outage
        self._touch = touch
        self._asks: deque[QueueAsk] = deque()
        self._clients: deque[tuple[int, list[str]]] = deque()
        self._asked, self._claimed, self._awaited = (asyncio.Event() for _ in range(3))
        self._is_down = False
        self._outages = 0
        self._queues = Unfollowed("the queues", QUEUES_UNFOLLOWED, stands_s)
        self._sessions = Unfollowed("the sessions", SESSIONS_UNFOLLOWED, stands_s)

    def tasks(self) -> list[tuple[str, Awaitable[None]]]:
        """Return what is to run, and how it is named."""
        return [
            ("queue marks", self._follow_queues()),
            ("session marks", self._follow_sessions()),
            ("queue pages", self._read_pages()),
            ("session rows", self._read_rows()),
        ]

    @property
    def concerns(self) -> list[str]:
        """What operators should know although clients may come, in sentences for ``/ready``."""
        return [each.told for each in (self._queues, self._sessions) if each.told]

    @property
    def unfollowed(self) -> dict[str, float]:
        """Projection -> how many partitions of it no projector follows."""
        return {
            QUEUES: float(len(self._queues.partitions)),
            SESSIONS: float(len(self._sessions.partitions)),
        }

    def collect(self) -> None:
        """Take what the engine wants; at the end of each turn."""
        engine = self._engine
        if asks := engine.take_asks():
            self._asks += asks
            self._asked.set()
        if reads := engine.take_row_reads():
            self._clients += reads.items()
            self._claimed.set()
        if engine.awaits_queues:
            self._awaited.set()

    # -- marks -----------------------------------------------------------------------------------

    async def _follow_queues(self) -> None:
        """Read how far the queues are: often while somebody waits, else now and then (E5)."""
        while True:
            self._awaited.clear()
            marks = await self._ask("queue marks", self._database.queue_marks)
            _tell_lost("queues", self.reflected, marks)
            self.reflected = marks
            self._engine.queues_reflected(self.reflected)
            self._queues.look(self._engine.queue_waits, marks, _now_s())
            self._touch()
            if not self._engine.awaits_queues:
                await _set_within(self._awaited, MARKS_S)
            await asyncio.sleep(TICK_S)

    async def _follow_sessions(self) -> None:
        before: Mapping[int, int] = {}
        while True:
            marks = await self._ask("session marks", self._database.session_marks)
            _tell_lost("sessions", before, marks)
            before = marks
            self._engine.sessions_reflected(marks)
            self._sessions.look(self._engine.sessions_behind, marks, _now_s())
            self._touch()
            await asyncio.sleep(MARKS_S)

    # -- pages and rows --------------------------------------------------------------------------

    async def _read_pages(self) -> None:
        """Read pages, as many as wait, by statements of bounded size, each as of one moment."""
        while True:
            await self._asked.wait()
            asks = self._next_asks()
            if not asks:
                self._asked.clear()
                continue
            size_max = min(PAGE_SIZE_MAX, PAGES_SIZE_MAX // len(asks))
            read = partial(self._database.queue_pages, asks, size_max=size_max)
            self._engine.queue_pages(asks, await self._ask("queue pages", read))
            self._touch()
            # What was brought goes out, and a page more may have been asked for.
            await asyncio.sleep(0)

    def _next_asks(self) -> list[QueueAsk]:
        asks: list[QueueAsk] = []
        rows = 0
        while self._asks and len(asks) < ASKS_MAX and rows < ROWS_MAX:
            asks.append(self._asks.popleft())
            rows += asks[-1].limit
        return asks

    async def _read_rows(self) -> None:
        """Read rows of sessions, of many clients of all partitions together (E2)."""
        while True:
            await self._claimed.wait()
            asked = self._next_clients()
            if not asked:
                self._claimed.clear()
                continue
            outages = self._outages
            found = await self._ask("session rows", partial(self._database.kept_rows, asked))
            # Who asked before an outage has been told; others may wait for that partition by now.
            if outages == self._outages:
                for partition, client_ids in asked.items():
                    self._engine.kept_rows(partition, client_ids, found[partition])
                self._touch()
            await asyncio.sleep(0)

    def _next_clients(self) -> dict[int, list[str]]:
        """Return those of some partitions, each once: the engine waits for one answer of each."""
        asked: dict[int, list[str]] = {}
        count = 0
        while self._clients and count < CLIENTS_MAX:
            partition, client_ids = self._clients.popleft()
            asked[partition] = client_ids
            count += len(client_ids)
        return asked

    # -- the database that does not answer -------------------------------------------------------

    async def _ask(self, what: str, read: Callable[[], Awaitable[T]]) -> T:
        """Read until it works; the engine hears when the database is down, and when it is back."""

        async def attempt() -> T:
            return await self._answered(what, read)

        found = await self._outage.repeat(what, attempt, self._tell)
        self._tell()
        return found

    async def _answered(self, what: str, read: Callable[[], Awaitable[T]]) -> T:
        reading = asyncio.ensure_future(read())
        try:
            done, _ = await asyncio.wait([reading], timeout=LATE_S)
            if not done:
                self._outage.late(what, f"no answer for {LATE_S:g} s")
                self._tell()
            return await reading
        finally:
            reading.cancel()

    def _tell(self) -> None:
        is_down = bool(self._outage.reasons)
        if is_down != self._is_down:
            self._is_down = is_down
            if is_down:
                self._outages += 1
                self._clients.clear()
            self._engine.databases_down(is_down)
            self._touch()


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _tell_lost(what: str, before: Mapping[int, int], marks: Mapping[int, int]) -> None:
    """Log that a standby has taken over which lacks commits: its rows are not used (E2, E5)."""
    lost = [partition for partition, upto in before.items() if marks.get(partition, upto) < upto]
    if lost:
        logger.warning(
            "the rows of %s lack commits that were there, in partitions %s: a standby has taken "
            "over. Kept sessions wait until the projector has read that part of the log again",
            *(what, ", ".join(map(str, sorted(lost)))),
        )


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    """Return once an event is set, or that time has passed."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
