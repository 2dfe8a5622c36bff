"""The local engine on a simulated disk, one step at a time."""

from collections.abc import Sequence
from dataclasses import replace

from tests.support.disk import Disk
from tests.support.links import RecordingLink

from monstermq_shared.budget import Budget
from monstermq_shared.bus.internal import InternalLog
from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.counters import Counters
from monstermq_shared.messages import MessageRun, Will
from monstermq_shared.routing import Interest
from monstermq_shared.sessions.backpressure import HoldLimits
from monstermq_shared.sessions.local import LocalEngine, QueueRead, RetainedRead
from monstermq_shared.sessions.local.persistent import PersistentSession
from monstermq_shared.sessions.local.queue import QueueLimits
from monstermq_shared.sessions.local.session import Session
from monstermq_shared.sessions.local.settings import EngineSettings
from monstermq_shared.sessions.local.views import EngineViews
from monstermq_shared.sessions.ports import AttachRequest

QUEUE = QueueLimits(
    enabled=True, messages_max=1_000, size_max=1_000_000, drop_oldest=True, tail_max=1_000
)

HOLD = HoldLimits(
    pending_max=1_000, pending_size_max=1_000_000, backlog_size_max=1_000_000, patience_s=5.0
)

SETTINGS = EngineSettings(
    in_flight_max=10,
    open_ids_max=100,
    sessions_max=1_000_000,
    subscriptions_max=100,
    topic_levels_max=10,
    route_cache_max=100,
    queue=QUEUE,
    hold=HOLD,
    session_expiry_s=None,
)


def settings(
    *,
    window: int = SETTINGS.in_flight_max,
    queue: QueueLimits = QUEUE,
    hold: HoldLimits = HOLD,
) -> EngineSettings:
    """Return settings with room for everything a test does not say."""
    return replace(SETTINGS, in_flight_max=window, queue=queue, hold=hold)


def run_of(
    topic: str, payloads: Sequence[bytes], qos: int, first_id: int = 1, *, retain: bool = False
) -> MessageRun:
    """Make a run as the decoder does; packet ids count up from ``first_id``."""
    ends = [sum(map(len, payloads[: i + 1])) for i in range(len(payloads))]
    starts = [end - len(payload) for end, payload in zip(ends, payloads, strict=True)]
    ids = range(first_id, first_id + len(payloads)) if qos else ()
    return MessageRun(topic.encode(), qos, retain, b"".join(payloads), ids, starts, ends)


def session_of(link: RecordingLink) -> Session:
    """Return the session a link is attached to."""
    session = link.session
    assert isinstance(session, Session)
    return session


def subscribe_to(
    engine: LocalEngine, session: Session, packet_id: int, filters: Sequence[tuple[str, int]]
) -> None:
    """Do what a SUBSCRIBE causes."""
    codes, _ = engine.subscribe(session, filters)
    engine.subscribed(session, packet_id, codes)


def unsubscribe_from(
    engine: LocalEngine, session: Session, packet_id: int, filters: Sequence[str]
) -> None:
    """Do what an UNSUBSCRIBE causes."""
    engine.unsubscribe(session, filters)
    engine.unsubscribed(session, packet_id)


class Bench:
    """A broker without network, whose turns end when a test says so.

    Topics below ``stored`` have a durable view; what is retained is durable except on topics below
    ``volatile``.

    Attributes:
        stuck: The ends of turns commit nothing.
    """

    def __init__(self, using: EngineSettings = SETTINGS, disk: Disk | None = None) -> None:
        self.disk = disk or Disk()
        self.disk.boot += 1
        self.counters = Counters()
        self.budget = Budget()
        self.stuck = False
        self.wall_ms = 0
        self.system_values: dict[str, bytes] = {}
        self.engine = LocalEngine(
            InternalLog(self.disk.boot),
            using,
            EngineViews(self._interest),
            self.counters,
            lambda _: [*self.system_values.items()],
            self.budget,
        )
        self.engine.restore(self.disk.load(), self.wall_ms)
        self.engine.restored(self.wall_ms)

    @staticmethod
    def _interest(topic: str) -> Interest:
        stored = topic.startswith("stored/")
        retained = not topic.startswith("volatile/")
        return Interest(stored, stored, durable_retained=retained)

    def killed(self, using: EngineSettings = SETTINGS) -> "Bench":
        """Return the next process on the same disk."""
        return Bench(using, self.disk)

    # -- the driver ------------------------------------------------------------------------------

    def commit(self) -> None:
        """Commit what there is; nothing is read."""
        turn = self.engine.take_turn()
        if turn is not None:
            self.engine.committed(self.disk.apply(turn))

    def work(self) -> None:
        """Do all that is done in pieces."""
        while self.engine.work():
            pass

    def answer_reads(self) -> int:
        """Answer the reads that were asked for; return how many there were."""
        reads = self.engine.take_reads()
        for read in reads:
            if isinstance(read, QueueRead):
                self.engine.queue_page(read, self.disk.queue_page(read))
            elif isinstance(read, RetainedRead):
                self.engine.retained_page(read, self.disk.retained_page(read))
        return len(reads)

    def settle(self) -> None:
        """Work, commit and read until there is nothing left to do."""
        while True:
            self.work()
            turn = self.engine.take_turn()
            if turn is not None:
                self.engine.committed(self.disk.apply(turn))
            elif not self.answer_reads():
                return

    def end_turn(self) -> bool:
        """See ``hub.TurnEnd``: the turn of the event loop ends with all committed and read."""
        more = self.engine.work()
        if not more and not self.stuck:
            self.settle()
        return more

    # -- clients ---------------------------------------------------------------------------------

    def attach(
        self,
        client_id: str,
        *,
        clean: bool = False,
        will: Will | None = None,
        link: RecordingLink | None = None,
    ) -> RecordingLink:
        """Connect, and let CONNACK wait for its commit."""
        link = link or RecordingLink()
        request = AttachRequest(client_id=client_id, clean=clean, will=will, information={})
        link.session = self.engine.attach(link, request, self.wall_ms)
        return link

    def connect(
        self, client_id: str, *filters: tuple[str, int], clean: bool = False
    ) -> RecordingLink:
        """Connect, subscribe, and see it all through; what was said is forgotten."""
        link = self.attach(client_id, clean=clean)
        if filters:
            subscribe_to(self.engine, session_of(link), 1, filters)
        self.settle()
        link.take()
        return link

    def connect_without_commit(self, client_id: str) -> RecordingLink:
        """Connect with a clean session; what is not committed yet stays so."""
        link = self.attach(client_id, clean=True)
        link.take()
        return link

    def connect_again(self, client_id: str) -> RecordingLink:
        """Connect with the session there is, and see it all through; nothing is forgotten."""
        link = self.attach(client_id)
        self.settle()
        return link

    def drop(self, link: RecordingLink, reason: CloseReason = CloseReason.TRANSPORT_CLOSED) -> None:
        """End the connection."""
        self.engine.detach(session_of(link), reason, self.wall_ms)

    def publish(
        self,
        link: RecordingLink,
        topic: str,
        *payloads: bytes,
        qos: int = 1,
        first_id: int = 1,
        retain: bool = False,
    ) -> None:
        """Publish a run."""
        run = run_of(topic, payloads, qos, first_id, retain=retain)
        self.engine.publish(session_of(link), run, self.wall_ms)

    def persistent(self, client_id: str) -> PersistentSession:
        """Return a persistent session."""
        session = self.engine.sessions[client_id]
        assert isinstance(session, PersistentSession)
        return session


def acknowledge_everything(bench: Bench, link: RecordingLink) -> list[bytes]:
    """Acknowledge QoS 1 messages until no more come; return their payloads."""
    payloads: list[bytes] = []
    while publishes := link.publishes():
        payloads += [publish.payload for publish in publishes]
        bench.engine.acknowledge(session_of(link), [p.packet_id for p in publishes])
        bench.settle()
    return payloads
