"""What the distributed engine asks of the two logs, and what its appends come back with.

Appends take effect in the order of the calls, per partition. Whether they have is told later, by
the host: ``DistributedEngine.appended``, ``refused`` and ``room``.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from monstermq_shared.bus.facts import Fact
from monstermq_shared.messages import MessageRun
from monstermq_shared.stores.queues import QueueAsk

if TYPE_CHECKING:
    from monstermq_shared.sessions.distributed.kept import KeptSession
    from monstermq_shared.sessions.distributed.kept_line import Opening


class Ticket(Protocol):
    """Goes with what is appended, and is handed back once its fate is known."""

    def appended(self) -> None:
        """The log has it."""
        ...

    def refused(self) -> None:
        """Whether the log has it will never be known, and nothing may depend on it (R1)."""
        ...


class LogWriter(Protocol):
    """One log, as far as appending goes.

    Attributes:
        run: What the records of this process carry.
        partitions: How many.
    """

    run: bytes
    partitions: int

    def partition_of(self, key: str) -> int:
        """Return where a topic's messages or a client's facts go."""
        ...

    def is_full(self, partition: int) -> bool:
        """Whether so much is on its way there that whoever causes more is to wait (E14)."""
        ...

    def append_facts(
        self, partition: int, facts: Sequence[Fact], wall_ms: int, ticket: Ticket | None
    ) -> tuple[int, int]:
        """Append facts, which will stand in one record.

        Returns:
            The sequence of that record, and which of its facts the first of these is.
        """
        ...


class MessageWriter(LogWriter, Protocol):
    """The log of messages."""

    def is_stuck(self, partition: int) -> bool:
        """Whether a partition is full because the log has taken nothing there for some time."""
        ...

    def append_run(
        self,
        partition: int,
        topic: bytes,
        run: MessageRun,
        client_id: str,
        wall_ms: int,
        ticket: Ticket | None,
    ) -> int:
        """Append the messages of a run; return the sequence of the first.

        The others follow without a gap. It takes them also where it is full.
        """
        ...


class FactWriter(LogWriter, Protocol):
    """The log of session facts."""


class KeptPort(Protocol):
    """What a kept session asks of the engine around it.

    Attributes:
        partitions: Of the log of messages.
    """

    partitions: int

    def mark(self, session: "KeptSession", partition: int) -> None:
        """Append an empty marker there (E6); ``session.marked`` once it is read back and counts."""
        ...

    def open(self, session: "KeptSession", opening: "Opening") -> None:
        """Append its facts as one record; ``session.opened`` once they are read back (E9)."""
        ...

    def acks(self, session: "KeptSession") -> None:
        """At the end of the turn append ``session.take_acks()``, if the connection has gone too."""
        ...

    def wait(self, session: "KeptSession", partition: int, mark: int) -> None:
        """Call ``session.reflected`` once the rows of the partition reflect the offset (E5)."""
        ...

    def ask(self, session: "KeptSession", ask: QueueAsk) -> None:
        """Read a page, and bring it by ``session.page``."""
        ...
