"""What the engines do alike: with what clients acknowledge, and with subscribers of ``$SYS``."""

from collections.abc import Sequence
from typing import TypeVar

from monstermq_shared.budget import Budget
from monstermq_shared.messages import MessageRun
from monstermq_shared.routing import Router
from monstermq_shared.sessions.backpressure import Backpressure
from monstermq_shared.sessions.ports import SessionPort
from monstermq_shared.sessions.retained import RetainedMessages
from monstermq_shared.sessions.session import ClientSession

S = TypeVar("S", bound=ClientSession)


class EngineCore(SessionPort[S]):
    """The base of the engines; they make its attributes.

    Attributes:
        budget: What is left for this turn of the event loop; whoever drives the engine refills it.
        router: All subscriptions.
        backpressure: Who is held.
        retained: Replays.
    """

    budget: Budget
    router: Router[S]
    backpressure: Backpressure[S]
    retained: RetainedMessages[S]

    def publish_system(self, run: MessageRun) -> int:
        """Publish a ``$SYS`` message without a position; return how many subscribe to it."""
        targets = self.router.route(run.topic).targets
        for session, _ in targets:
            if session.link is not None and session.is_up:
                session.link.forward(run)
        return len(targets)

    def acknowledge(self, session: S, packet_ids: Sequence[int]) -> None:
        """See ``SessionPort.acknowledge``."""
        session.acknowledge(packet_ids)
        self.budget.left -= len(packet_ids)
        self._advance(session)

    def complete(self, session: S, packet_ids: Sequence[int]) -> None:
        """See ``SessionPort.complete``."""
        session.complete(packet_ids)
        self.budget.left -= len(packet_ids)
        self._advance(session)

    def _advance(self, session: S) -> None:
        """There is room in a window again."""
        if session.pending_count:
            session.fill_window()
        if session.waiters is not None:
            self.backpressure.release_waiters(session)
        if self.retained.replays:
            self.retained.advance(session)
