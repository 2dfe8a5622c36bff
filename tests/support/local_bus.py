"""A local engine with its internal bus and no database: every turn is committed at once."""

import asyncio
from collections.abc import Sequence

from monstermq_shared.budget import Budget
from monstermq_shared.bus.backlog import Backlog
from monstermq_shared.bus.internal import InternalBus, InternalLog
from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.counters import Counters
from monstermq_shared.messages import MessageRun
from monstermq_shared.routing import Interest
from monstermq_shared.sessions.backpressure import HoldLimits
from monstermq_shared.sessions.local import LocalEngine
from monstermq_shared.sessions.local.appending import RecordAppender
from monstermq_shared.sessions.local.queue import QueueLimits
from monstermq_shared.sessions.local.session import Session
from monstermq_shared.sessions.local.settings import EngineSettings
from monstermq_shared.sessions.local.views import EngineViews
from monstermq_shared.sessions.ports import Answer, AttachRequest, Link
from monstermq_shared.stores.changes import CommitResult

WALL_MS = 1_768_473_000_000
GENERATION = "test"
PENDING_MAX = 50

SETTINGS = EngineSettings(
    in_flight_max=20,
    open_ids_max=100,
    sessions_max=1_000_000,
    subscriptions_max=100,
    topic_levels_max=10,
    route_cache_max=100,
    queue=QueueLimits(
        enabled=True, messages_max=1000, size_max=1_000_000, drop_oldest=True, tail_max=100
    ),
    hold=HoldLimits(
        pending_max=PENDING_MAX, pending_size_max=1_000_000, backlog_size_max=4_000, patience_s=5.0
    ),
    session_expiry_s=None,
)


class LinkRecorder(Link):
    """A connection that keeps what its engine gives it."""

    def __init__(self) -> None:
        super().__init__()
        self._held = False
        self.payloads: list[bytes] = []
        self.answers: list[tuple[Answer, list[int]]] = []

    @property
    def is_held(self) -> bool:
        """Whether it is held."""
        return self._held

    def attached(self, session_present: bool) -> None:
        """Nothing waits for CONNACK."""

    def forward(self, run: MessageRun) -> None:
        """Keep a QoS 0 run."""
        self.payloads += run.payloads

    def forward_stored(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Keep stored messages."""
        self.payloads += [payload for _, payload in messages]

    def deliver(
        self, run: MessageRun, first: int, packet_ids: Sequence[int], qos: int, dup: bool
    ) -> None:
        """Keep part of a run."""
        self.payloads += run.payloads[first : first + len(packet_ids)]

    def answer(self, kind: Answer, packet_ids: Sequence[int]) -> None:
        """Keep what is acknowledged."""
        self.answers.append((kind, list(packet_ids)))

    def subscribed(self, packet_id: int, codes: Sequence[int]) -> None:
        """Nothing waits for SUBACK."""

    def unsubscribed(self, packet_id: int) -> None:
        """Nothing waits for UNSUBACK."""

    def hold(self) -> None:
        """Be held."""
        self._held = True

    def resume(self) -> None:
        """Be held no more."""
        self._held = False

    def has_room(self) -> bool:
        """There is always room."""
        return True

    def close(self, reason: CloseReason) -> None:
        """Nobody is closed here."""
        raise AssertionError(f"closed: {reason.name}")


class LocalBus:
    """The engine, its bus, and a database that always says yes, unless ``stuck``.

    Attributes:
        engine: The engine. Its views want the topics below ``stored/``, the one whose backlog is
            given those below ``followed/``.
        bus: The bus.
        stuck: Commits stand still, until ``end_turn`` is called without it.
        committed_records: How many records the views were given.
    """

    def __init__(
        self, *, boot: int = 1, size_max: int = 100_000, followed: Backlog | None = None
    ) -> None:
        self.log = InternalLog(boot)
        backlogs = () if followed is None else (followed,)
        self._followed = Interest(True, False, True, followers=backlogs)
        views = EngineViews(self._interest, backlogs)
        self.engine = LocalEngine(self.log, SETTINGS, views, Counters(), lambda _: (), Budget())
        self.bus = InternalBus(
            self.log,
            RecordAppender(self.engine),
            self._touch,
            generation=GENERATION,
            size_max=size_max,
        )
        self.stuck = False
        self.committed_records = 0

    def _interest(self, topic: str) -> Interest:
        if topic.startswith("followed/"):
            return self._followed
        stored = topic.startswith("stored/")
        return Interest(stored, stored, durable_retained=True)

    def _touch(self) -> None:
        asyncio.get_running_loop().call_soon(self.end_turn)

    def end_turn(self) -> None:
        """Commit what there is."""
        while not self.stuck and (turn := self.engine.take_turn()) is not None:
            self.committed_records += len(turn.records)
            self.engine.committed(CommitResult({}))

    def connect(self, client_id: str, *, clean: bool = True) -> tuple[Session, LinkRecorder]:
        """Return the session of a connected client, and what it hears."""
        link = LinkRecorder()
        request = AttachRequest(client_id=client_id, clean=clean, will=None, information={})
        session = self.engine.attach(link, request, WALL_MS)
        self.end_turn()
        return session, link

    def publish(self, session: Session, run: MessageRun) -> None:
        """Let a client publish a run, and finish the turn."""
        self.engine.publish(session, run, WALL_MS)
        self.end_turn()


def a_run(topic: str, payloads: Sequence[bytes], *, qos: int = 0, first_id: int = 1) -> MessageRun:
    """Return what a client says in one read chunk on one topic."""
    stops = [sum(map(len, payloads[: i + 1])) for i in range(len(payloads))]
    starts = [0, *stops[:-1]]
    ids = range(first_id, first_id + len(payloads)) if qos else ()
    return MessageRun(topic.encode(), qos, False, b"".join(payloads), ids, starts, stops)
