"""What the distributed engine asks of the two logs, and what its appends come back with.

Appends take effect in the order of the calls, per partition. Whether they have is told later, by
the host: ``DistributedEngine.appended``, ``refused`` and ``room``.
"""

from collections.abc import Sequence
from typing import Protocol

from monstermq_shared.bus.facts import Fact
from monstermq_shared.messages import MessageRun


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

    def append_facts(
        self, partition: int, facts: Sequence[Fact], wall_ms: int, ticket: Ticket | None
    ) -> tuple[int, int]:
        """Append facts, which will stand in one record.

        Returns:
            The sequence of that record, and which of its facts the first of these is.
        """
        ...
