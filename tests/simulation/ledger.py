"""What was published, as an outside observer knows it, and the first broken promise."""

from dataclasses import dataclass, field

from monstermq_shared.records import Record


class Violation(AssertionError):
    """A promise was broken. The message begins with the promise's letter (see ``promises``)."""


@dataclass(slots=True)
class Message:
    """One application message.

    Attributes:
        number: Stands at the beginning of the payload, unless that is empty to clear a topic.
        sent_at: The step at which its publisher first sent it.
        transmissions: How often its publisher sent it.
        acknowledged: Its publisher was told that the log has it; a will whose time has come.
        revoked: A will whose DISCONNECT the broker has processed.
        offsets: Where it was appended, as far as a view wants it.
    """

    number: int
    publisher: str
    topic: str
    qos: int
    retain: bool
    payload: bytes
    sent_at: int
    transmissions: int = 1
    acknowledged: bool = False
    revoked: bool = False
    offsets: list[int] = field(default_factory=list)


class Ledger:
    """All messages of one simulation.

    Attributes:
        messages: Number -> message.
        restoring: A process is being started, so the wills of the dead may be published.
        newest: Topic -> offset of the newest retained message, or of what cleared it.
    """

    def __init__(self) -> None:
        self.messages: dict[int, Message] = {}
        self.restoring = False
        self.newest: dict[str, int] = {}
        self._next = 0

    def write(
        self,
        publisher: str,
        topic: str,
        qos: int,
        *,
        retain: bool,
        clear: bool,
        size: int,
        step: int,
    ) -> Message:
        """Make a new message."""
        self._next += 1
        payload = b"" if clear else b"%d:" % self._next + b"x" * size
        message = Message(self._next, publisher, topic, qos, retain, payload, step)
        self.messages[message.number] = message
        return message

    def read(self, payload: bytes) -> Message | None:
        """Return the message a payload belongs to; None for an empty payload."""
        return self.messages[int(payload.partition(b":")[0])] if payload else None

    def appended(self, record: Record) -> None:
        """The engine made a record for the views."""
        if record.retained:
            self.newest[record.topic] = record.offset
        message = self.read(record.payload)
        if message is None:
            return
        if message.revoked and not self.restoring:
            raise Violation(f"w: will {message.number} published after DISCONNECT")
        message.offsets.append(record.offset)
