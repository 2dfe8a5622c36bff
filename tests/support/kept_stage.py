"""One kept session without an engine: what it asks of one (``KeptPort``) is written down."""

from collections.abc import Sequence

from tests.support.links import Publish, RecordingLink, Told

from monstermq_shared.counters import Counters
from monstermq_shared.messages import MessageRun
from monstermq_shared.records import Record
from monstermq_shared.sessions.distributed.kept import KeptSession
from monstermq_shared.sessions.distributed.kept_acks import Acks
from monstermq_shared.sessions.distributed.kept_line import Opening
from monstermq_shared.sessions.distributed.session_state import SessionState
from monstermq_shared.sessions.ports import Answer
from monstermq_shared.stores.changes import QueuedMessage
from monstermq_shared.stores.queues import QueueAsk, QueuePage

EPOCH = 50
"""Where the claim of the session stands."""

MARK = 100
"""Where its first marker stands, in every partition."""

Position = tuple[int, int]


def live(partition: int, offset: int, *payloads: bytes, qos: int = 1) -> MessageRun:
    """Return messages that stand in the log from there on; by default one, named by its offset."""
    run = MessageRun.of(b"t", list(payloads) or [str(offset).encode()], qos)
    run.partition, run.first_offset = partition, offset
    return run


def row(offset: int, qos: int = 1, payload: bytes | None = None) -> QueuedMessage:
    """Return a row of a queue."""
    named = str(offset).encode() if payload is None else payload
    return QueuedMessage(record=Record("t", named, 2, False, "p", 0, offset), qos=qos)


class KeptStage:
    """A session, its connection, and the engine's part.

    Attributes:
        session: The session.
        link: Its connection.
        counters: What it counts.
        marks: Partitions that it wants a marker in.
        opening: What it wants the packet ids of in the log.
        waits: (partition, mark) of what it waits for.
        asks: Pages that it wants.
        turns: How often it asked to be relieved of its acks.
    """

    def __init__(
        self,
        *,
        partitions: int = 2,
        window: int = 4,
        limits: tuple[int, int] = (4, 1_000_000),
        page_max: int = 32,
    ) -> None:
        self.partitions = partitions
        self.marks: list[int] = []
        self.opening: list[Opening] = []
        self.waits: list[Position] = []
        self.asks: list[QueueAsk] = []
        self.turns = 0
        self.counters = Counters()
        self.link = RecordingLink()
        self.refused: list[object] = []
        self.session = KeptSession(
            "c",
            window,
            0,
            self.refused.append,
            port=self,
            limits=limits,
            page_max=page_max,
            counters=self.counters,
        )
        self.session.link = self.link

    # -- the port --------------------------------------------------------------------------------

    def mark(self, session: KeptSession, partition: int) -> None:
        """See ``KeptPort``."""
        assert session is self.session
        self.marks.append(partition)

    def open(self, session: KeptSession, opening: Opening) -> None:
        """See ``KeptPort``."""
        assert session is self.session
        self.opening.append(opening)

    def acks(self, session: KeptSession) -> None:
        """See ``KeptPort``."""
        assert session is self.session
        self.turns += 1

    def wait(self, session: KeptSession, partition: int, mark: int) -> None:
        """See ``KeptPort``."""
        assert session is self.session
        self.waits.append((partition, mark))

    def ask(self, session: KeptSession, ask: QueueAsk) -> None:
        """See ``KeptPort``."""
        assert session is self.session
        self.asks.append(ask)

    # -- what a test does ------------------------------------------------------------------------

    def begin(
        self,
        *,
        new: bool = False,
        in_flight: dict[int, tuple[int | None, int | None]] | None = None,
        sent: tuple[Position, ...] | None = (),
    ) -> None:
        """The claim is read back; the session is an old one unless it is said to be new."""
        state = SessionState()
        state.epoch = EPOCH
        state.incarnation = EPOCH if new else EPOCH - 10
        state.in_flight = in_flight or {}
        state.sent = sent
        self.session.epoch = EPOCH
        self.session.begin(state)

    def start(
        self,
        *,
        new: bool = False,
        in_flight: dict[int, tuple[int | None, int | None]] | None = None,
        sent: tuple[Position, ...] | None = (),
    ) -> None:
        """The claim and all markers are read back, and CONNACK is sent."""
        self.begin(new=new, in_flight=in_flight, sent=sent)
        for partition in range(self.partitions):
            self.session.marked(partition, MARK)
        self.session.start()

    def page(
        self,
        partition: int,
        *rows: QueuedMessage,
        last: bool = True,
        cut: Position | None = (EPOCH, MARK),
    ) -> None:
        """Answer the newest ask of a partition."""
        ask = next(ask for ask in reversed(self.asks) if ask.partition == partition)
        self.session.page(ask, QueuePage(rows, cut, last))

    def paged(self, *partitions: int) -> None:
        """Let partitions have no rows; all, if none is named."""
        for partition in partitions or range(self.partitions):
            self.session.reflected(partition)
            self.page(partition)

    def acknowledge(self, packet_ids: Sequence[int]) -> None:
        """PUBACKs come, as they go through the engine."""
        self.session.acknowledge(packet_ids)
        self.session.fill_window()

    def complete(self, packet_ids: Sequence[int]) -> None:
        """PUBCOMPs come, as they go through the engine."""
        self.session.complete(packet_ids)
        self.session.fill_window()

    def append_acks(self) -> Acks:
        """The turn ends, and what was acknowledged is appended."""
        acks = self.session.take_acks()
        for _, packet_ids in acks.values():
            self.session.acked(packet_ids)
        return acks

    def open_all(self) -> None:
        """Packet ids are read back."""
        opening, self.opening = self.opening, []
        for each in opening:
            self.session.opened(each)

    def payloads(self) -> list[bytes]:
        """Return what was published since."""
        return self.link.payloads()

    def publishes(self) -> list[Publish]:
        """Return the same with packet ids."""
        return self.link.publishes()

    def pubrels(self) -> list[int]:
        """Return the ids that PUBREL was sent for since; forget all else."""
        return [
            said.packet_id
            for said in self.link.take()
            if isinstance(said, Told) and said.kind is Answer.PUBREL
        ]
