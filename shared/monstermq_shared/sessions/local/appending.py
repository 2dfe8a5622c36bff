"""The engine's way in for records that come from no connection: tools that append to the bus."""

from collections.abc import Callable, Sequence

from monstermq_shared.errors import BusUnavailable, InvalidTopic
from monstermq_shared.messages import MessageRun
from monstermq_shared.records import CONTROL_TOPIC, Record
from monstermq_shared.sessions.local.engine import LocalEngine
from monstermq_shared.sessions.local.turn import Speaker
from monstermq_shared.sessions.ports import Source


class RecordAppender(Source):
    """Publishes records as if their clients had said so now; they are routed and durable alike.

    All of them together are one ``Source``: what holds a client (slow subscribers, the database, a
    view elsewhere that is behind) holds it too.

    Attributes:
        freed: Called when there is room again, after ``has_room`` has said that there is none.
    """

    def __init__(self, engine: LocalEngine) -> None:
        super().__init__()
        self.freed: Callable[[], None] = _nobody_waits
        self._engine = engine
        self._holds = 0

    def hold(self) -> None:
        """See ``Source``."""
        self._holds += 1

    def resume(self) -> None:
        """See ``Source``."""
        self._holds -= 1
        if not self._holds:
            self.freed()

    def has_room(self) -> bool:
        """Whether a batch would be published now."""
        return not self._holds and not self._engine.is_postponed(self.freed)

    def append(self, speaker: Speaker, records: Sequence[Record], done: Callable[[], None]) -> None:
        """Publish a batch; ``done`` is called when PUBACK would be sent, in order per speaker.

        A control record gets a position and is shown to readers of the log, and that is all.

        Raises:
            InvalidTopic: One is not a topic name, or is the broker's own. Nothing was published.
            BusUnavailable: A client that had published the last batch would be held. Nothing was
                published.
        """
        engine = self._engine
        for record in records:
            self._check(record)
        if engine.is_busy or self._holds:
            raise BusUnavailable(
                "subscribers, the database or a view are behind: append again when they have "
                "caught up"
            )
        durable = False
        for record in records:
            durable |= self._publish(record)
        engine.journal.after(speaker, durable, done)

    def _check(self, record: Record) -> None:
        topic = record.topic
        if topic != CONTROL_TOPIC and self._engine.router.route(topic.encode()).reserved:
            raise InvalidTopic(f"{topic!r} is the broker's own topic: nobody may append to it")

    def _publish(self, record: Record) -> bool:
        engine = self._engine
        if record.topic == CONTROL_TOPIC:
            engine.journal.log.pass_through(record)
            return False
        run = MessageRun.single(record.topic.encode(), record.payload, record.qos)
        run.retain = record.retained
        publisher = engine.publisher
        durable = publisher.publish(record.client_id, run, record.timestamp_ms, self)
        # Tools append rarely, and one batch is one piece.
        while (fan_out := publisher.fan_out) is not None:
            publisher.go_on()
            durable |= fan_out.durable
        return durable


def _nobody_waits() -> None:
    """There is nobody to tell."""
