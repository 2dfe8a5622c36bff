"""Where records go that cannot become messages."""

from collections.abc import Sequence
from typing import Protocol

from monstermq_edge.ingress.messages import Source
from monstermq_shared.kafka.admin import Admin, TopicFacts


class Aside(Protocol):
    """Keeps them.

    Attributes:
        trouble: What fails and why, None if nothing does. The log has it once when it begins, and
            once when it is over.
    """

    @property
    def trouble(self) -> str | None:
        """See the class."""
        ...

    async def prepare(self, admin: Admin, source: TopicFacts) -> None:
        """Make what is needed, and learn what the source is like; for each connection.

        Raises:
            StartupError: It cannot.
        """
        ...

    async def put(self, topic: str, letters: Sequence[tuple[Source, str]]) -> None:
        """Keep records, and return when they are kept, however long that takes.

        Args:
            topic: Where they stood.
            letters: They, each with the reason.
        """
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class Nowhere:
    """Keeps nothing, see ``Aside``: the records still stand where they came from."""

    @property
    def trouble(self) -> str | None:
        """See ``Aside.trouble``: nothing can fail."""
        return None

    async def prepare(self, admin: Admin, source: TopicFacts) -> None:
        """See ``Aside.prepare``."""

    async def put(self, topic: str, letters: Sequence[tuple[Source, str]]) -> None:
        """See ``Aside.put``."""

    async def close(self) -> None:
        """See ``Aside.close``."""
