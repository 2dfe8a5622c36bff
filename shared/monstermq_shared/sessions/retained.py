"""What is retained, for a new subscription: rows, plus what the rows do not show yet.

A message retained a millisecond ago is in the overlay, not in the table. First the overlay is sent,
then the table, both a page at a time, by topic, while messages flow; a stored message that is older
than what was already delivered on its topic is skipped (ARCHITECTURE 11.12).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.records import Record
from monstermq_shared.sessions.session import ClientSession
from monstermq_shared.stores.ports import is_last_page
from monstermq_shared.topics import is_system_topic, matches

S = TypeVar("S", bound=ClientSession)
T_contra = TypeVar("T_contra", bound=ClientSession, contravariant=True)

PAGE_MESSAGES = 500
"""Stored messages read at once, at most."""


def page_size(pending_max: int) -> int:
    """Return how many stored messages to read at once, for one client's window.

    Two pages may wait for it. They must not count as a subscriber that is too slow, for which
    publishers are held from ``pending_max`` messages on.
    """
    return max(min(PAGE_MESSAGES, pending_max // 2), 1)


NOTED_TOPICS_MAX = 100_000
"""Topics whose live messages one replay remembers, before its client counts as too slow."""

_PIECE_WORK = 800
"""Units of work (``budget``) that a piece of the overlay costs, at most."""

SystemValues = Callable[[str], Sequence[tuple[str, bytes]]]
"""Filter -> the ``$SYS`` topics it matches, with their values."""


IsOlder = Callable[[Record], bool]
"""Whether a stored message was in the log before a subscription held: it was not delivered live."""


class RetainedLog(Protocol[T_contra]):
    """What the replays must know of the log, and of what it holds that the table does not show."""

    def older_than_now(self) -> IsOlder:
        """Return what tells the messages that came before from those that are delivered live."""
        ...

    def fold(self) -> bool:
        """Take some of what is retained and not in the table yet; return whether there is more."""
        ...

    def scan(
        self, topic_filter: str, *, start: str, limit: int
    ) -> tuple[list[tuple[str, Record | None]], str | None]:
        """See ``Overlay.scan``."""
        ...

    def copy(self, session: T_contra, record: Record, qos: int) -> None:
        """Deliver a stored message at QoS 1 or 2: a message of its own."""
        ...


class RetainedReplay(Generic[S]):
    """Sends what is retained to one new subscription, a page at a time."""

    __slots__ = (
        "after",
        "is_older",
        "noted",
        "qos",
        "session",
        "started",
        "topic_filter",
        "unwritten",
    )

    def __init__(self, session: S, topic_filter: str, qos: int, is_older: IsOlder) -> None:
        self.session = session
        self.topic_filter = topic_filter
        self.qos = qos
        self.after = ""
        self.started = False
        # Where to go on in the overlay; None when it is through.
        self.unwritten: str | None = ""
        self.is_older = is_older
        # Topics of which a newer message was delivered than the table may show.
        self.noted: set[str] = set()


@dataclass(frozen=True, slots=True)
class RetainedRead:
    """One page of the retained messages that match a filter, by topic, after a topic."""

    replay: RetainedReplay[Any]
    topic_filter: str
    after: str
    limit: int


class RetainedMessages(Generic[S]):
    """All replays that are going on.

    A session has at most one replay per subscription; they run one after the other.

    Attributes:
        replays: Those that are not finished, by session and filter.

    Args:
        log: What is not in the table yet.
        read: Asks the driver for a page; ``page`` brings it back.
        system_values: Reads the ``$SYS`` tree, which is in no table.
        too_slow: Ends a connection whose replay cannot be kept exact any more.
        later: Does a piece of work when there is time.
        page_max: Retained messages read at once; as many may wait for a client's window.
    """

    def __init__(
        self,
        log: RetainedLog[S],
        read: Callable[[RetainedRead], None],
        system_values: SystemValues,
        too_slow: Callable[[S, CloseReason], None],
        later: Callable[[Iterator[int], int], None],
        page_max: int,
    ) -> None:
        self.replays: dict[S, dict[str, RetainedReplay[S]]] = {}
        self._log = log
        self._read = read
        self._system_values = system_values
        self._too_slow = too_slow
        self._later = later
        self._page_max = page_max
        # Those that a piece of the overlay is to be sent to.
        self._sending: set[S] = set()
        # One read at a time, however often a subscription is repeated meanwhile.
        self._reading: set[S] = set()

    def note(self, topic: str) -> None:
        """Replays are going on, and a retained message goes out live: the table may be older."""
        for replays in list(self.replays.values()):
            replay = _first(replays)
            if replay.started and matches(replay.topic_filter, topic):
                replay.noted.add(topic)
                if len(replay.noted) > NOTED_TOPICS_MAX:
                    self._too_slow(replay.session, CloseReason.SLOW_CONSUMER)

    def begin(self, session: S, topic_filter: str, qos: int) -> None:
        """A subscription holds from now on; ``advance`` sends what was retained before.

        If the subscription is repeated, its replay begins anew: each SUBSCRIBE is answered with
        what is retained [MQTT-3.8.4-3].
        """
        replays = self.replays.setdefault(session, {})
        replays.pop(topic_filter, None)
        replays[topic_filter] = RetainedReplay(
            session, topic_filter, qos, self._log.older_than_now()
        )

    def cancel(self, session: S, topic_filter: str) -> None:
        """A subscription has ended, and with it what it was still to be sent."""
        replays = self.replays.get(session)
        if replays is not None and replays.pop(topic_filter, None) is not None and not replays:
            del self.replays[session]

    def forget(self, session: S) -> None:
        """The connection has gone, and with it what it was still to be sent."""
        self.replays.pop(session, None)

    def advance(self, session: S) -> None:
        """Go on where there is room for another page."""
        replays = self.replays.get(session)
        if replays is None:
            return
        link = session.link
        assert link is not None
        replay = _first(replays)
        if session in self._reading or not session.takes_copies:
            return
        if session.pending_count >= self._page_max or not link.has_room():
            return
        replay.started = True
        if replay.unwritten is None:
            self._reading.add(session)
            self._read(RetainedRead(replay, replay.topic_filter, replay.after, self._page_max))
        elif session not in self._sending:
            self._sending.add(session)
            self._later(self._send_unwritten(session), 1)

    def _send_unwritten(self, session: S) -> Iterator[int]:
        """Send a piece of what the table does not show, and remember to skip what it shows instead.

        Yields:
            What that costs, see ``budget``.
        """
        self._sending.discard(session)
        replays = self.replays.get(session)
        replay = None if replays is None else _first(replays)
        if replay is not None and replay.unwritten is not None and session.takes_copies:
            if not self._log.fold():
                self._send_piece(replay, replay.unwritten)
            self.advance(session)
        yield _PIECE_WORK

    def _send_piece(self, replay: RetainedReplay[S], start: str) -> None:
        link = replay.session.link
        assert link is not None
        if not start and is_system_topic(replay.topic_filter):
            link.forward_stored(self._system_values(replay.topic_filter))
        changes, replay.unwritten = self._log.scan(
            replay.topic_filter, start=start, limit=self._page_max
        )
        newest: list[Record] = []
        for topic, record in changes:
            if topic not in replay.noted:
                replay.noted.add(topic)
                if record is not None and replay.is_older(record):
                    newest.append(record)
        self._send(replay, newest)

    def awaits(self, read: RetainedRead) -> bool:
        """Whether the page of this read would be sent to anybody."""
        replay = read.replay
        return self.replays.get(replay.session, {}).get(replay.topic_filter) is replay

    def page(self, read: RetainedRead, records: Sequence[Record]) -> None:
        """A page has come: send it, and go on or finish."""
        replay = read.replay
        session = replay.session
        self._reading.discard(session)
        if not session.takes_copies:
            # It was too slow meanwhile, and goes on from its rows: then this page is read again.
            return
        if self.awaits(read):
            noted = replay.noted
            is_older = replay.is_older
            self._send(replay, [r for r in records if r.topic not in noted and is_older(r)])
            if is_last_page(records, limit=read.limit):
                self.cancel(session, replay.topic_filter)
            else:
                replay.after = records[-1].topic
        # Else the subscription was repeated or has ended; the next one may have waited for this.
        self.advance(session)

    def _send(self, replay: RetainedReplay[S], records: Sequence[Record]) -> None:
        """Deliver with the lower of both QoS [MQTT-3.8.4-6] and the retain flag."""
        session = replay.session
        link = session.link
        assert link is not None
        unacknowledged: list[tuple[str, bytes]] = []
        for record in records:
            qos = min(record.qos, replay.qos)
            if qos == 0:
                unacknowledged.append((record.topic, record.payload))
            else:
                self._log.copy(session, record, qos)
        if unacknowledged:
            link.forward_stored(unacknowledged)


def _first(replays: dict[str, RetainedReplay[S]]) -> RetainedReplay[S]:
    """Return the replay that runs, or runs next."""
    return next(iter(replays.values()))
