"""Handing a run to its targets; to very many of them in pieces.

Between the pieces the event loop has its turn.
"""

from collections.abc import Sequence
from typing import Final, Generic, TypeVar

from monstermq_shared.budget import Budget
from monstermq_shared.messages import MessageRun
from monstermq_shared.records import Record
from monstermq_shared.routing import Targets
from monstermq_shared.sessions.backpressure import Backpressure
from monstermq_shared.sessions.ports import Source
from monstermq_shared.sessions.session import ClientSession

S = TypeVar("S", bound=ClientSession)

DELIVERIES_MAX: Final = 1_000
"""Messages times targets that are handed over at once: one to two milliseconds."""


class FanOut(Generic[S]):
    """A run that some of its targets have been handed.

    Attributes:
        run: The run.
        targets: All of them, each with the QoS granted to it.
        reached: How many have it.
        source: Where it comes from, if that can be held.
        rows: The records for queue rows, where sessions have them and it is above QoS 0.
        durable: Handing it over made queue rows so far.
    """

    __slots__ = ("durable", "reached", "rows", "run", "source", "targets")

    def __init__(
        self,
        run: MessageRun,
        targets: Targets[S],
        source: Source | None,
        rows: Sequence[Record] | None = None,
    ) -> None:
        self.run = run
        self.targets = targets
        self.reached = 0
        self.source = source
        self.rows = rows
        self.durable = False

    def next_targets(self, deliveries_max: int) -> Targets[S]:
        """Return the targets to hand it to now."""
        run = self.run
        count = max(deliveries_max // (run.count if run.qos else 1), 1)
        targets = self.targets[self.reached : self.reached + count]
        self.reached += count
        return targets

    @property
    def is_over(self) -> bool:
        """Whether all of them were handed it."""
        return self.reached >= len(self.targets)


class Deliverer(Generic[S]):
    """Hands runs to sessions that live in memory.

    Attributes:
        fan_out: The run that not all of its targets have yet: ``go_on`` until there is none.
        deliveries_max: See ``DELIVERIES_MAX``.
    """

    __slots__ = ("_backpressure", "_budget", "deliveries_max", "fan_out")

    def __init__(self, backpressure: Backpressure[S], budget: Budget) -> None:
        self.fan_out: FanOut[S] | None = None
        self.deliveries_max = DELIVERIES_MAX
        self._backpressure = backpressure
        self._budget = budget

    def deliver(self, run: MessageRun, targets: Targets[S], source: Source | None) -> None:
        """Hand a run to its targets, or to the first of many; there is no ``fan_out`` now."""
        if source is not None and source.is_bridge:
            targets = without_own(targets, source)
        deliveries = len(targets) * run.count if run.qos else len(targets)
        if deliveries > 1 and self._is_many(deliveries, len(targets)):
            self.fan_out = FanOut(run, targets, source)
            self.go_on()
        else:
            self._hand_over(run, targets, source)

    def _is_many(self, deliveries: int, targets: int) -> bool:
        """Charge for all deliveries but the first, which whoever read the message has paid for.

        Returns:
            Whether they go out in pieces.
        """
        self._budget.left -= 2 * (deliveries - 1)
        return deliveries > self.deliveries_max and targets > 1

    def go_on(self) -> None:
        """Hand the run of ``fan_out`` to the next of its targets."""
        fan_out = self.fan_out
        assert fan_out is not None
        targets = fan_out.next_targets(self.deliveries_max)
        self._hand_over(fan_out.run, targets, fan_out.source)
        if fan_out.is_over:
            self.fan_out = None

    def _hand_over(self, run: MessageRun, targets: Targets[S], source: Source | None) -> None:
        published = run.qos
        for session, granted in targets:
            receiver = session.link
            if receiver is None:
                continue
            qos = granted if granted < published else published  # noqa: FURB136 - a call is dear here
            if qos == 0:
                if session.is_up:
                    receiver.forward(run)
                continue
            session.offer(run, qos)
            if session.pending_count:
                self._backpressure.check_pending(session, source)


def without_own(targets: Targets[S], source: Source | None) -> Targets[S]:
    """Return the targets without the source, if that is another broker's bridge.

    A bridge that subscribes to what it publishes would send it round for ever.
    """
    if source is None or not source.is_bridge:
        return targets
    return tuple([target for target in targets if target[0].link is not source])
