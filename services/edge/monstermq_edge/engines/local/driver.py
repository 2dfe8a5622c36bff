"""Commits the local engine's turns, and hands on what it wants read."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from monstermq_edge.engines.local.gathering import Gathering
from monstermq_edge.engines.local.pages import PageReader
from monstermq_edge.engines.local.turns import TurnCommitter
from monstermq_shared.clock import Clock
from monstermq_shared.counters import Counters
from monstermq_shared.errors import StoreError
from monstermq_shared.retries import telling_when_late
from monstermq_shared.sessions.local import LocalEngine, Turn
from monstermq_shared.stores.changes import CommitResult
from monstermq_shared.stores.outages import COMMITS

logger = logging.getLogger(__name__)

NOTHING = CommitResult({})


def _nobody_yet() -> None:
    """Before the start there is no loop turn to finish."""


class EngineDriver:
    """Runs beside the event loop's turns: one commit at a time.

    Args:
        engine: The engine that gives the work.
        committer: Commits its turns.
        pages: Reads the pages it asks for.
        clock: For the duration of commits.
        counters: Raised per commit.
        fail: Called once with an error after which the process must stop.

    Attributes:
        touch: Makes sure that the loop turn is finished, after results were brought.
    """

    def __init__(
        self,
        engine: LocalEngine,
        committer: TurnCommitter,
        pages: PageReader,
        *,
        clock: Clock,
        counters: Counters,
        fail: Callable[[StoreError], None],
    ) -> None:
        self._engine = engine
        self._committer = committer
        self._outage = committer.outage
        self._pages = pages
        self._clock = clock
        self._counters = counters
        self.touch: Callable[[], None] = _nobody_yet
        self._fail = fail
        self._gathering = Gathering(
            engine.journal,
            delay_s=committer.delay_s,
            backlog_size_max=engine.settings.hold.backlog_size_max,
            over=self._gathered,
        )
        self._turn: Turn | None = None
        self._turn_ready = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._tasks: list[asyncio.Task[None]] = []
        self._broken = False

    def start(self, touch: Callable[[], None]) -> None:
        """Begin to commit and to read; ``touch`` is the attribute from now on."""
        self.touch = touch
        self._tasks = [asyncio.create_task(self._commit_turns(), name="commits")]
        self._tasks += self._pages.tasks(touch, self._give_up)
        for task in self._tasks:
            task.add_done_callback(self._task_ended)

    def _gathered(self) -> None:
        self.touch()

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        """A fault of ours ends the process: without commits it would hold everybody, in silence."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.critical("%s failed", task.get_name(), exc_info=error)
            self._give_up(StoreError(f"a fault in the broker ended its {task.get_name()}"))

    def _give_up(self, error: StoreError) -> None:
        """Nothing can be committed any more: whoever drains need not wait for it."""
        self._broken = True
        self._idle.set()
        self._fail(error)

    async def drain(self, *, within_s: float) -> bool:
        """Commit all there is, for at most so long; return whether that was enough.

        From then on nothing is gathered any more.
        """
        self._gathering.end()
        try:
            # A database that is lost takes no commit before the next start.
            async with asyncio.timeout(within_s if self._committer.lost is None else 0):
                while self.end_turn() or not self._idle.is_set():
                    await (asyncio.sleep(0) if self._idle.is_set() else self._idle.wait())
        except TimeoutError:
            return False
        self.touch()
        return not self._broken

    async def stop(self) -> None:
        """Commit and read nothing more."""
        self._gathering.end()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- commits ---------------------------------------------------------------------------------

    def end_turn(self) -> bool:
        """Hand the facts of this loop turn over, unless a commit still runs or they may wait.

        A fault in that ends the process: the engine would wait for ever for a commit that was never
        begun.

        Returns:
            Whether there is long work to go on with in the next turn.
        """
        if self._broken:
            return False
        try:
            more = self._engine.work()
            self._hand_over()
        except Exception as exc:
            logger.critical("the end of a turn failed", exc_info=exc)
            self._give_up(StoreError("a fault in the broker ended its commits"))
            return False
        return more

    def _hand_over(self) -> None:
        engine = self._engine
        while self._gathering.is_due() and (turn := engine.take_turn()) is not None:
            self._gathering.taken()
            if self._committer.has_work(turn):
                self._turn = turn
                self._idle.clear()
                self._turn_ready.set()
                break
            # There is nothing to write: the turn only kept answers in order.
            engine.committed(NOTHING)
        self._pages.ask(engine.take_reads())

    async def _commit_turns(self) -> None:
        while True:
            await self._turn_ready.wait()
            self._turn_ready.clear()
            turn = self._turn
            assert turn is not None
            try:
                result = await self._outage.repeat(
                    COMMITS, partial(self._commit, turn), self._count_failure
                )
            except StoreError as exc:
                self._give_up(exc)
                return
            self._turn = None
            self._idle.set()
            self._engine.committed(result)
            self.end_turn()
            self.touch()

    async def _commit(self, turn: Turn) -> CommitResult:
        began = self._clock.monotonic()
        with telling_when_late(partial(self._outage.late, COMMITS)):
            result = await self._committer.commit(turn)
        self._counters.commits += 1
        self._counters.commit_s += self._clock.monotonic() - began
        return result

    def _count_failure(self) -> None:
        self._counters.commit_failures += 1
