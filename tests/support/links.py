"""A connection that writes down what it is told to say."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.messages import MessageRun
from monstermq_shared.sessions.ports import Answer, Link


class Connack(NamedTuple):
    """CONNACK with code 0."""

    session_present: bool


class Publish(NamedTuple):
    """PUBLISH to the client."""

    topic: str
    payload: bytes
    qos: int = 0
    packet_id: int = 0
    dup: bool = False
    retain: bool = False


class Told(NamedTuple):
    """PUBACK, PUBREC, PUBREL or PUBCOMP for one id."""

    kind: Answer
    packet_id: int


class Suback(NamedTuple):
    """SUBACK."""

    packet_id: int
    codes: tuple[int, ...]


class Unsuback(NamedTuple):
    """UNSUBACK."""

    packet_id: int


class Closed(NamedTuple):
    """The end of the connection."""

    reason: CloseReason


Said = Connack | Publish | Told | Suback | Unsuback | Closed


class RecordingLink(Link):
    """A link for tests.

    Attributes:
        session: What the engine gave in return.
        room: Whether the outbox has room.
        holds: How often it is held.
    """

    def __init__(self, *, is_bridge: bool = False) -> None:
        super().__init__()
        self.session: Any = None
        self.room = True
        self.holds = 0
        self.is_bridge = is_bridge
        self._said: list[Said] = []

    def take(self) -> list[Said]:
        """Return and forget what was said so far."""
        said, self._said = self._said, []
        return said

    def publishes(self) -> list[Publish]:
        """Return the PUBLISHes among what was said so far, and forget all of it."""
        return [said for said in self.take() if isinstance(said, Publish)]

    def payloads(self) -> list[bytes]:
        """Return only the payloads of ``publishes``."""
        return [publish.payload for publish in self.publishes()]

    @property
    def is_held(self) -> bool:
        """See ``Link``."""
        return self.holds > 0

    def attached(self, session_present: bool) -> None:
        """See ``Link``."""
        self._said.append(Connack(session_present))

    def forward(self, run: MessageRun) -> None:
        """See ``Link``."""
        self._said += [Publish(run.topic.decode(), payload) for payload in run.payloads]

    def forward_stored(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """See ``Link``."""
        self._said += [Publish(topic, payload, retain=True) for topic, payload in messages]

    def deliver(
        self, run: MessageRun, first: int, packet_ids: Sequence[int], qos: int, dup: bool
    ) -> None:
        """See ``Link``."""
        payloads = run.payloads[first : first + len(packet_ids)]
        topic = run.topic.decode()
        self._said += [
            Publish(topic, payload, qos, packet_id, dup, run.retained_copy)
            for payload, packet_id in zip(payloads, packet_ids, strict=True)
        ]

    def answer(self, kind: Answer, packet_ids: Sequence[int]) -> None:
        """See ``Link``."""
        self._said += [Told(kind, packet_id) for packet_id in packet_ids]

    def subscribed(self, packet_id: int, codes: Sequence[int]) -> None:
        """See ``Link``."""
        self._said.append(Suback(packet_id, tuple(codes)))

    def unsubscribed(self, packet_id: int) -> None:
        """See ``Link``."""
        self._said.append(Unsuback(packet_id))

    def hold(self) -> None:
        """See ``Link``."""
        self.holds += 1

    def resume(self) -> None:
        """See ``Link``."""
        self.holds -= 1
        assert self.holds >= 0

    def has_room(self) -> bool:
        """See ``Link``."""
        return self.room

    def close(self, reason: CloseReason) -> None:
        """See ``Link``."""
        self._said.append(Closed(reason))
