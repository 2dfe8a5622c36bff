"""Two edges, their clients, logs, workers and database, and every step that one of them can take.

A seed decides which step comes next. A step that is not possible now is not taken, and costs
nothing. ``steps`` has them all, with their weights; faults are bounded by their number.
"""

import random
from collections.abc import Iterator

from tests.simulation.kept.bus_workers import BusWorker
from tests.simulation.kept.clients import Client, Connection, Disconnect
from tests.simulation.kept.configurations import Configuration
from tests.simulation.kept.database import SimDatabase
from tests.simulation.kept.edges import START_MS, SimEdge
from tests.simulation.kept.ledger import Ledger
from tests.simulation.kept.logs import Log, Queue, partition_of
from tests.simulation.kept.oracle import Oracle
from tests.simulation.kept.sessions_workers import SessionsWorker

from monstermq_shared.bus.facts import Release
from monstermq_shared.messages import Will
from monstermq_shared.sessions.distributed.queues.cuts import CutTable

SESSIONS_PARTITIONS = 2
TOPICS = "t/{}"
DEAD_QUEUES = 8
"""For each of so many queues of dead writers, a weight is on its landing."""

LATE_RELEASES = 0.12
"""How often the release of a dead edge lands, where that is to be late."""

EDGES = 2


class World:
    """Everything, and the dice.

    Attributes:
        ledger: What was written down.
        oracle: What the logs say.
        messages: The bus.
        sessions: The sessions log.
        database: All tables.
        edges: By their place; None while there is none.
        workers: By partition of the bus.
        sessions_workers: Those of the sessions log; each has all of its partitions.
        clients: All devices.
        publishers: The ids of those that publish.
        first: By partition of the bus, what workers can read of it at most.
        gaps: (partition, upto) of what retention took (P7).
        is_over: Nothing happens any more but what has to.
        is_aging: Window entries grow older than T.
        land_rate: Of the appends of the fastest edge.
        late_ms: Time that has passed beside that of steps.
    """

    def __init__(self, configuration: Configuration, seed: int) -> None:
        self.configuration = configuration
        self.chance = random.Random(seed)
        count = configuration.partitions or self.chance.choice((1, 2, 3))
        self.ledger = Ledger()
        self.late_ms = 0
        self.oracle = Oracle(self.ledger, count, SESSIONS_PARTITIONS)
        self.messages = Log("messages", count)
        self.sessions = Log("sessions", SESSIONS_PARTITIONS)
        self.database = SimDatabase(count, SESSIONS_PARTITIONS)
        self.topics = [TOPICS.format(number) for number in range(configuration.topics)]
        self.first = [0] * count
        self.gaps: list[tuple[int, int]] = []
        self.is_over = False
        self.is_aging = True
        self.faults_left = configuration.faults
        self.messages_left = configuration.messages
        self.land_rate = 3 if configuration.lagging else configuration.land_rate
        self._runs = 0
        self._dead: list[Queue] = []
        self.connections: list[Connection] = []
        self._build_clients()
        self._cuts = self._new_cuts()
        self.workers: list[list[BusWorker]] = [[] for _ in range(count)]
        for number in range(count):
            self.start_worker(number)
        self.sessions_workers: list[SessionsWorker] = [self._sessions_worker()]
        self.edges: list[SimEdge | None] = [None] * EDGES
        for place in range(EDGES):
            self.start_edge(place)

    def _build_clients(self) -> None:
        using = self.configuration
        names = ["x", "y"][: using.subscribers]
        self.publishers = {f"p{number}" for number in range(using.publishers)}
        self.clients = [Client(self.ledger, name) for name in [*names, *sorted(self.publishers)]]
        if using.two_devices:
            self.clients.append(Client(self.ledger, "x", is_second=True))

    @property
    def wall_ms(self) -> int:
        """What clocks show."""
        return START_MS + self.ledger.step + self.late_ms

    def new_run(self) -> bytes:
        """Return the run of a new process."""
        self._runs += 1
        return b"run%05d" % self._runs

    def living(self) -> Iterator[SimEdge]:
        """Yield the edges there are."""
        return (edge for edge in self.edges if edge is not None)

    # -- what lands --------------------------------------------------------------------------------

    def land(self, queue: Queue) -> None:
        """Let the first append of a queue come to stand in the log, and its writer know."""
        pending = queue.pending.popleft()
        copies = [pending]
        if self.configuration.doubled and not self.is_over and self.chance.random() < 0.08:
            # Its writer did not hear of it, and has made it again.
            self.ledger.note("doubled")
            if self.chance.random() < 0.5:
                copies.append(pending)
            else:
                again = Queue(queue.log, queue.partition, queue.run, None)
                again.pending.append(pending)
                self._dead.append(again)
        for copied in copies:
            entries = queue.log.write(queue.partition, copied, queue.run, self.ledger.step)
            if queue.log is self.messages:
                self.oracle.messages_landed(queue.partition, entries)
            else:
                self.oracle.sessions_landed(queue.partition, entries)
        if queue.writer is not None:
            queue.writer.landed.append(pending)

    def land_edge(self, place: int, log: str, partition: int) -> bool:
        edge = self.edges[place]
        if edge is None:
            return False
        queue = (edge.messages if log == "messages" else edge.facts).queues[partition]
        if not queue.pending:
            return False
        using, chance = self.configuration, self.chance
        if not self.is_over and edge.land_rate < self.land_rate * chance.random():
            return False
        if not self.is_over and using.refused and chance.random() < using.refused:
            # R1: nothing else of the partition is with the producer, and the same is made again.
            self.ledger.note("refused")
            return True
        if not self.is_over and using.too_old and chance.random() < using.too_old:
            edge.refused(queue.pending.popleft().tickets)
            return True
        self.land(queue)
        return True

    def land_dead(self, index: int) -> bool:
        if index >= len(self._dead):
            return False
        queue = self._dead[index]
        first = queue.pending[0].facts
        is_late = self.configuration.late_releases and not self.is_over
        is_release = bool(first) and isinstance(first[0], Release)
        if is_late and is_release and self.chance.random() > LATE_RELEASES:
            return False
        self.land(queue)
        if not queue.pending:
            del self._dead[index]
        return True

    def lose_dead(self, index: int) -> bool:
        if index >= len(self._dead) or self.configuration.late_releases:
            return False
        del self._dead[index]
        return True

    def bury(self, queues: list[Queue]) -> None:
        """A writer is dead; what it had on its way may land yet."""
        for queue in queues:
            if queue.pending:
                queue.writer = None
                self._dead.append(queue)

    # -- processes ---------------------------------------------------------------------------------

    def start_edge(self, place: int) -> bool:
        """Start an edge; its first lease is in the log at once."""
        if self.edges[place] is not None:
            return False
        edge = self.edges[place] = SimEdge(
            *(self.configuration, (self.messages, self.sessions), self.database, self.ledger),
            *(self.new_run(), self.chance),
        )
        edge.turn()
        for writer in (edge.messages, edge.facts):
            for queue in writer.queues:
                while queue.pending:
                    self.land(queue)
        return True

    def crash_edge(self, place: int) -> bool:
        edge = self.edges[place]
        if edge is None:
            return False
        self.edges[place] = None
        self.bury([*edge.messages.queues, *edge.facts.queues])
        for connection in self.connections:
            if connection.edge is edge:
                connection.edge_open = False
        return True

    def pause(self, place: int) -> bool:
        edge = self.edges[place]
        if edge is None or edge.is_paused:
            return False
        edge.is_paused = True
        self.ledger.note("pause")
        return True

    def go_on(self, place: int) -> bool:
        edge = self.edges[place]
        if edge is None or not edge.is_paused:
            return False
        edge.go_on()
        return True

    def _bus_worker(self, number: int) -> BusWorker:
        """Start a worker: in the process that has all partitions, or in one of its own."""
        is_taken = any(worker.cuts is self._cuts for worker in self.workers[number])
        cuts = self._new_cuts() if is_taken else self._cuts
        return BusWorker(self, number, self.new_run(), cuts)

    def _new_cuts(self) -> CutTable:
        count = len(self.messages.partitions)
        return CutTable(
            count, lambda topic: partition_of(topic, count), topic_levels_max=9, route_cache_max=99
        )

    def _sessions_worker(self) -> SessionsWorker:
        return SessionsWorker(self, self.new_run())

    def start_worker(self, number: int) -> bool:
        if self.workers[number]:
            return False
        self.workers[number].append(self._bus_worker(number))
        return True

    def start_second(self, number: int) -> bool:
        if len(self.workers[number]) != 1:
            return False
        self.ledger.note("zombie")
        self.workers[number].append(self._bus_worker(number))
        return True

    def overtake(self, number: int) -> bool:
        """Retention takes all there is of a partition before a worker has read it (P7)."""
        end = len(self.messages.partitions[number])
        if end == self.first[number]:
            return False
        self.first[number] = end
        self.gaps.append((number, end))
        return True

    def fail_over(self) -> bool:
        standbys = self.database.standbys
        if standbys <= 2:
            return False
        self.ledger.note("failover")
        self.database.fail_over(self.chance.randint(2, min(6, standbys)))
        return True

    def start_sessions_worker(self, count: int) -> bool:
        if len(self.sessions_workers) != count:
            return False
        self.sessions_workers.append(self._sessions_worker())
        return True

    # -- clients -----------------------------------------------------------------------------------

    def connect(self, client: Client, place: int) -> bool:
        edge = self.edges[place]
        if client.connection is not None or (self.is_over and client.is_second):
            return False
        if edge is None or not edge.is_ready():
            return False
        self._connect_to(client, edge)
        return True

    def _connect_to(self, client: Client, edge: SimEdge) -> None:
        using, chance, may = self.configuration, self.chance, not self.is_over
        clean = may and chance.random() < using.clean
        will = None
        if using.wills and chance.random() < using.wills:
            topic = chance.choice(self.topics)
            message = self.ledger.write(client.client_id, topic, 1, is_will=True)
            will = Will(topic=topic, payload=message.payload(), qos=1, retain=False)
        starts_clean = may and client.generation < 3 and chance.random() < using.clean_start
        self.connections.append(
            client.connect(
                edge, clean=clean, starts_clean=client.wants_clean or starts_clean, will=will
            )
        )

    def drop(self, client: Client) -> bool:
        if client.connection is None:
            return False
        dice = self.chance.random()
        if dice < 0.25 and self.configuration.sessions_worker:
            client.leave()
        elif dice < 0.5:
            client.drop()
        else:
            ready = [edge for edge in self.living() if edge.is_ready()]
            if not ready:
                return False
            self._connect_to(client, self.chance.choice(ready))
        return True

    def receive(self, client: Client) -> bool:
        connection = client.connection
        if connection is None:
            return False
        if connection.said:
            client.receive()
            return True
        return False

    def notice(self, client: Client) -> bool:
        """The edge has closed a connection."""
        connection = client.connection
        if connection is None or connection.said or connection.edge_open:
            return False
        client.drop()
        return True

    def acknowledge(self, client: Client) -> bool:
        if not client.is_up or not client.answers:
            return False
        client.answer()
        return True

    def publish(self, client: Client) -> bool:
        if self.is_over or not client.is_up or not self.messages_left:
            return False
        topic = self.chance.choice(self.topics)
        if client.publish(topic, self.chance.choice(self.configuration.publish_qos)):
            self.messages_left -= 1
            return True
        return False

    def subscribe(self, client: Client) -> bool:
        using, chance = self.configuration, self.chance
        if self.is_over or not client.is_up:
            return False
        wanted = client.wanted
        again = bool(wanted) and wanted[-1].generation == client.generation
        if again and chance.random() > using.subscribe_rate:
            return False
        active = client.active_filters()
        if active and chance.random() < 0.5:
            client.unsubscribe(chance.choice(active))
        else:
            topic_filter = chance.choice(["#", *self.topics]) if using.subscribe_rate else "#"
            client.subscribe(topic_filter, chance.choice(using.subscribe_qos))
        return True

    def serve(self, index: int) -> bool:
        if index >= len(self.connections):
            return False
        connection = self.connections[index]
        if not (connection.edge_open or connection.client_open):
            del self.connections[index]
            return False
        if not connection.edge_open:
            return False
        if self.is_over and not connection.client_open:
            packets = connection.packets
            if connection.session is None or not packets or packets[0] != Disconnect():
                return False
        edge: SimEdge = connection.edge
        return edge.serve(connection)

    def lose(self, index: int) -> bool:
        if index >= len(self.connections):
            return False
        connection = self.connections[index]
        if not connection.edge_open or connection.client_open:
            return False
        edge: SimEdge = connection.edge
        return edge.lose(connection)

    # -- the end -----------------------------------------------------------------------------------

    def end(self) -> None:
        """Let there be no more faults, and one of everything."""
        self.is_over = True
        self.is_aging = False
        for client in self.clients:
            if client.is_second and client.connection is not None:
                client.drop()
        for workers in self.workers:
            for worker in workers[1:]:
                worker.die()
        for extra in self.sessions_workers[:-1]:
            extra.die()

    def tick(self) -> None:
        """Let time pass for all edges, and their turns end."""
        for edge in self.living():
            edge.tick()
            edge.turn()
