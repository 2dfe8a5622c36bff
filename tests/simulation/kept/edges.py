"""An edge: the product's engine, and in small steps what its host does around it."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

from tests.simulation.kept.clients import (
    Connection,
    Disconnect,
    Packet,
    Send,
    Subscribe,
    Unsubscribe,
)
from tests.simulation.kept.configurations import Configuration
from tests.simulation.kept.database import SimDatabase
from tests.simulation.kept.edge_writing import LEASE_S, EdgeWriter, settings_of
from tests.simulation.kept.ledger import Ledger
from tests.simulation.kept.logs import Log, LogEntry
from tests.support.edges import LATENESS_MS
from tests.support.links import Told

from monstermq_shared.budget import Budget
from monstermq_shared.bus.ports import RecordBatch
from monstermq_shared.bus.runs import Runs
from monstermq_shared.close_reasons import CloseReason
from monstermq_shared.counters import Counters
from monstermq_shared.messages import MessageRun
from monstermq_shared.sessions.distributed.engine import DistributedEngine
from monstermq_shared.sessions.distributed.fence_table import FenceTable
from monstermq_shared.sessions.distributed.inbound_ids import InboundIds
from monstermq_shared.sessions.distributed.kept import KeptSession
from monstermq_shared.sessions.distributed.settings import LogBegin
from monstermq_shared.sessions.ports import Answer, AttachRequest
from monstermq_shared.stores.queues import KeptRows, QueueAsk, QueuePage

STEP_S = 0.001
START_MS = 1_000_000


class SimEdge:
    """One edge.

    Attributes:
        engine: The engine.
        messages: Its writer of messages.
        facts: Its writer of session facts.
        is_paused: It stands still.
        land_rate: Of its appends.
    """

    def __init__(
        self,
        configuration: Configuration,
        logs: tuple[Log, Log],
        database: SimDatabase,
        ledger: Ledger,
        run: bytes,
        chance: random.Random,
    ) -> None:
        self._database = database
        self._ledger = ledger
        self._chance = chance
        self.messages = EdgeWriter(run, logs[0], chance, ledger)
        self.facts = EdgeWriter(run, logs[1], chance, ledger)
        self.is_paused = False
        self.land_rate = (
            chance.choice((0.06, 0.3, 3, 3)) if configuration.lagging else configuration.land_rate
        )
        self._budget = Budget()
        self._late_s = 0.0
        self._is_dirty = True
        self._asks: list[QueueAsk] = []
        self._asked: list[tuple[list[QueueAsk], list[QueuePage]]] = []
        self._rows: list[tuple[int, list[str], KeptRows]] = []
        self._logs = {"messages": logs[0].partitions, "sessions": logs[1].partitions}
        self.engine = DistributedEngine(
            self.messages,
            self.facts,
            settings_of(configuration),
            Counters(),
            system_values=lambda _: [],
            budget=self._budget,
        )
        self._begin()

    def _begin(self) -> None:
        """E1."""
        tables = [table.laid() for table in self._database.queues]
        messages = {p: table.state.mark.reflected for p, table in enumerate(tables)}
        sessions = {
            p: table.state.mark.reflected for p, table in enumerate(self._database.sessions)
        }
        fences, inbound = FenceTable(len(tables), LATENESS_MS), InboundIds()
        for partition, table in enumerate(tables):
            marks = {name: (cut.epoch, cut.marked_ms) for name, cut in table.cuts.items()}
            fences.load(partition, marks)
            inbound.load(partition, table.open_ids)
        self.positions = {"messages": dict(messages), "sessions": dict(sessions)}
        self._runs = {
            "messages": [Runs.load(at.state.runs, LATENESS_MS) for at in tables],
            "sessions": [Runs.load(at.state.runs, LATENESS_MS) for at in self._database.sessions],
        }
        self.engine.begin(
            LogBegin(
                messages=messages,
                queues=messages,
                sessions=sessions,
                fences=fences,
                inbound=inbound,
            )
        )
        self.tick()

    # -- time --------------------------------------------------------------------------------------

    def tick(self) -> bool:
        """Let the engine know what time it is."""
        if self.is_paused:
            return False
        if len(self.engine.stalls):
            # A lease that came too late is followed by another one, a third of its time later.
            self._late_s += LEASE_S / 30
        now_s = self._ledger.step * STEP_S + self._late_s
        self.engine.tick(now_s, START_MS + self._ledger.step)
        self._is_dirty = True
        return True

    def go_on(self) -> None:
        """Go on after a pause longer than the lease (E13)."""
        self.is_paused = False
        self._late_s += LEASE_S * 1.5
        self.tick()

    def is_ready(self) -> bool:
        """Whether clients are sent here."""
        return not self.is_paused and not self.engine.unready()

    # -- the logs ----------------------------------------------------------------------------------

    def read(self, log: str, partition: int) -> bool:
        """Read some of what stands next in a partition."""
        entries = self._logs[log][partition]
        first = self.positions[log][partition]
        if self.is_paused or first >= len(entries):
            return False
        upto = min(first + self._chance.choice((1, 1, 1, 2, 5)), len(entries))
        runs = self._runs[log][partition]
        new: list[LogEntry] = [
            entry
            for entry in entries[first:upto]
            if runs.is_new(entry.writer, entry.sequence, entry.time_ms)
        ]
        self.positions[log][partition] = upto
        batch = RecordBatch(partition, first, upto, new)
        if log == "messages":
            self.engine.messages_read(batch)
        else:
            self.engine.facts_read(batch)
        self._is_dirty = True
        return True

    def hear(self) -> bool:
        """Be told of an append that landed."""
        landed = self.messages.landed or self.facts.landed
        if self.is_paused or not landed:
            return False
        self.engine.appended(landed.popleft().tickets)
        self._is_dirty = True
        return True

    def refused(self, tickets: Sequence[Any]) -> None:
        """Be told of an append that is refused for ever (R1)."""
        self._ledger.note("refused for ever")
        self.engine.refused(tickets)
        self._is_dirty = True

    def turn(self) -> bool:
        """End a turn of the event loop."""
        if self.is_paused or not self._is_dirty:
            return False
        self._is_dirty = False
        self._budget.left = 1_000_000
        while self.engine.work():
            self._budget.left = 1_000_000
        if self.engine.stalls.asks_ends():
            ends = [{p: len(at) for p, at in enumerate(self._logs[log])} for log in _LOGS]
            self.engine.ends(*ends)
            self._is_dirty = True
        for read in self.engine.take_reads():
            self.engine.retained_page(read, [], dict(self.engine.reading.positions))
            self._is_dirty = True
        return True

    # -- the database ------------------------------------------------------------------------------

    def look(self) -> bool:
        """Read the watermarks, and ask for what is wanted (E5)."""
        if self.is_paused:
            return False
        reflected = self._database.reflected()
        self.engine.queues_reflected(reflected)
        self.engine.reflected(dict(self.engine.reading.positions))
        sessions = {
            p: table.state.mark.reflected for p, table in enumerate(self._database.sessions)
        }
        self.engine.sessions_reflected(sessions)
        self._is_dirty = True
        # Another statement than that of the watermarks: a standby may take over in between.
        asks, self._asks = self._asks, self.engine.take_asks()
        if asks:
            pages = [self._database.queues[ask.partition].page(ask) for ask in asks]
            self._asked.append((asks, pages))
        reads = self.engine.take_row_reads()
        for partition, client_ids in reads.items():
            rows = self._database.sessions[partition].kept_rows(client_ids)
            self._rows.append((partition, client_ids, rows))
        return bool(asks or self._asks or reads)

    def answer(self) -> bool:
        """Bring what was read of the database."""
        if self.is_paused or not (self._asked or self._rows):
            return False
        if self._rows:
            self.engine.kept_rows(*self._rows.pop(0))
        else:
            self.engine.queue_pages(*self._asked.pop(0))
        self._is_dirty = True
        return True

    # -- what is checked in the end ----------------------------------------------------------------

    def _kept(self, client_id: str) -> KeptSession | None:
        session = self.engine.connections.sessions.get(client_id)
        return session if isinstance(session, KeptSession) else None

    def routes(self, client_id: str) -> dict[str, int] | None:
        """Return by what a kept client is routed here; None: it is not here."""
        session = self._kept(client_id)
        if session is None:
            return None
        varied = self.engine.kept.varied.subscribers
        assert session not in varied, f"e: {client_id} varies for ever"
        return dict(session.subscriptions)

    def waiting(self) -> Iterator[str]:
        """Yield what a kept session waits for, though nothing happens any more."""
        for client_id in self.engine.connections.sessions:
            session = self._kept(client_id)
            parts = {} if session is None else session._parts
            for partition, part in parts.items():
                yield f"{client_id} in partition {partition} is at {part.phase}"

    # -- clients -----------------------------------------------------------------------------------

    def serve(self, connection: Connection) -> bool:
        """Handle the next packet of a client; several PUBLISHes may be one run."""
        if self.is_paused or connection.holds:
            return False
        if connection.session is None:
            self._attach(connection)
        elif connection.packets:
            self._handle(connection, connection.packets[0])
        else:
            return False
        self._is_dirty = True
        return True

    def _attach(self, connection: Connection) -> None:
        client_id, clean = connection.client_id, connection.clean
        refusal = self.engine.refusal(client_id, clean=clean)
        if refusal is not None:
            self._ledger.note(f"refused: {refusal[1]}")
            connection.edge_open = False
            return
        if connection.starts_clean and not clean:
            self.facts.starts_clean.add(client_id)
        request = AttachRequest(
            client_id=client_id, clean=clean, will=connection.will, information={}
        )
        connection.session = self.engine.attach(connection, request, self._wall_ms)

    @property
    def _wall_ms(self) -> int:
        return START_MS + self._ledger.step

    def _handle(self, connection: Connection, packet: Packet) -> None:
        engine, session = self.engine, connection.session
        if isinstance(packet, Send):
            engine.publish(session, self._run(connection), self._wall_ms)
            return
        if isinstance(packet, Subscribe) and engine.holds_subscribe(session):
            return
        connection.packets.popleft()
        match packet:
            case Subscribe():
                codes, _ = engine.subscribe(session, [(packet.topic_filter, packet.qos)])
                engine.subscribed(session, packet.packet_id, codes)
            case Unsubscribe():
                engine.unsubscribe(session, [packet.topic_filter])
                engine.unsubscribed(session, packet.packet_id)
            case Disconnect():
                connection.edge_open = False
                engine.detach(session, CloseReason.CLIENT_DISCONNECTED, self._wall_ms)
            case Told(Answer.PUBACK):
                engine.acknowledge(session, [packet.packet_id])
            case Told(Answer.PUBREC):
                engine.receive(session, [packet.packet_id])
            case Told(Answer.PUBREL):
                engine.release(session, [packet.packet_id])
            case Told(Answer.PUBCOMP):
                engine.complete(session, [packet.packet_id])

    def _run(self, connection: Connection) -> MessageRun:
        """Take the next PUBLISH, and perhaps those that follow it on its topic."""
        packets = connection.packets
        first = packets.popleft()
        assert isinstance(first, Send)
        sent = [first]
        while packets and self._chance.random() < 0.5:
            other = packets[0]
            if not isinstance(other, Send) or (other.topic, other.qos) != (first.topic, first.qos):
                break
            sent.append(other)
            packets.popleft()
        payloads = [each.payload for each in sent]
        ends = [sum(map(len, payloads[: i + 1])) for i in range(len(payloads))]
        starts = [end - len(payload) for end, payload in zip(ends, payloads, strict=True)]
        ids = [each.packet_id for each in sent]
        return MessageRun(
            first.topic.encode(), first.qos, False, b"".join(payloads), ids, starts, ends
        )

    def lose(self, connection: Connection) -> bool:
        """Notice that a client has gone."""
        if self.is_paused or connection.holds:
            return False
        connection.edge_open = False
        if connection.session is not None:
            reason = CloseReason.TRANSPORT_CLOSED
            self.engine.detach(connection.session, reason, self._wall_ms)
            self._is_dirty = True
        return True


_LOGS = ("messages", "sessions")
