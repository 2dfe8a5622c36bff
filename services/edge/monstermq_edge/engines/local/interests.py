"""Who wants the records of a topic: asked once for every new topic, so answered in one lookup."""

from collections.abc import Sequence

from monstermq_shared.bus.backlog import Backlog
from monstermq_shared.routing import Interest
from monstermq_shared.views.view_set import TAKES_EVERY, TAKES_NONE, TAKES_RETAINED, ViewSet

_ANY_TOPIC = "a"
"""Stands for all topics that do not begin with ``$``, where filters make no difference."""


class Interests:
    """Puts together what the views of all databases want.

    Args:
        primary: The views in the session store's database: an acknowledgement waits for them.
        memory: The views in memory.
        followed: The views elsewhere, each with its backlog.
    """

    def __init__(
        self, primary: ViewSet, memory: ViewSet, followed: Sequence[tuple[Backlog, ViewSet]]
    ) -> None:
        self._sets = [primary, memory, *(views for _, views in followed)]
        self._backlogs = [backlog for backlog, _ in followed]
        # By what each set takes. Interests are shared: there are few, and many routes.
        self._known: dict[tuple[int, ...], Interest] = {}
        every_topic = all(views.every_topic for views in self._sets)
        # What is asked for every new topic is answered once, if filters make no difference.
        self._usual = self._ask(_ANY_TOPIC) if every_topic else None

    def interest(self, topic: str) -> Interest:
        """Say who wants a topic's records; see ``Interest``."""
        if self._usual is not None and topic[0] != "$":
            return self._usual
        return self._ask(topic)

    def _ask(self, topic: str) -> Interest:
        taken = tuple([views.takes(topic) for views in self._sets])
        known = self._known.get(taken)
        if known is None:
            known = self._known[taken] = self._put_together(taken)
        return known

    def _put_together(self, taken: tuple[int, ...]) -> Interest:
        primary, _, *others = taken
        return Interest(
            wanted=TAKES_EVERY in taken,
            durable=primary == TAKES_EVERY,
            durable_retained=primary != TAKES_NONE,
            followers=self._wanting(others, TAKES_EVERY),
            followers_retained=self._wanting(others, TAKES_RETAINED),
        )

    def _wanting(self, taken: Sequence[int], least: int) -> tuple[Backlog, ...]:
        pairs = zip(self._backlogs, taken, strict=True)
        return tuple(backlog for backlog, takes in pairs if takes >= least)
