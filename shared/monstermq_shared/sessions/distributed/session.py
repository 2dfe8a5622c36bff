"""What an edge on the bus knows of a connection's session: it owes answers in order (E4, E7)."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from monstermq_shared.sessions.ports import Answer
from monstermq_shared.sessions.session import ClientSession


class BusSession(ClientSession):
    """One connection's session; ``kept.KeptSession`` outlives it, as rows and facts.

    Attributes:
        epoch: The offset of its claim; None until that was read back.
        partition: Where the client's session facts stand.
        owed: Answers whose messages are not known to be appended, in order of their PUBLISHes.
        will_is_due: What its end has to say of the will, if the end came before the claim.
        is_stalled: The lease of its partition was missed: nothing is read from the client, and
            nothing with QoS 1 or 2 is sent to it (E13).
    """

    __slots__ = (
        "_refused",
        "_window",
        "epoch",
        "is_stalled",
        "owed",
        "partition",
        "will_is_due",
    )

    def __init__(
        self, client_id: str, window: int, partition: int, refused: Callable[[Any], None]
    ) -> None:
        """Begin a session.

        Args:
            client_id: The client.
            window: How many messages may be unacknowledged.
            partition: See above.
            refused: Told when something that this session appended stays refused.
        """
        super().__init__(client_id, window)
        self.epoch: int | None = None
        self.partition = partition
        self.owed: deque[Owed] = deque()
        self.will_is_due = False
        self.is_stalled = False
        self._window = window
        self._refused = refused

    # -- what is owed ----------------------------------------------------------------------------

    @property
    def owes_answers(self) -> bool:
        """See ``ClientSession``: an answer waits for its append."""
        return bool(self.owed) or (self.epoch is None and self.link is not None)

    def owe(self, kind: Answer, packet_ids: Sequence[int]) -> "Owed":
        """Return the ticket of messages whose ids are to be answered with this."""
        owed = Owed(self, kind, packet_ids)
        self.owed.append(owed)
        return owed

    def answer(self, kind: Answer, packet_ids: Sequence[int], *, durable: bool) -> None:
        """See ``ClientSession``; durable is what waits behind all that is owed already."""
        link = self.link
        if link is None:
            return
        if durable and self.owed:
            self.owe(kind, packet_ids).done = True
        else:
            link.answer(kind, packet_ids)

    def settle(self) -> None:
        """Answer what is appended, as far as nothing before it still waits (E7)."""
        owed = self.owed
        link = self.link
        while owed and owed[0].done:
            first = owed.popleft()
            if link is not None:
                link.answer(first.kind, first.packet_ids)

    def append_refused(self) -> None:
        """Something it appended stays refused: its connection is closed (R1)."""
        self._refused(self)

    # -- the lease -------------------------------------------------------------------------------

    def stall(self) -> None:
        """The lease was missed: let the client wait (E13)."""
        if not self.is_stalled and self.link is not None:
            self.is_stalled = True
            self.window = 0
            self.link.hold()

    def go_on(self) -> None:
        """The lease is there again."""
        if self.is_stalled:
            self.is_stalled = False
            self.window = self._window if self.is_up else 0
            if self.link is not None:
                self.link.resume()
                self.fill_window()


class CleanSession(BusSession):
    """A session that ends with its connection: it lives in memory, and writes nothing (E4)."""

    __slots__ = ()


class Owed:
    """The ticket of messages that a client is owed an answer for."""

    __slots__ = ("_session", "done", "kind", "packet_ids")

    def __init__(self, session: BusSession, kind: Answer, packet_ids: Sequence[int]) -> None:
        self._session = session
        self.kind = kind
        self.packet_ids = packet_ids
        self.done = False

    def appended(self) -> None:
        """See ``Ticket``."""
        self.done = True
        session = self._session
        if session.owed and session.owed[0] is self:
            session.settle()

    def refused(self) -> None:
        """See ``Ticket``."""
        self._session.append_refused()


class Refusable:
    """The ticket of what is waited for until it is read back: only its refusal is news (R4)."""

    __slots__ = ("_session",)

    def __init__(self, session: BusSession) -> None:
        self._session = session

    def appended(self) -> None:
        """See ``Ticket``."""

    def refused(self) -> None:
        """See ``Ticket``."""
        self._session.append_refused()
