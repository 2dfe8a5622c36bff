"""One run of the broker: the product's engine and connections, without sockets, disk or clock."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.simulation.clients import Pipe
from tests.simulation.ledger import Ledger
from tests.simulation.witness import Witness
from tests.support.disk import Disk

from monstermq_edge.mqtt.bodies import DecoderLimits
from monstermq_edge.mqtt.connection import Connection
from monstermq_edge.mqtt.context import ConnectionContext, Peer
from monstermq_edge.mqtt.phases import Phase
from monstermq_shared.budget import AMPLE, Budget
from monstermq_shared.bus.backlog import Backlog
from monstermq_shared.bus.internal import InternalLog
from monstermq_shared.counters import Counters
from monstermq_shared.records import Record
from monstermq_shared.routing import Interest
from monstermq_shared.sessions.fan_out import DELIVERIES_MAX
from monstermq_shared.sessions.local import LocalEngine, QueueRead, RetainedRead, Turn
from monstermq_shared.sessions.local.reads import Read
from monstermq_shared.sessions.local.settings import EngineSettings
from monstermq_shared.sessions.local.turn import TURN_SIZE
from monstermq_shared.sessions.local.views import EngineViews
from monstermq_shared.stores.changes import CommitResult, QueuedMessage

CONGESTED_AT = 400
"""Bytes under way to a client at which the network takes no more for now."""

PEER = Peer(remote_address="client", local_address="broker", tls=False)

DECODER_LIMITS = DecoderLimits(
    packet_size_max=1_000,
    connect_size_max=1_000,
    filters_max=10,
    topic_levels_max=10,
    topic_length_max=100,
)


class ObservedLog(InternalLog):
    """The product's log, telling which message got which offset."""

    __slots__ = ("_appended",)

    def __init__(self, boot: int, appended: Callable[[Record], None]) -> None:
        super().__init__(boot)
        self._appended = appended

    def append(self, records: Sequence[Record]) -> None:
        """See ``InternalLog``."""
        for record in records:
            self._appended(record)
        super().append(records)


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """How a broker is made; the tests of the simulation put broken parts here.

    ``elsewhere``: the retained view is in another database, and followed.
    ``deliveries_max``, ``turn_work`` and ``turn_size`` are small enough that most things are done
    in pieces.
    """

    settings: EngineSettings
    outbox_size_max: int
    deliveries_max: int = DELIVERIES_MAX
    turn_work: int = AMPLE
    turn_size: int = TURN_SIZE
    engine: type[LocalEngine] = LocalEngine
    boots: bool = True
    elsewhere: bool = False
    backlog_size_max: int = 1_000_000


def views_of(build: Build) -> EngineViews:
    """Topics below ``a``, ``r`` and ``w`` have a durable view, below ``b`` one in memory."""
    backlog = Backlog("elsewhere", build.backlog_size_max, _retained) if build.elsewhere else None
    followers = () if backlog is None else (backlog,)

    def interest(topic: str) -> Interest:
        wanted, durable = topic[0] in "arwb", topic[0] in "arw"
        return Interest(
            wanted,
            durable,
            durable_retained=durable or backlog is None,
            followers_retained=followers,
        )

    return EngineViews(interest, followers, backlog)


def _retained(records: Sequence[Record]) -> Sequence[Record]:
    return [record for record in records if record.retained]


class Broker:
    """A process, from its start to its kill.

    Attributes:
        engine: The product's.
        pipes: Its network connections.
        turn: The turn that was handed to the disk.
        result: What the disk answered, before the engine knows.
        asked: Reads nobody has looked at yet.
        pages: Reads the disk has answered.
        views: Who wants which records, and what is followed.
        shown: Up to where the disk shows what is followed, before the engine knows.
    """

    def __init__(
        self, build: Build, disk: Disk, ledger: Ledger, witness: Witness, wall_ms: int
    ) -> None:
        if build.boots or not disk.boot:
            disk.boot += 1
        self.disk = disk
        self.witness = witness
        self.counters = Counters()
        self.budget = Budget()
        self.views = views_of(build)
        self.engine = build.engine(
            ObservedLog(disk.boot, ledger.appended),
            build.settings,
            self.views,
            self.counters,
            lambda _: (),
            self.budget,
        )
        self.engine.publisher.deliveries_max = build.deliveries_max
        self.engine.journal.turn_size = build.turn_size
        self._turn_work = build.turn_work
        self._context = ConnectionContext(
            port=self.engine,
            counters=self.counters,
            budget=self.budget,
            decoder_limits=DECODER_LIMITS,
            outbox_size_max=build.outbox_size_max,
            connect_timeout_s=10.0,
            keep_alive_max_s=0,
            new_client_id=lambda: "nobody",
            admit=lambda _, __: True,
            wake=lambda _: None,
            wake_later=lambda _: None,
            report=lambda _, __: None,
            came=lambda _, __: None,
            went=lambda _, __: None,
        )
        self.pipes: list[Pipe] = []
        self.turn: Turn | None = None
        self.result: CommitResult | None = None
        self.shown: int | None = None
        self.asked: list[Read] = []
        self.pages: list[tuple[Read, Sequence[QueuedMessage] | Sequence[Record]]] = []
        self._ledger = ledger
        ledger.newest = {topic: record.offset for topic, record in disk.retained.items()}
        ledger.restoring = True
        self.engine.restore(disk.load(), wall_ms)
        self.engine.restored(wall_ms)
        ledger.restoring = False

    # -- the network -----------------------------------------------------------------------------

    def accept(self, pipe: Pipe) -> None:
        """A client opens a connection."""
        pipe.connection = Connection(self._context, PEER, pipe, 0.0)
        self.pipes.append(pipe)

    def receive(self, pipe: Pipe, size: int, now: float, wall_ms: int) -> None:
        """Read a chunk."""
        connection = pipe.connection
        assert connection is not None
        data = bytes(pipe.to_broker[:size])
        del pipe.to_broker[:size]
        before = dict(self._ledger.newest)
        self.budget.left = self._turn_work
        connection.receive_data(data, now, wall_ms)
        self._see_what_came(pipe, before)

    def go_on(self, pipe: Pipe, now: float, wall_ms: int) -> None:
        """Handle more of what was read."""
        assert pipe.connection is not None
        before = dict(self._ledger.newest)
        self.budget.left = self._turn_work
        pipe.connection.go_on(now, wall_ms)
        self._see_what_came(pipe, before)

    def _see_what_came(self, pipe: Pipe, before: dict[str, int]) -> None:
        connection = pipe.connection
        session = self.engine.sessions.get(pipe.client.role.client_id)
        if session is not None and session.link is connection and session.subscriptions:
            pipe.floor = before if pipe.floor is None else pipe.floor
        self._see_disconnect(pipe)

    def _see_disconnect(self, pipe: Pipe) -> None:
        over = pipe.connection is None or pipe.connection.phase is Phase.CLOSED
        if over and pipe.disconnecting and not pipe.to_broker and pipe.will is not None:
            pipe.will.revoked = True

    def lost(self, pipe: Pipe, wall_ms: int) -> None:
        """The client's end is closed, and all it sent has been read."""
        assert pipe.connection is not None
        pipe.connection.connection_lost(wall_ms)
        pipe.broker_open = False
        self.pipes.remove(pipe)

    def flush(self, pipe: Pipe) -> None:
        """Hand the outbox to the network, or end the connection."""
        connection = pipe.connection
        assert connection is not None
        closed = connection.phase is Phase.CLOSED
        if not connection.congested or closed:
            data = connection.data_to_send()
            self.witness.watch(pipe, data)
            pipe.to_client += data
        connection.congested = len(pipe.to_client) > CONGESTED_AT
        if closed:
            pipe.broker_open = False
            self.pipes.remove(pipe)
        else:
            connection.sent()

    def is_dirty(self, pipe: Pipe) -> bool:
        """Whether ``flush`` would do anything."""
        connection = pipe.connection
        assert connection is not None
        relieved = connection.congested and len(pipe.to_client) <= CONGESTED_AT // 2
        says = bool(connection.waiting_size) and not connection.congested
        return relieved or says or connection.phase is Phase.CLOSED

    # -- the disk --------------------------------------------------------------------------------

    def has_work(self) -> bool:
        """Whether ``end_turn`` would do anything."""
        journal = self.engine.journal
        turn = journal.turn
        facts = bool(not turn.is_empty() or journal.log.waiting or journal._ended)
        return (facts and self.turn is None) or bool(self.engine._reads)

    def work(self) -> None:
        """Do a piece of long work."""
        self.engine.work()

    def end_turn(self) -> None:
        """Hand over the facts and take the reads, as the driver does."""
        engine = self.engine
        while (turn := engine.take_turn()) is not None:
            if turn.clients or turn.records:
                self.turn = turn
                break
            engine.committed(CommitResult({}))
        self.asked += engine.take_reads()

    def commit(self) -> None:
        """The disk has it; the engine does not know yet."""
        assert self.turn is not None
        self.result = self.disk.apply(self.turn, retained=self.views.retained is None)

    def committed(self) -> None:
        """The engine is told."""
        assert self.result is not None
        self.turn, result, self.result = None, self.result, None
        self.engine.committed(result)

    def follow(self, turns: int) -> None:
        """The disk has some of what a follower is to commit; the engine does not know yet."""
        backlog = self.views.retained
        assert backlog is not None
        shown = [*backlog.uncommitted()]
        records = [record for chunk in shown[:turns] for record in chunk]
        upto = backlog.upto if turns >= len(shown) else records[-1].offset + 1
        self.disk.follow(records, upto)
        self.shown = upto

    def followed(self) -> None:
        """The follower and the engine are told."""
        assert self.views.retained is not None
        assert self.shown is not None
        upto, self.shown = self.shown, None
        self.views.retained.committed(upto)
        self.engine.retained_shown(upto)

    def look_up(self, index: int) -> None:
        """The disk answers a read with what is committed now."""
        read = self.asked.pop(index)
        if isinstance(read, QueueRead):
            self.pages.append((read, self.disk.queue_page(read)))
        else:
            self.pages.append((read, self.disk.retained_page(read)))

    def bring_page(self, index: int) -> None:
        """The engine gets the answer."""
        read, rows = self.pages.pop(index)
        if isinstance(read, RetainedRead):
            self.engine.retained_page(read, rows)  # type: ignore[arg-type]  # read and rows agree
        else:
            self.engine.queue_page(read, rows)  # type: ignore[arg-type]
