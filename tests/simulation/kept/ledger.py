"""What an observer who sees everything writes down: messages, subscriptions, deliveries."""

from dataclasses import dataclass, field
from typing import NamedTuple

FOREVER = 10**9
"""A step that never comes."""


class Violation(AssertionError):
    """A promise was broken. The message begins with the promise's letter (see ``promises``)."""


@dataclass(slots=True)
class Message:
    """One application message.

    Attributes:
        number: Stands in the payload.
        publisher: The client.
        topic: Where.
        qos: Of the publish.
        acknowledged: Its publisher was told that the log has it; a will that is due.
        is_will: It is a will.
        transmissions: How often its publisher has sent it.
        landed: The steps at which it came to stand in the log, doubles not counted.
    """

    number: int
    publisher: str
    topic: str
    qos: int
    is_will: bool = False
    acknowledged: bool = False
    transmissions: int = 0
    landed: list[int] = field(default_factory=list)

    def payload(self) -> bytes:
        """Return the payload of the next transmission; each of them can be told from the others."""
        self.transmissions += 1
        return b"%d:%d" % (self.number, self.transmissions)


def number_of(payload: bytes) -> int:
    """Return which message a payload is."""
    return int(payload.partition(b":")[0])


class Delivery(NamedTuple):
    """A message as its receiver took it: at QoS 2, once per packet id."""

    payload: bytes
    topic: str
    qos: int
    dup: bool
    generation: int
    step: int


@dataclass(slots=True)
class Wanted:
    """A subscription, as its subscriber sees it.

    Attributes:
        topic_filter: What it matches.
        generation: Of the session of the client.
        sent: The step of its SUBSCRIBE.
        loose: It is of a clean connection, and promises little.
        held: The step of its SUBACK; None before.
        ended: The step from which on it need not hold.
    """

    topic_filter: str
    generation: int
    sent: int
    loose: bool
    held: int | None = None
    ended: int = FOREVER

    def matches(self, topic: str) -> bool:
        """Whether it is for a topic."""
        return self.topic_filter in {"#", topic}


class Ledger:
    """All messages of one simulation.

    Attributes:
        step: How many steps there have been: the time of all.
        messages: Number -> message.
        cuts: Client -> markers of E6 since something was delivered to it.
        notes: What happened how often.
        incarnations: (client, epoch) -> the epoch of the claim that began its session.
    """

    def __init__(self) -> None:
        self.step = 0
        self.messages: dict[int, Message] = {}
        self.cuts: dict[str, int] = {}
        self.notes: dict[str, int] = {}
        self.incarnations: dict[tuple[str, int], int] = {}

    def write(self, publisher: str, topic: str, qos: int, *, is_will: bool = False) -> Message:
        """Make a new message."""
        message = Message(len(self.messages) + 1, publisher, topic, qos, is_will)
        self.messages[message.number] = message
        return message

    def note(self, what: str) -> None:
        """Count something."""
        self.notes[what] = self.notes.get(what, 0) + 1
