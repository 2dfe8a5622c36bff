"""The simulation: one generator of pseudo-random numbers chooses what happens next."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from tests.simulation import promises
from tests.simulation.broker import Broker, Build
from tests.simulation.clients import Client, Pipe, Role
from tests.simulation.ledger import Ledger, Violation
from tests.simulation.witness import Witness
from tests.support.disk import Disk

from monstermq_shared.sessions.backpressure import HoldLimits
from monstermq_shared.sessions.local.queue import QueueLimits
from monstermq_shared.sessions.local.settings import EngineSettings

TOPICS = ("a/0", "a/1", "b/0", "c/0", "r/0", "r/1", "r/2", "r/3")

FILTERS = ("#", "a/#", "a/+", "a/0", "+/0", "b/0", "c/#", "r/#", "w/#")

ROLES = (
    Role(client_id="X", subscribes=True, filters=FILTERS),
    Role(client_id="Y", subscribes=True, filters=FILTERS),
    Role(client_id="M", subscribes=True, publishes=True, filters=("a/#", "c/0")),
    Role(client_id="P0", publishes=True),
    Role(client_id="P1", publishes=True),
    Role(client_id="C", persistent=False, subscribes=True, filters=("r/#", "r/+")),
    Role(client_id="W", persistent=False, has_will=True),
)

CHAOS_STEPS = 1_100
SETTLING_STEPS_MAX = 20_000

Choice = tuple[float, Callable[[], None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one simulation is about; drawn from its seed.

    Attributes:
        build: The broker.
        lossless: No limit of the plan lets the broker drop what it acknowledged.
        kills: How often the process may be killed.
        switching: Each process may find queues enabled that were not, and the other way round.
        budget: How many messages are published before the world settles.
    """

    build: Build
    lossless: bool
    kills: int
    switching: bool
    budget: int


def make_plan(random: Random) -> Plan:
    """Draw limits small enough to be met all the time."""
    choice = random.choice
    lossless = random.random() < 0.75
    queue = QueueLimits(
        enabled=lossless or random.random() < 0.7,
        messages_max=1_000 if lossless else choice((3, 6)),
        size_max=1_000_000 if lossless else choice((60, 1_000_000)),
        drop_oldest=choice((True, False)),
        tail_max=choice((2, 4, 100)),
    )
    hold = HoldLimits(
        pending_max=choice((3, 6, 100)),
        pending_size_max=choice((60, 10_000)),
        backlog_size_max=choice((100, 500, 100_000)),
        patience_s=5.0,
    )
    settings = EngineSettings(
        in_flight_max=choice((1, 2, 3, 10)),
        open_ids_max=10,
        sessions_max=1_000_000,
        subscriptions_max=20,
        topic_levels_max=10,
        route_cache_max=choice((2, 100)),
        queue=queue,
        hold=hold,
        session_expiry_s=None,
    )
    return Plan(
        build=Build(
            settings=settings,
            outbox_size_max=choice((200, 100_000)),
            deliveries_max=choice((1, 2, 1_000)),
            turn_work=choice((1, 20, 1_000_000)),
            turn_size=choice((1, 500, 1_000_000)),
            elsewhere=random.random() < 0.4,
            backlog_size_max=choice((100, 2_000, 1_000_000)),
        ),
        lossless=lossless,
        kills=choice((0, 2, 6)),
        switching=not lossless and random.random() < 0.5,
        budget=choice((40, 120)),
    )


class Simulation:
    """Clients, network, broker and disk; and the hand that stirs them.

    Attributes:
        broker: The process that runs now.
        clients: By client id.
        settling: Faults have ceased: everything must come to rest.
        farewell: The step of the last publishes.
    """

    def __init__(self, seed: int, *, change: Callable[[Build], Build], watching: bool) -> None:
        self.random = Random(seed)
        self.plan = make_plan(self.random)
        self.build = change(self.plan.build)
        self.window = self.build.settings.in_flight_max
        self.step = 0
        self.settling = False
        self.ledger = Ledger()
        self.disk = Disk()
        queueing = self.build.settings.queue.enabled and not self.plan.switching
        self._witness = Witness(self.disk, self.ledger, queueing=queueing, watching=watching)
        self._kills = self.plan.kills
        self._budget = self.plan.budget
        self._now = 0.0
        self.farewell = 0
        self._pipes: list[Pipe] = []
        self.broker = self._start()
        self.clients = {role.client_id: Client(self, role) for role in ROLES}

    def _start(self) -> Broker:
        return Broker(self.build, self.disk, self.ledger, self._witness, self._wall_ms)

    @property
    def _wall_ms(self) -> int:
        return int(self._now * 1000)

    def run(self) -> None:
        """Stir, let everything come to rest, and look whether all promises were kept.

        Raises:
            Violation: One was not.
        """
        while self.step < CHAOS_STEPS:
            self._do_something()
        self.settle()
        promises.check_at_rest(self)
        self.say_goodbye()
        self.settle()
        promises.check_at_rest(self)
        promises.check_goodbye(self)

    def settle(self) -> None:
        """Let faults cease and go on until nothing is left to do."""
        self.settling = True
        end = self.step + SETTLING_STEPS_MAX
        while self._do_something():
            if self.step > end:
                raise Violation("k: does not come to rest")

    def say_goodbye(self) -> None:
        """Publish once more on every topic: whoever is subscribed must get it."""
        self.farewell = self.step
        for topic in TOPICS:
            self.clients["P0"].publish_last(topic, 1)
            self.clients["P1"].publish_last(topic, 2)

    def _do_something(self) -> bool:
        choices = self._choices()
        if not choices:
            return False
        self.step += 1
        weights = [weight for weight, _ in choices]
        self.random.choices(choices, weights)[0][1]()
        promises.check_bounds(self)
        return True

    # -- what may happen -------------------------------------------------------------------------

    def _choices(self) -> list[Choice]:
        choices: list[Choice] = []
        self._broker_choices(choices)
        for pipe in self._pipes:
            self._pipe_choices(pipe, choices)
        for client in self.clients.values():
            self._client_choices(client, choices)
        if not self.settling:
            choices.append((0.3, self._tick))
            if self._kills:
                # The worst moment is while only some of a message's receivers have it.
                choices.append((1 if self.broker.engine.is_busy else 0.15, self._kill))
        return choices

    def _broker_choices(self, choices: list[Choice]) -> None:
        broker = self.broker
        if broker.engine.is_busy or broker.engine.chores.waiting:
            choices.append((1, broker.work))
        if broker.has_work():
            choices.append((3, broker.end_turn))
        if broker.result is not None:
            choices.append((2, broker.committed))
        elif broker.turn is not None:
            # A commit that fails changes nothing and is repeated: it is one that takes longer.
            choices.append((1, broker.commit))
        pick = self.random.randrange
        backlog = broker.views.retained
        if broker.shown is not None:
            choices.append((1, broker.followed))
        elif backlog is not None and backlog.count:
            choices.append((0.5, lambda: broker.follow(pick(1, 4))))
        if broker.asked:
            choices.append((1.5, lambda: broker.look_up(pick(len(broker.asked)))))
        if broker.pages:
            choices.append((1.5, lambda: broker.bring_page(pick(len(broker.pages)))))

    def _pipe_choices(self, pipe: Pipe, choices: list[Choice]) -> None:
        broker = self.broker
        connection = pipe.connection
        assert connection is not None
        if not pipe.broker_open:
            return
        free = not broker.engine.is_busy
        if connection.unread:
            if free and not connection.is_held:
                choices.append((3, lambda: broker.go_on(pipe, self._now, self._wall_ms)))
        elif pipe.to_broker:
            if free and not connection.stops_reading:
                choices.append((3, lambda: self._receive(pipe)))
        elif free and not pipe.client_open:
            choices.append((2, lambda: broker.lost(pipe, self._wall_ms)))
        if broker.is_dirty(pipe):
            choices.append((3, lambda: broker.flush(pipe)))

    def _receive(self, pipe: Pipe) -> None:
        size = len(pipe.to_broker)
        if self.random.random() < 0.3:
            size = self.random.randint(1, size)
        self.broker.receive(pipe, size, self._now, self._wall_ms)

    def _client_choices(self, client: Client, choices: list[Choice]) -> None:
        pipe = client.pipe
        if pipe is None:
            choices.append((1, lambda: self._connect(client)))
            return
        if pipe.to_client:
            choices.append((3, client.read))
        elif not pipe.broker_open:
            choices.append((2, client.drop))
        if client.up and client.acks and (self.settling or not client.stalled):
            choices.append((3, client.acknowledge))
        if client.up and client.role.subscribes and client.request is None:
            self._subscriber_choices(client, choices)
        if not self.settling:
            self._chaos_choices(client, choices)

    def _subscriber_choices(self, client: Client, choices: list[Choice]) -> None:
        active = client.active_filters()
        if not active:
            choices.append((1, lambda: self._subscribe(client)))
        elif not self.settling and client.role.persistent:
            choices.append((0.1, lambda: self._subscribe(client)))
            choices.append((0.1, lambda: client.unsubscribe(self.random.choice(active))))

    def _subscribe(self, client: Client) -> None:
        random = self.random
        count = random.choice((1, 1, 2)) if client.role.persistent else 1
        filters = random.sample(client.role.filters, count)
        client.subscribe([(f, random.choice((0, 1, 2, 2))) for f in filters])

    def _chaos_choices(self, client: Client, choices: list[Choice]) -> None:
        choices.append((0.05, lambda: setattr(client, "stalled", not client.stalled)))
        if client.role.publishes and client.up and self._budget:
            choices.append((1, lambda: self._publish(client)))
        choices.append((0.05, client.drop))
        choices.append((0.03, client.abandon))
        if client.up:
            choices.append((0.03, client.disconnect))
            choices.append((0.03, lambda: self._connect(client)))

    def _publish(self, client: Client) -> None:
        random = self.random
        for _ in range(random.choice((1, 1, 3))):
            topic = random.choice(TOPICS)
            retain = topic[0] == "r" and random.random() < 0.7
            self._budget = max(self._budget - 1, 0)
            client.publish(
                topic,
                random.choice((0, 1, 1, 2, 2)),
                retain=retain,
                clear=retain and random.random() < 0.2,
            )

    # -- what happens ----------------------------------------------------------------------------

    def connect(self, pipe: Pipe) -> None:
        """See ``clients.World``."""
        self._pipes = [p for p in self._pipes if p.broker_open or p.client.pipe is p]
        self._pipes.append(pipe)
        self.broker.accept(pipe)

    def _connect(self, client: Client) -> None:
        client.connect(clean=not self.settling and self.random.random() < 0.1)

    def _tick(self) -> None:
        self._now += self.random.choice((1.0, 1.0, 3.0))
        self.broker.engine.tick(self._now, self._wall_ms)

    def _kill(self) -> None:
        self._kills -= 1
        for pipe in self._pipes:
            pipe.broker_open = False
        if self.plan.switching and self.random.random() < 0.5:
            self._switch_queues()
        self.broker = self._start()

    def _switch_queues(self) -> None:
        settings = self.build.settings
        queue = replace(settings.queue, enabled=not settings.queue.enabled)
        self.build = replace(self.build, settings=replace(settings, queue=queue))


def simulate(
    seed: int,
    *,
    change: Callable[[Build], Build] = lambda build: build,
    watching: bool = True,
) -> None:
    """Run one simulation.

    Args:
        seed: Decides everything.
        change: Breaks the broker.
        watching: Off, only what clients notice counts; see ``Witness``.

    Raises:
        Violation: A promise was broken.
    """
    Simulation(seed, change=change, watching=watching).run()
