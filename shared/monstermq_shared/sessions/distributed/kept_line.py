"""What a kept session sends, in order, where some of it has to wait for the log (E9)."""

from collections import deque
from collections.abc import Sequence

from monstermq_shared.bus.facts import Open
from monstermq_shared.messages import MessageRun
from monstermq_shared.sessions.ports import Link


class Opening:
    """Messages that have packet ids and were not sent.

    Attributes:
        run: The run they are of.
        first: The index of the first.
        packet_ids: One for each.
        qos: 1 or 2.
        is_open: They may be sent: their ids are in the log, or need not be.
        dup: The client may have had them before.
    """

    __slots__ = ("dup", "first", "is_open", "packet_ids", "qos", "run")

    def __init__(
        self,
        run: MessageRun,
        first: int,
        packet_ids: Sequence[int],
        qos: int,
        *,
        dup: bool,
    ) -> None:
        self.run = run
        self.first = first
        self.packet_ids = packet_ids
        self.qos = qos
        self.dup = dup
        # At QoS 1 no log needs to know; what is sent again under its old id the log has.
        self.is_open = qos == 1 or dup

    def facts(self, client_id: str, epoch: int) -> list[Open]:
        """Return what the log is to know of them."""
        run, first = self.run, self.first
        partition = None if run.retained_copy else run.partition
        return [
            Open(
                client_id=client_id,
                epoch=epoch,
                packet_id=packet_id,
                partition=partition,
                offset=None if partition is None else run.first_offset + first + index,
            )
            for index, packet_id in enumerate(self.packet_ids)
        ]


class Line:
    """The messages of one session that are about to be sent, in order.

    Many packet ids are on their way into the log at once; what comes behind them waits, so that
    nothing is overtaken.

    Attributes:
        waiting: The messages.
        packet_ids: Theirs: the client cannot have them by these yet.
    """

    __slots__ = ("packet_ids", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[Opening] = deque()
        self.packet_ids: set[int] = set()

    def put(self, opening: Opening) -> None:
        """Let messages wait."""
        self.waiting.append(opening)
        self.packet_ids.update(opening.packet_ids)

    def send(self, link: Link) -> None:
        """Send what may be sent, as far as nothing before it still waits for the log."""
        waiting = self.waiting
        while waiting and waiting[0].is_open:
            at = waiting.popleft()
            self.packet_ids.difference_update(at.packet_ids)
            link.deliver(at.run, at.first, at.packet_ids, at.qos, at.dup)

    def clear(self) -> None:
        """Forget all of it."""
        self.waiting.clear()
        self.packet_ids.clear()


class ExactlyOnce:
    """What a session has that delivers at QoS 2: one that does not, has none of it.

    Attributes:
        packet_ids: Those of QoS 2 that are in flight.
        line: What is about to be sent.
        receipts: Positions that PUBREC has come for, with the packet id, and that are not appended
            yet.
        acking: Packet ids whose PUBREL waits for that.
    """

    __slots__ = ("acking", "line", "packet_ids", "receipts")

    def __init__(self) -> None:
        self.packet_ids: set[int] = set()
        self.line = Line()
        self.receipts: list[tuple[int, int]] = []
        self.acking: set[int] = set()

    def others(self, packet_ids: Sequence[int]) -> Sequence[int]:
        """Return those of packet ids that are not of QoS 2, and that the client can have."""
        own, unsent = self.packet_ids, self.line.packet_ids
        return [id_ for id_ in packet_ids if id_ not in own and id_ not in unsent]
