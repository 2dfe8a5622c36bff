"""Rows about connections: how many a second, and what an idle one costs."""

from functools import partial

from tests.bench.brokers import Profile, Running
from tests.bench.busy import Stopwatch
from tests.bench.channels import (
    Channel,
    Client,
    Closed,
    TcpChannel,
    Transport,
    connect_socket,
    open_channel,
)
from tests.bench.frames import CONNACK, DISCONNECT_FRAME, connect_frame, publish_frame
from tests.bench.model import Bound, Effort, Metric, Outcome, Scenario
from tests.bench.poller import CollectorPaused, Poller

CONNECTIONS_AT_ONCE = 50
SETTLE_S = 0.5
WARM_CONNECTIONS = 10


class Connector:
    """One of several that connect, are accepted, disconnect, see the close, and start again."""

    def __init__(self, poller: Poller, port: int, ids: list[int], *, clean: bool) -> None:
        """``ids`` holds one number, the next client id, shared so that none is used twice."""
        self.completed = 0
        self.refused = 0
        self._poller = poller
        self._port = port
        self._ids = ids
        self._clean = clean

    def start(self) -> None:
        """Open a connection as a client that was never there before."""
        number = self._ids[0]
        self._ids[0] += 1
        channel = TcpChannel(connect_socket(self._port))
        self._poller.add(channel, partial(self._read, channel))
        self._poller.send(channel, connect_frame(f"pub-{number:07d}", clean=self._clean))

    def _read(self, channel: TcpChannel) -> None:
        try:
            received = channel.receive()
        except Closed:
            self._poller.remove(channel)
            channel.close()
            self.completed += 1
            self.start()
            return
        if received == bytes((CONNACK, 2, 0, 0)):
            self._poller.send(channel, DISCONNECT_FRAME)
        elif received:
            self.refused += 1


def run_connects(running: Running, effort: Effort, *, clean: bool) -> Outcome:
    """CONNECT, CONNACK, DISCONNECT and the close, 50 clients at once, each time a new client id."""
    poller, ids = Poller(), [0]
    connectors = [
        Connector(poller, running.port, ids, clean=clean) for _ in range(CONNECTIONS_AT_ONCE)
    ]
    try:
        with CollectorPaused():
            for connector in connectors:
                connector.start()
            poller.run_for(effort.warm_up_s)
            before = sum(connector.completed for connector in connectors)
            stopwatch = Stopwatch(running)
            poller.run_for(effort.seconds)
            elapsed_s, busy = stopwatch.read()
    finally:
        poller.close()
    completed = sum(connector.completed for connector in connectors) - before
    refused = sum(connector.refused for connector in connectors)
    problems = [f"{refused} connections were refused"] if refused else []
    return Outcome(figures={"rate": completed / elapsed_s}, busy={"rate": busy}, problems=problems)


def run_idle(running: Running, effort: Effort) -> Outcome:
    """Resident memory that one more idle connection with one subscription costs."""
    channels = _connect_idle(running, range(WARM_CONNECTIONS))
    running.wait(SETTLE_S)
    before = running.resident_bytes()
    numbers = range(WARM_CONNECTIONS, WARM_CONNECTIONS + effort.idle_connections)
    channels += _connect_idle(running, numbers)
    try:
        running.wait(SETTLE_S)
        each = (running.resident_bytes() - before) / effort.idle_connections
        reached = _publish_to_all(running, channels)
    finally:
        for channel in channels:
            channel.close()
    problems = [] if reached == len(channels) else [f"{reached} of {len(channels)} reachable"]
    return Outcome(figures={"resident": each / 1024}, problems=problems)


def _idle_topic(number: int) -> str:
    return f"idle/{number:05d}"


def _connect_idle(running: Running, numbers: range) -> list[Channel]:
    clients = (Client(client_id=f"idle-{n:05d}", topic_filter=_idle_topic(n)) for n in numbers)
    return [open_channel(Transport.TCP, running.port, client).channel for client in clients]


def _publish_to_all(running: Running, channels: list[Channel]) -> int:
    """How many of the connections still get a message on their topic."""
    poller, reached = Poller(), set[int]()

    def note(number: int) -> None:
        if channels[number].receive() == publish_frame(_idle_topic(number), b"there?"):
            reached.add(number)

    for number, channel in enumerate(channels):
        poller.add(channel, partial(note, number))
    publisher = open_channel(Transport.TCP, running.port, Client(client_id="pub-00")).channel
    poller.add(publisher, lambda: None)
    frames = (publish_frame(_idle_topic(number), b"there?") for number in range(len(channels)))
    poller.send(publisher, b"".join(frames))
    poller.run_until(lambda: len(reached) == len(channels), lambda: len(reached), idle_s=5)
    poller.close()
    return len(reached)


SCENARIOS = (
    Scenario(
        name="connects-clean",
        metrics=(
            Metric(
                name="rate",
                title="connects a second, clean",
                unit="/s",
                required=Bound(2_000),
                aim=Bound(5_000),
            ),
        ),
        run=partial(run_connects, clean=True),
        configuration="routing; 50 at once",
        ceiling=partial(run_connects, clean=True),
    ),
    Scenario(
        name="connects-persistent",
        metrics=(
            Metric(
                name="rate",
                title="connects a second, persistent",
                unit="/s",
                required=Bound(500),
                aim=Bound(2_000),
            ),
        ),
        run=partial(run_connects, clean=False),
        configuration="SQLite; 50 at once, each a new session",
        profile=Profile.SQLITE,
        ceiling=partial(run_connects, clean=False),
    ),
    Scenario(
        name="idle",
        metrics=(
            Metric(
                name="resident",
                title="10,000 idle connections with one subscription each",
                unit="KiB each",
                smaller_is_better=True,
                required=Bound(6),
                aim=Bound(3),
            ),
        ),
        run=run_idle,
        configuration="routing",
    ),
)
