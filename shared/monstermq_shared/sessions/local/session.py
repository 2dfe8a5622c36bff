"""A session's state while it lives: its window, its subscriptions, and inbound QoS 2 ids.

A clean session is only this; it lives in memory and writes nothing. ``persistent`` adds the queue.
"""

from collections.abc import Sequence

from monstermq_shared.messages import MessageRun, Will
from monstermq_shared.sessions.local.turn import Journal
from monstermq_shared.sessions.ports import Answer, Source
from monstermq_shared.sessions.window import Window

OPEN_ID_SIZE = 100
"""Bytes that an open packet id takes, in memory or until its row is written, about."""


class Session(Window):
    """One client's session.

    Attributes:
        client_id: The client.
        journal: Where facts go.
        subscriptions: Filter -> granted QoS.
        will: To be published when the connection ends without DISCONNECT.
        open_ids: Inbound QoS 2 packet ids that await PUBREL -> offset; None until there is one.
        waiters: The publishers that are held because of this session; None until there is one.
        slow_since: When the first of them was held.
        held_turn: See ``Journal.after``.
        has_row: There is a row of this session in the database.
    """

    __slots__ = (
        "client_id",
        "has_row",
        "held_turn",
        "journal",
        "open_ids",
        "slow_since",
        "subscriptions",
        "waiters",
        "will",
    )

    persistent = False

    def __init__(self, client_id: str, journal: Journal, window: int) -> None:
        super().__init__(window)
        self.client_id = client_id
        self.journal = journal
        self.subscriptions: dict[str, int] = {}
        self.will: Will | None = None
        self.open_ids: dict[int, int] | None = None
        self.waiters: dict[Source, None] | None = None
        self.slow_since = 0.0
        self.held_turn = 0
        self.has_row = False

    def end(self) -> None:
        """It ends: forget what it was to be sent."""
        self.drop_pending()

    def receive(self, packet_ids: Sequence[int]) -> None:
        """PUBREC: the client has the message. PUBREL follows, also for unknown ids.

        An unknown id is one whose exchange we have forgotten; without a PUBREL the client could
        never use it again.
        """
        received = self.received
        if received is None:
            received = self.received = set()
        in_flight = self.in_flight
        received.update(i for i in packet_ids if i in in_flight)
        self.answer(Answer.PUBREL, packet_ids, durable=False)

    # -- QoS 2 inbound ---------------------------------------------------------------------------

    def open_new(self, run: MessageRun, first_offset: int) -> list[int]:
        """Open the packet ids of a QoS 2 run; return the indexes of messages that are new.

        An id that is still open stands for a retransmission: it is answered, but not routed twice
        [MQTT-4.3.3-2].
        """
        open_ids = self.open_ids
        if open_ids is None:
            open_ids = self.open_ids = {}
        new: list[int] = []
        for index, packet_id in enumerate(run.packet_ids):
            if packet_id not in open_ids:
                open_ids[packet_id] = first_offset + len(new)
                new.append(index)
        return new

    def release(self, packet_ids: Sequence[int]) -> None:
        """PUBREL: close the ids. PUBCOMP follows, also for ids that are not open."""
        open_ids = self.open_ids
        if open_ids is not None:
            for packet_id in packet_ids:
                open_ids.pop(packet_id, None)
        self.answer(Answer.PUBCOMP, packet_ids, durable=False)

    # -- speaking --------------------------------------------------------------------------------

    def answer(self, kind: Answer, packet_ids: Sequence[int], *, durable: bool) -> None:
        """Tell the client the state of packet ids, once that is durable."""
        link = self.link
        if link is not None:
            self.journal.after(self, durable, link.answer, kind, packet_ids)
