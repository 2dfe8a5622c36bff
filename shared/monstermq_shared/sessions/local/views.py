"""What the engine must know of the views: who wants which records, and which come later."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from monstermq_shared.bus.backlog import Backlog
from monstermq_shared.routing import Interest


@dataclass(frozen=True, slots=True)
class EngineViews:
    """The views, as far as the engine is concerned.

    Attributes:
        interest: Says who wants the records of a topic.
        backlogs: One for each follower. Each is shown the records of every committed turn, and
            while it is full, whoever publishes what it wants is held.
        retained: The backlog of the retained view; None if that is committed with the turns.
    """

    interest: Callable[[str], Interest]
    backlogs: Sequence[Backlog] = ()
    retained: Backlog | None = None
