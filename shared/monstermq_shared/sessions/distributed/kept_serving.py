"""All that an edge has for kept sessions, put together."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from monstermq_shared.bus.facts import EXPIRY_S_MAX
from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.counters import Counters
from monstermq_shared.sessions.chores import Chores
from monstermq_shared.sessions.distributed.bus_facts import BusFacts
from monstermq_shared.sessions.distributed.inbound_ids import InboundIds
from monstermq_shared.sessions.distributed.kept import KeptSession
from monstermq_shared.sessions.distributed.kept_beginning import KeptBeginning
from monstermq_shared.sessions.distributed.kept_port import EnginePort
from monstermq_shared.sessions.distributed.kept_publishing import Append, KeptPublishing
from monstermq_shared.sessions.distributed.kept_states import KeptStates
from monstermq_shared.sessions.distributed.kept_subscribing import (
    FactRead,
    KeptSubscribing,
    MarkerRead,
    Varied,
)
from monstermq_shared.sessions.distributed.ports import FactWriter, MessageWriter
from monstermq_shared.sessions.distributed.read_back import ReadBack
from monstermq_shared.sessions.distributed.session import BusSession
from monstermq_shared.sessions.distributed.settings import DistributedSettings, LogBegin
from monstermq_shared.sessions.ports import AttachRequest
from monstermq_shared.sessions.subscriptions import Subscriptions
from monstermq_shared.stores.queues import KeptRows, QueueAsk, QueuePage

LIMIT = 2
"""At so many times the bound at which publishers are held, what comes for a session is for rows."""


class KeptServing:
    """Kept sessions of one edge.

    Args:
        messages: The log of messages.
        facts: The sessions log.
        settings: What the engine was told.
        append: Appends a stamped run.
        close: Ends a connection.
        counters: What is counted.

    Attributes:
        inbound: Which inbound QoS 2 ids are open.
        markers: Who waits for markers.
        read_facts: Who waits for facts of the sessions log.
        states: Sessions as of their claims.
        varied: Who has not the same subscriptions everywhere.
        publishing: What they publish.
        bus_facts: Facts of the log of messages.
    """

    subscribing: KeptSubscribing
    port: EnginePort
    _beginning: KeptBeginning

    def __init__(
        self,
        messages: MessageWriter,
        facts: FactWriter,
        settings: DistributedSettings,
        append: Append,
        close: Callable[[BusSession, CloseReason], None],
        counters: Counters,
    ) -> None:
        self.inbound = InboundIds()
        self.markers = ReadBack[MarkerRead](messages.partitions)
        self.read_facts = ReadBack[FactRead](facts.partitions)
        self.states = KeptStates(
            facts.partitions, settings.facts_size_max, counters, served=settings.serves_kept
        )
        self.varied = Varied(messages)
        self.publishing = KeptPublishing(messages, self.inbound, append, close, counters)
        self.bus_facts = BusFacts(messages.run, messages.partitions, self.inbound, self.markers)
        self._messages = messages
        self._facts = facts
        self._settings = settings
        self._close = close
        self._counters = counters

    def serve_with(
        self,
        subscriptions: Subscriptions[BusSession],
        chores: Chores,
        session_of: Callable[[str], BusSession | None],
        served: Callable[[KeptSession], None],
    ) -> None:
        """Take the parts of the engine that are made later.

        Args:
            subscriptions: All of them.
            chores: Does what is done bit by bit.
            session_of: Client id -> its session here, if it has one.
            served: Called once CONNACK may be sent.
        """
        self.port = EnginePort(
            self._messages, self._facts, self.markers, self.read_facts, session_of
        )
        self.subscribing = KeptSubscribing(
            messages=self._messages,
            facts=self._facts,
            markers=self.markers,
            read_facts=self.read_facts,
            subscriptions=subscriptions,
            varied=self.varied,
            retained=subscriptions.retained,
            counters=self._counters,
        )
        self._beginning = KeptBeginning(
            states=self.states,
            messages=self._messages,
            markers=self.markers,
            subscriptions=subscriptions,
            chores=chores,
            close=self._close,
            served=served,
        )

    def begin(self, begin: LogBegin) -> None:
        """Reading begins (E1)."""
        self.inbound.begin(begin.inbound)
        self.bus_facts.begin(begin.queues, begin.fences)
        self.states.begin(begin.sessions)

    # -- connections -------------------------------------------------------------------------------

    def new_session(
        self, request: AttachRequest, partition: int, refused: Callable[[BusSession], None]
    ) -> KeptSession:
        """Return the session of a connection that claims a kept one."""
        hold = self._settings.hold
        return KeptSession(
            request.client_id,
            self._settings.in_flight_max,
            partition,
            refused,
            port=self.port,
            limits=(LIMIT * hold.pending_max, LIMIT * hold.pending_size_max),
            page_max=self._settings.page_max,
            counters=self._counters,
        )

    @property
    def expiry_s(self) -> int:
        """How long a kept session outlives its connection, as claims say it."""
        expiry_s = self._settings.session_expiry_s
        return EXPIRY_S_MAX if expiry_s is None else max(1, min(expiry_s, EXPIRY_S_MAX))

    def claimed(self, session: KeptSession) -> None:
        """A claim was read back, and its connection is there (E2)."""
        self._beginning.claimed(session)

    def left(self, session: KeptSession) -> None:
        """A connection has gone."""
        self.subscribing.forget(session)
        self.port.forget(session)

    # -- turns -------------------------------------------------------------------------------------

    def turn(self, now_s: float, wall_ms: int) -> None:
        """A turn begins: what is appended from now on has this time."""
        self.port.wall_ms = self.subscribing.wall_ms = self._beginning.wall_ms = wall_ms
        self.subscribing.now_s = now_s
        self.subscribing.go_on()

    def work(self) -> bool:
        """Let some of those begin that are known; return whether more could."""
        return self._beginning.go_on()

    # -- rows --------------------------------------------------------------------------------------

    def pages(self, asks: Iterable[QueueAsk], pages: Iterable[QueuePage]) -> None:
        """Bring the pages that were asked for."""
        self.port.pages(asks, pages)

    def rows(self, partition: int, client_ids: Sequence[str], rows: KeptRows) -> None:
        """Bring the rows that were asked for of these clients."""
        self.states.rows(partition, client_ids, rows)

    def databases_down(self, down: bool) -> None:
        """The database cannot be reached, or is there again (E2)."""
        if down:
            self.states.give_up()
        else:
            self.states.is_down = False

    def reflected(self, positions: Mapping[int, int]) -> None:
        """The rows of sessions reflect the sessions log up to here."""
        self.states.reflected(positions)
