"""What every engine's session is while it lives: a window, subscriptions, inbound QoS 2 ids.

A clean session is only this; it lives in memory and writes nothing.
"""

from collections.abc import Sequence

from monstermq_shared.messages import MessageRun, Will
from monstermq_shared.sessions.ports import Answer, Source
from monstermq_shared.sessions.window import Window

OPEN_ID_SIZE = 100
"""Bytes that an open packet id takes, in memory or until its row is written, about."""


class ClientSession(Window):
    """One client's session.

    Attributes:
        client_id: The client.
        subscriptions: Filter -> granted QoS.
        will: To be published when the connection ends without DISCONNECT.
        open_ids: Inbound QoS 2 packet ids that await PUBREL -> offset; None until there is one.
        waiters: The publishers that are held because of this session; None until there is one.
        slow_since: When the first of them was held.
    """

    __slots__ = ("client_id", "open_ids", "slow_since", "subscriptions", "waiters", "will")

    persistent = False

    is_up = True
    """CONNACK is sent, or no message can be matched before."""

    def __init__(self, client_id: str, window: int) -> None:
        super().__init__(window)
        self.client_id = client_id
        self.subscriptions: dict[str, int] = {}
        self.will: Will | None = None
        self.open_ids: dict[int, int] | None = None
        self.waiters: dict[Source, None] | None = None
        self.slow_since = 0.0

    @property
    def owes_answers(self) -> bool:
        """Whether something that the client is to be told waits for something durable."""
        raise NotImplementedError

    @property
    def takes_copies(self) -> bool:
        """Whether retained copies may be sent: where more is owed first, they wait behind it."""
        return True

    def answer(self, kind: Answer, packet_ids: Sequence[int], *, durable: bool) -> None:
        """Tell the client the state of packet ids, once that is durable."""
        raise NotImplementedError

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
