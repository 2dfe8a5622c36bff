"""The session port: what a connection asks of a session engine, and what it offers in return.

A connection knows nothing of what stands behind the port; here it is one process with one database
(``sessions.local``). All calls are synchronous and cheap; what has to wait for a commit is answered
later through the connection's ``Link``. The engine owns packet ids, windows and durable facts; the
connection validates and encodes; neither does I/O.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, TypeVar

from mypy_extensions import mypyc_attr

from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.counters import Refusal
from monstermq_shared.messages import MessageRun, Will

SUBSCRIPTION_REFUSED = 0x80
"""The SUBACK code of a filter that is not accepted [MQTT-3.9.3-2]."""


class Answer(IntEnum):
    """The packets that tell the state of a packet id; the values are MQTT's packet types."""

    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachRequest:
    """Who connects, and what the engine must know of it.

    Attributes:
        client_id: Never empty: the edge has assigned one where the client gave none.
        clean: Discard any state there is, and keep none after the end [MQTT-3.1.2-6].
        will: Stored before CONNACK, published at every ungraceful end.
        information: What the ``sessions`` table's ``information`` column shows, as in the original:
            RemoteAddress, LocalAddress, ProtocolVersion, SSL, AutoKeepAlive, KeepAliveTimeSeconds.
    """

    client_id: str
    clean: bool
    will: Will | None
    information: dict[str, str | int | bool]


# Base classes and no protocols, because a call through a protocol is slow when this is compiled.
@mypyc_attr(allow_interpreted_subclasses=True)
class Source(ABC):
    """Where messages come from, as far as back-pressure goes: a connection, or the bus port.

    Attributes:
        is_bridge: The peer is another broker's bridge, which must not hear its own messages.
    """

    __slots__ = ("is_bridge",)

    def __init__(self) -> None:
        self.is_bridge = False

    @abstractmethod
    def hold(self) -> None:
        """Take no messages from there until ``resume``; calls nest."""

    @abstractmethod
    def resume(self) -> None:
        """Undo one ``hold``."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Link(Source):
    """What a connection offers its engine. Calls are synchronous, cheap and never raise.

    Bytes go into the connection's outbox and leave once per loop turn. A closed connection ignores
    all calls: an answer that waited for a commit may come too late. To be held is not to read from
    the peer.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def is_held(self) -> bool:
        """Whether the engine holds this connection: it was held more often than resumed."""

    @abstractmethod
    def attached(self, session_present: bool) -> None:
        """Send CONNACK with code 0: the session's state is committed."""

    @abstractmethod
    def forward(self, run: MessageRun) -> None:
        """Deliver a whole run at QoS 0. The connection drops it, counted, at its outbox bound."""

    @abstractmethod
    def forward_stored(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Deliver stored (topic, payload) at QoS 0 with the retain flag [MQTT-3.3.1-8]."""

    @abstractmethod
    def deliver(
        self, run: MessageRun, first: int, packet_ids: Sequence[int], qos: int, dup: bool
    ) -> None:
        """Deliver messages ``first``, ``first + 1``, ... of the run at QoS 1 or 2, one per id."""

    @abstractmethod
    def answer(self, kind: Answer, packet_ids: Sequence[int]) -> None:
        """Send PUBACKs, PUBRECs, PUBRELs or PUBCOMPs, in this order.

        What a publisher is told (all but PUBREL) keeps its order, but may leave a little later than
        what the client is sent otherwise.
        """

    @abstractmethod
    def subscribed(self, packet_id: int, codes: Sequence[int]) -> None:
        """Send SUBACK: the subscriptions hold."""

    @abstractmethod
    def unsubscribed(self, packet_id: int) -> None:
        """Send UNSUBACK: nothing more is added for these filters."""

    @abstractmethod
    def has_room(self) -> bool:
        """Whether the outbox is below its low-water mark, so that a replay may go on."""

    @abstractmethod
    def close(self, reason: CloseReason) -> None:
        """End the network connection. The engine has already detached the session."""


S = TypeVar("S")


class SessionPort(ABC, Generic[S]):
    """What a connection may ask. ``wall_ms`` is milliseconds since 1970-01-01 UTC.

    ``S`` is the engine's session: a handle that the connection only hands back.
    """

    __slots__ = ()

    @abstractmethod
    def attach(self, link: Link, request: AttachRequest, wall_ms: int) -> S:
        """Take the session over, or begin one; an older connection is closed first.

        ``link.attached`` follows once what CONNACK tells is durable.
        """

    @abstractmethod
    def detach(self, session: S, reason: CloseReason, wall_ms: int) -> None:
        """The connection has ended. Publishes the will unless the client said DISCONNECT."""

    @abstractmethod
    def publish(self, session: S, run: MessageRun, wall_ms: int) -> None:
        """Append and route a run; PUBACK or PUBREC follow when the log has it.

        Raises:
            InvalidTopic: The topic name is not one; the connection must be closed.
        """

    @abstractmethod
    def holds_subscribe(self, session: S) -> bool:
        """Whether a SUBSCRIBE has to wait, because the engine now holds the link for it.

        Ask again once the link is resumed.
        """

    @abstractmethod
    def subscribe(
        self, session: S, filters: Sequence[tuple[str, int]]
    ) -> tuple[Sequence[int], str]:
        """Add subscriptions (filter, QoS), those of one SUBSCRIBE or the next part of a long one.

        The filters have been validated; the engine refuses by its own limits with code 0x80.

        Returns:
            A code for each, and why the first of the refused was; empty if none was.
        """

    @abstractmethod
    def subscribed(self, session: S, packet_id: int, codes: Sequence[int]) -> None:
        """All filters of a SUBSCRIBE are added: SUBACK follows once they hold.

        After it comes what is retained.
        """

    @abstractmethod
    def unsubscribe(self, session: S, filters: Sequence[str]) -> None:
        """Remove subscriptions, those of one UNSUBSCRIBE or the next part of a long one."""

    @abstractmethod
    def unsubscribed(self, session: S, packet_id: int) -> None:
        """All filters of an UNSUBSCRIBE are removed: UNSUBACK follows once that holds."""

    @abstractmethod
    def acknowledge(self, session: S, packet_ids: Sequence[int]) -> None:
        """The client sent PUBACKs. Ids that are not in flight are ignored."""

    @abstractmethod
    def receive(self, session: S, packet_ids: Sequence[int]) -> None:
        """The client sent PUBRECs; PUBRELs follow."""

    @abstractmethod
    def release(self, session: S, packet_ids: Sequence[int]) -> None:
        """The client sent PUBRELs; PUBCOMPs follow, also for ids that are not open."""

    @abstractmethod
    def complete(self, session: S, packet_ids: Sequence[int]) -> None:
        """The client sent PUBCOMPs."""

    @abstractmethod
    def owes_answers(self, session: S) -> bool:
        """Whether something that the client is to be told waits for a commit."""

    @abstractmethod
    def refusal(self, client_id: str, *, clean: bool) -> tuple[Refusal, str] | None:
        """Return why a connection is not to be let in now, for CONNACK 3, if it is not.

        Where too much waits for what makes it durable nobody is: a connection that comes and goes
        adds to that, and cannot be held for it. A session that outlives its connection needs room:
        those that nobody comes back to would grow without a bound, in memory and on disk.
        """

    @abstractmethod
    def is_connected(self, client_id: str) -> bool:
        """Whether the client has a connection now, which the next one would take over."""

    @abstractmethod
    def drained(self, session: S) -> None:
        """The link's outbox fell below its low-water mark: replays may go on."""
