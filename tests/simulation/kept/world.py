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
from tests.simulation.kept.landing import SESSIONS_PARTITIONS, Landing
from tests.simulation.kept.logs import partition_of
from tests.simulation.kept.sessions_workers import SessionsWorker

from monstermq_shared.messages import Will
from monstermq_shared.sessions.distributed.queues.cuts import CutTable

TOPICS = "t/{}"
DEAD_QUEUES = 8
"""For each of so many queues of dead writers, a weight is on its landing."""

EDGES = 2


class World(Landing):
    """Everything, and the dice.

    Attributes:
        database: All tables.
        edges: By their place; None while there is none.
        workers: By partition of the bus.
        sessions_workers: Those of the sessions log; each has all of its partitions.
        clients: All devices.
        publishers: The ids of those that publish.
        first: By partition of the bus, what workers can read of it at most.
        gaps: (partition, upto) of what retention took (P7).
        is_aging: Window entries grow older than T.
        late_ms: Time that has passed beside that of steps.
    """

    def __init__(self, configuration: Configuration, seed: int) -> None:
        super().__init__(configuration, random.Random(seed))
        count = len(self.messages.partitions)
        self.late_ms = 0
        self.database = SimDatabase(count, SESSIONS_PARTITIONS)
        self.topics = [TOPICS.format(number) for number in range(configuration.topics)]
        self.first = [0] * count
        self.gaps: list[tuple[int, int]] = []
        self.is_aging = True
        self.faults_left = configuration.faults
        self.messages_left = configuration.messages
        self._runs = 0
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

    def land_edge(self, place: int, log: str, partition: int) -> bool:
        """Let the next append of the edge at a place land."""
        edge = self.edges[place]
        return edge is not None and self.land_of(edge, log, partition)

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
