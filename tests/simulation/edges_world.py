"""Two edges on one bus under chosen chaos, and what must hold all the same.

Appends land late, doubled, or are refused though they may stand; partitions are read in any order
and in parts; leases are missed, clients are taken over and detached by others, edges die. A seed
decides everything.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from tests.support.edges import LATENESS_MS, LEASE_S, SETTINGS, Bus, Edge, SimWriter
from tests.support.links import Closed, Connack, Publish, RecordingLink, Told

from monstermq_shared.bus.control import decode_facts, encode_facts
from monstermq_shared.bus.facts import Claim, Detach
from monstermq_shared.bus.header import Kind
from monstermq_shared.bus.ring import RingEntry, unread
from monstermq_shared.bus.runs import Runs
from monstermq_shared.records import SESSION_TOPIC, ControlRecord, Record
from monstermq_shared.sessions.ports import Answer
from monstermq_shared.topics import matches

STEPS = 300
TOPICS = ("a/1", "a/2", "b/1", "b/2", "c")
FILTERS = ("#", "a/#", "+/1", "c")
PUBLISHERS = ("p1", "p2", "p3")
SUBSCRIBERS = ("s1", "s2")

ANSWERS = {1: Answer.PUBACK, 2: Answer.PUBREC}


class WatchedLink(RecordingLink):
    """A connection that notes all it was told.

    Attributes:
        edge: Where it is.
        client_id: Whose it is.
        open: It was not closed, by either side.
        sent: (packet id, QoS, payload) of its publishes above QoS 0, in order.
        answered: The ids that were answered, in order.
        filters: Filter -> its QoS, and where each partition stood when it subscribed.
        got: What it was delivered live.
    """

    def __init__(self, edge: Edge, client_id: str) -> None:
        super().__init__()
        self.edge = edge
        self.client_id = client_id
        self.open = True
        self.connected = False
        self.sent: list[tuple[int, int, bytes]] = []
        self.answered: list[int] = []
        self.filters: dict[str, tuple[int, dict[int, int]]] = {}
        self.got: list[Publish] = []
        self.unacknowledged: list[Publish] = []
        self.next_id = 1

    def collect(self) -> None:
        """Take what was said, and look at it."""
        for said in self.take():
            assert self.open, f"{self.client_id} is told {said} after its end"
            if isinstance(said, Connack):
                self.connected = True
            elif isinstance(said, Closed):
                self.open = False
            elif isinstance(said, Told) and said.kind in {Answer.PUBACK, Answer.PUBREC}:
                self.answered.append(said.packet_id)
            elif isinstance(said, Publish):
                self._deliver(said)

    def _deliver(self, said: Publish) -> None:
        assert self.connected, "a message before CONNACK"
        if said.qos:
            self.unacknowledged.append(said)
        if not said.retain:
            self.got.append(said)


@dataclass(slots=True)
class World:
    """Everything, and the dice.

    Attributes:
        bus: Both logs.
        edges: Those that live.
        links: All connections there ever were.
        now_s: The time of all.
        payloads: How many messages were published.
    """

    rng: random.Random
    build: Callable[[Bus], Edge]
    bus: Bus = field(default_factory=Bus)
    edges: list[Edge] = field(default_factory=list)
    links: list[WatchedLink] = field(default_factory=list)
    now_s: float = 0.0
    payloads: int = 0

    def new_edge(self) -> None:
        """Start an edge."""
        edge = self.build(self.bus)
        edge.now_s = self.now_s
        edge.wall_ms = 1_000_000 + int(self.now_s * 1000)
        self.edges.append(edge)

    def collect(self) -> None:
        """Look at what every client was told."""
        for link in self.links:
            link.collect()

    def living(self, names: Sequence[str]) -> list[WatchedLink]:
        """Return the connections of these clients that are served."""
        return [
            link
            for link in self.links
            if link.open and link.connected and not link.holds and link.client_id in names
        ]

    # -- steps -----------------------------------------------------------------------------------

    def connect(self) -> None:
        """A client connects to some edge, perhaps while it has a connection elsewhere."""
        edge = self.rng.choice(self.edges)
        client_id = self.rng.choice(PUBLISHERS + SUBSCRIBERS)
        if len(edge.engine.stalls) == 0:
            link = WatchedLink(edge, client_id)
            edge.attach(client_id, link=link)
            self.links.append(link)

    def disconnect(self) -> None:
        """A client goes."""
        link = self.rng.choice(self.links or [None])
        if link is not None and link.open and link.edge in self.edges and self.rng.random() < 0.3:
            link.open = False
            link.edge.drop(link)

    def subscribe(self) -> None:
        """A subscriber subscribes once."""
        for link in self.living(SUBSCRIBERS):
            if not link.filters:
                topic_filter = self.rng.choice(FILTERS)
                qos = self.rng.randrange(3)
                link.filters[topic_filter] = qos, dict(link.edge.engine.reading.positions)
                link.edge.subscribe(link, 1, (topic_filter, qos))

    def publish(self) -> None:
        """A publisher publishes a run."""
        publishers = self.living(PUBLISHERS)
        if not publishers:
            return
        link = self.rng.choice(publishers)
        qos, count = self.rng.randrange(3), self.rng.choice((1, 1, 2, 5))
        retain = self.rng.random() < 0.2
        payloads = [b"%d" % (self.payloads + number) for number in range(count)]
        if retain and self.rng.random() < 0.3:
            payloads = [b""] * count
        self.payloads += count
        if qos:
            link.sent += [(link.next_id + n, qos, p) for n, p in enumerate(payloads)]
        topic = self.rng.choice(TOPICS)
        link.edge.publish(link, topic, *payloads, qos=qos, first_id=link.next_id, retain=retain)
        link.next_id += count

    def acknowledge(self) -> None:
        """Subscribers answer what they have."""
        for link in self.links:
            if link.open and link.edge in self.edges and link.unacknowledged:
                got, link.unacknowledged = link.unacknowledged, []
                once = [said.packet_id for said in got if said.qos == 1]
                twice = [said.packet_id for said in got if said.qos == 2]
                engine = link.edge.engine
                engine.acknowledge(link.session, once)
                engine.receive(link.session, twice)
                engine.complete(link.session, twice)

    def _writers(self) -> Iterator[tuple[Edge, SimWriter, int]]:
        for edge in self.edges:
            for writer in (edge.messages, edge.facts):
                for partition, pending in enumerate(writer.pending):
                    if pending:
                        yield edge, writer, partition

    def land(self) -> None:
        """Some append lands, perhaps twice."""
        pending = list(self._writers())
        if pending:
            edge, writer, partition = self.rng.choice(pending)
            edge.engine.appended(writer.land(partition, doubled=self.rng.random() < 0.2))

    def refuse(self) -> None:
        """Some append is refused for good, though it may stand."""
        pending = list(self._writers())
        if pending and self.rng.random() < 0.2:
            edge, writer, partition = self.rng.choice(pending)
            edge.engine.refused(writer.refuse(partition, stands=self.rng.random() < 0.5))

    def read(self) -> None:
        """Some edge reads a part of some partition."""
        edge = self.rng.choice(self.edges)
        log = self.rng.choice(("messages", "sessions"))
        partition = self.rng.randrange(len(getattr(self.bus, log).entries))
        edge.read_some(log, partition, self.rng.choice((1, 2, 5, None)))
        edge.engine.work()

    def work(self) -> None:
        """Some edge has its turns, and asks what it wants to know."""
        edge = self.rng.choice(self.edges)
        edge.work()
        edge.answer_reads()
        edge.work()

    def tick(self) -> None:
        """Time passes, for all; sometimes too much for a lease."""
        seconds = self.rng.choice((0.5, 1.0, 2.0, LEASE_S / 2))
        self.now_s += seconds
        for edge in self.edges:
            edge.tick(seconds)

    def project(self) -> None:
        """The table catches up."""
        self.bus.project(self.rng.randrange(len(self.bus.messages.entries)))

    def sweep(self) -> None:
        """The sessions worker detaches the clients of edges that are silent for a lease (S3)."""
        now_ms = 1_000_000 + int(self.now_s * 1000)
        for partition, entries in enumerate(self.bus.sessions.entries):
            leases = {e.writer: e.time_ms for e in entries if e.kind == Kind.LEASE}
            for fact, epoch in newest_claims(entries).values():
                silent = now_ms - leases.get(fact.run, 0) > LEASE_S * 1000
                if silent and not is_detached(entries, fact.client_id, epoch):
                    end = Detach(client_id=fact.client_id, epoch=epoch, will=True, reason="lease")
                    text = encode_facts([end]).encode()
                    record = ControlRecord(SESSION_TOPIC, text, now_ms, 0, Kind.FACTS)
                    self.bus.sessions.write(partition, [record], b"sweeper0", len(entries))

    def crash(self) -> None:
        """An edge dies, and another one starts."""
        if self.rng.random() < 0.1:
            dead = self.edges.pop(self.rng.randrange(len(self.edges)))
            for link in self.links:
                if link.edge is dead:
                    link.open = False
            self.new_edge()

    # -- the end ---------------------------------------------------------------------------------

    def settle(self) -> None:
        """Let everything land, be read and be answered."""
        for _ in range(4):
            for edge in self.edges:
                edge.tick(LEASE_S / 3)
            self.now_s += LEASE_S / 3
            for _ in range(3):
                for edge in self.edges:
                    edge.settle()
                    self.collect()
                    self.acknowledge()


def newest_claims(entries: Sequence[RingEntry]) -> dict[str, tuple[Claim, int]]:
    """Return each client's newest claim, with its epoch."""
    claims: dict[str, tuple[Claim, int]] = {}
    for entry in unread([*entries], Runs(LATENESS_MS)):
        if entry.kind == Kind.FACTS:
            for fact in decode_facts(entry.record().payload):
                if isinstance(fact, Claim):
                    claims[fact.client_id] = fact, entry.offset
    return claims


def is_detached(entries: Sequence[RingEntry], client_id: str, epoch: int) -> bool:
    """Whether an epoch has ended."""
    return any(
        isinstance(fact, Detach) and (fact.client_id, fact.epoch) == (client_id, epoch)
        for entry in entries
        if entry.kind == Kind.FACTS
        for fact in decode_facts(entry.record().payload)
    )


def log_of(bus: Bus) -> dict[int, list[Record]]:
    """Return what counts of each partition, in order (R1)."""
    return {
        partition: [e.record() for e in unread([*entries], Runs(LATENESS_MS))]
        for partition, entries in enumerate(bus.messages.entries)
    }


def simulate(seed: int, build: Callable[[Bus], Edge] | None = None) -> None:
    """Run one seed, and look at what came of it.

    Raises:
        AssertionError: A promise is broken.
    """
    rng = random.Random(seed)
    tight = replace(SETTINGS, in_flight_max=3, overlay_size_max=rng.choice((3_000, 1_000_000)))
    world = World(rng, build or (lambda bus: Edge(bus, tight)))
    world.new_edge()
    world.new_edge()
    world.settle()
    steps = [
        *(world.land, world.read, world.work) * 4,
        *(world.publish, world.acknowledge) * 3,
        *(world.connect, world.subscribe, world.tick, world.project),
        *(world.disconnect, world.refuse, world.sweep, world.crash),
    ]
    for _ in range(STEPS):
        rng.choice(steps)()
        world.collect()
    world.settle()
    check(world)


def check(world: World) -> None:
    """Hold the promises against what happened."""
    log = log_of(world.bus)
    counts = Counter(r.payload for records in log.values() for r in records if r.payload)
    assert max(counts.values(), default=1) == 1, "the log counts a message twice"
    for link in world.links:
        _check_publisher(link, counts)
        _check_subscriber(link, log)
    _check_owners(world)
    _check_retained(world, log)


def _check_publisher(link: WatchedLink, counts: Counter[bytes]) -> None:
    ids = [packet_id for packet_id, _, _ in link.sent]
    assert link.answered == ids[: len(link.answered)], "answers out of order"
    for _, _, payload in link.sent[: len(link.answered)]:
        assert not payload or counts[payload] == 1, "what was acknowledged is not in the log"
    if link.open and link.connected:
        assert len(link.answered) == len(ids), "a publish is not answered"
        assert link.holds == 0, "a client is held for ever"


def _check_subscriber(link: WatchedLink, log: dict[int, list[Record]]) -> None:
    """What it got is the log, per topic and QoS."""
    got: dict[tuple[str, int], list[bytes]] = {}
    for said in link.got:
        got.setdefault((said.topic, said.qos), []).append(said.payload)
    for topic_filter, (granted, begun) in link.filters.items():
        owed: dict[tuple[str, int], list[bytes]] = {}
        for partition, records in log.items():
            for record in records:
                if record.offset >= begun[partition] and matches(topic_filter, record.topic):
                    key = record.topic, min(record.qos, granted)
                    owed.setdefault(key, []).append(record.payload)
        for key, payloads in owed.items():
            told = got.pop(key, [])
            assert told == payloads[: len(told)], "not the log's order, or not all of it"
            if link.open:
                assert told == payloads, "a subscriber missed something"
    assert not got, "delivered, and not in the log"


def _check_owners(world: World) -> None:
    """Who is connected is who the log says."""
    for entries in world.bus.sessions.entries:
        claims = newest_claims(entries)
        for link in world.links:
            if not (link.open and link.connected) or link.client_id not in claims:
                continue
            epoch = link.session.epoch
            fact, newest = claims[link.client_id]
            assert epoch == newest, f"{fact.client_id} was taken over, and does not know"
            assert not is_detached(entries, link.client_id, epoch), "its end is in the log"
    for edge in world.edges:
        assert not edge.engine.unready()
        assert edge.engine.own.size == 0, "what was published here is kept for ever"
        assert not edge.engine.connections.claiming


def _check_retained(world: World, log: dict[int, list[Record]]) -> None:
    """Whoever subscribes now gets what follows from the log; what waits comes with the table."""
    retained: dict[str, bytes] = {}
    for records in log.values():
        retained |= {record.topic: record.payload for record in records if record.retained}
    retained = {topic: payload for topic, payload in retained.items() if payload}
    readers = [(edge, edge.attach("reader")) for edge in world.edges[:1]]
    readers += [(edge, edge.attach("another reader")) for edge in world.edges[1:]]
    for edge, link in readers:
        edge.settle()
        edge.subscribe(link, 1, ("#", 0))
        edge.settle()
    told = [_retained_of(link) for _, link in readers]
    for (edge, _), before in zip(readers, told, strict=True):
        assert edge.engine.overlay.overflows or before == retained, "not what is retained"
    world.bus.project()
    for (edge, link), before in zip(readers, told, strict=True):
        edge.settle()
        assert before | _retained_of(link) == retained, "not all that is retained"


def _retained_of(link: RecordingLink) -> dict[str, bytes]:
    return {said.topic: said.payload for said in link.publishes() if said.retain}
