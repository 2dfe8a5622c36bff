"""The load: publishers and subscribers in a closed loop, all in one readiness loop.

A message occupies its publisher's window until it is settled: acknowledged (QoS 1 and 2) and, if
the load waits for that, received by every subscriber it is for. So no broker can gain by letting a
queue grow, and what is counted at the subscribers is what the publishers really got through.
"""

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from tests.bench.brokers import Running
from tests.bench.busy import Busy, Stopwatch
from tests.bench.channels import Channel, Client, Opened, Transport, open_channel
from tests.bench.frames import (
    ANSWER_SIZE,
    EVERY_TOPIC,
    ONE_VARIANT,
    PAYLOAD_SIZE,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    FrameRing,
    answer_answers,
    answer_publishes,
    check_sample,
    frame_size,
    pair_filter,
    publisher_numbers,
    runs,
    topic_name,
)
from tests.bench.poller import CollectorPaused, Poller

WINDOWS = {0: 100, 1: 20, 2: 20}
"""Messages of one publisher under way, by QoS."""

ROUNDS_PER_RING = 4
"""Windows until a packet id returns."""

SAMPLE_EVERY = 16
"""One read in so many has its first message compared with what was sent."""

DRAIN_IDLE_S = 10.0
_WITHOUT_LIMIT = sys.maxsize


FramesHandler = Callable[[bytes, int], None]


class Publisher:
    """Keeps its window full."""

    __slots__ = (
        "_poller",
        "_qos",
        "_ring",
        "_tail",
        "acknowledged",
        "channel",
        "delivered",
        "sent",
        "window",
    )

    def __init__(self, poller: Poller, channel: Channel, qos: int, ring: FrameRing) -> None:
        self.channel = channel
        self.window = WINDOWS[qos]
        self.sent = 0
        self.acknowledged = 0 if qos else _WITHOUT_LIMIT
        self.delivered = 0
        self._poller = poller
        self._qos = qos
        self._tail = b""
        self._ring = ring
        poller.add(channel, self._read)

    def top_up(self) -> None:
        """Send as many messages as the window allows."""
        settled = min(self.acknowledged, self.delivered)
        room = self.window - self.sent + settled
        if room > 0:
            self.sent += room
            self._poller.send(self.channel, self._ring.take(room))

    def _read(self) -> None:
        chunk = self.channel.receive()
        if len(chunk) == ANSWER_SIZE and chunk[0] == PUBACK and not self._tail:
            self.acknowledged += 1  # as below; one message at a time is only that
            self.top_up()
            return
        chunk = self._tail + chunk
        whole = len(chunk) - len(chunk) % ANSWER_SIZE
        self._tail = chunk[whole:]
        for run in runs(chunk[:whole]):
            if run.kind == PUBREC:
                self._poller.send(self.channel, answer_answers(PUBREL, run.packets))
            elif run.kind == (PUBACK if self._qos == 1 else PUBCOMP):
                self.acknowledged += run.size
                self.top_up()
            else:
                raise ValueError(f"a publisher of QoS {self._qos} got {run.packets[:4].hex()}")


class Subscriber:
    """Counts what arrives and acknowledges it at once."""

    __slots__ = (
        "_on_frames",
        "_payload_size",
        "_poller",
        "_qos",
        "_size",
        "_tail",
        "channel",
        "received",
    )

    def __init__(
        self,
        poller: Poller,
        opened: Opened,
        qos: int,
        on_frames: FramesHandler,
        payload_size: int = PAYLOAD_SIZE,
    ) -> None:
        """``on_frames`` gets the whole PUBLISH frames of each read and their number."""
        self.channel = opened.channel
        self.received = 0
        self._poller = poller
        self._qos = qos
        self._payload_size = payload_size
        self._size = frame_size(qos, payload_size)
        self._tail = b""
        self._on_frames = on_frames
        poller.add(self.channel, self.read)
        if opened.early:
            self._take(opened.early)

    def read(self) -> None:
        """Take what is there."""
        chunk = self.channel.receive()
        if self._qos < 2 and len(chunk) == self._size and not self._tail:
            self._publishes(chunk, 1)
        else:
            self._take(self._tail + chunk)

    def _take(self, chunk: bytes) -> None:
        if self._qos < 2:
            whole = len(chunk) - len(chunk) % self._size
            self._tail = chunk[whole:]
            if whole:
                self._publishes(chunk[:whole] if self._tail else chunk, whole // self._size)
            return
        taken = 0
        for run in runs(chunk):
            taken += len(run.packets)
            if run.kind == PUBLISH:
                self._publishes(run.packets, run.size)
            elif run.kind == PUBREL:
                self._poller.send(self.channel, answer_answers(PUBCOMP, run.packets))
            else:
                raise ValueError(f"a subscriber of QoS 2 got {run.packets[:4].hex()}")
        self._tail = chunk[taken:]

    def _publishes(self, frames: bytes, count: int) -> None:
        self.received += count
        self._on_frames(frames, count)
        if self._qos:
            kind = PUBACK if self._qos == 1 else PUBREC
            answers = answer_publishes(kind, frames, self._payload_size)
            self._poller.answer(self.channel, answers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What a load did from its first message to its last."""

    sent: int
    acknowledged: int
    expected: int
    """Deliveries that the acknowledged messages promise (at QoS 0, all that were sent)."""
    delivered: int

    def problems(self) -> list[str]:
        """What is wrong with these numbers."""
        found = []
        if self.acknowledged != self.sent:
            found.append(f"{self.acknowledged} acknowledged of {self.sent} sent")
        if self.delivered != self.expected:
            found.append(f"{self.delivered} delivered of {self.expected} promised")
        return found


class Load:
    """Publishers and subscribers wired together: pairs, many to one, or one to many."""

    def __init__(
        self,
        qos: int,
        publishers: Sequence[Opened],
        subscribers: Sequence[Opened],
        variants: str = ONE_VARIANT,
        payload_size: int = PAYLOAD_SIZE,
    ) -> None:
        """Who gets what follows from the numbers: one subscriber gets everything, one publisher
        reaches everybody, else they are pairs. Without subscribers only acknowledgements count.
        """
        self.poller = Poller()
        self.delivered = 0
        self._qos = qos
        self._payload_size = payload_size
        self._reads = 0
        self._fan_out = len(subscribers) if len(publishers) == 1 else min(1, len(subscribers))
        self._received = [0] * len(subscribers)
        self._at_minimum = len(subscribers)
        self.publishers = [
            Publisher(
                self.poller,
                opened.channel,
                qos,
                FrameRing(number, qos, ROUNDS_PER_RING * WINDOWS[qos], variants, payload_size),
            )
            for number, opened in enumerate(publishers)
        ]
        self.subscribers = [
            Subscriber(self.poller, opened, qos, self._delivery_counter(number), payload_size)
            for number, opened in enumerate(subscribers)
        ]
        if not subscribers:
            self.wait_for_acknowledgements_only()

    @property
    def acknowledged(self) -> int:
        """Messages acknowledged, or at QoS 0 sent."""
        return sum(min(one.acknowledged, one.sent) for one in self.publishers)

    def wait_for_acknowledgements_only(self) -> None:
        """Settle a message when it is acknowledged, whether or not it has arrived."""
        for publisher in self.publishers:
            publisher.delivered = _WITHOUT_LIMIT

    def start(self) -> None:
        """Fill every window; from here on it is the events that publish."""
        for publisher in self.publishers:
            publisher.top_up()

    def finish(self) -> Tally:
        """Publish nothing more and wait for what is under way, as long as something moves."""
        for publisher in self.publishers:
            publisher.window = 0
        self.poller.run_until(
            lambda: not self._tally().problems(),
            lambda: self.delivered + self.acknowledged,
            DRAIN_IDLE_S,
        )
        return self._tally()

    def _tally(self) -> Tally:
        acknowledged = self.acknowledged
        return Tally(
            sent=sum(one.sent for one in self.publishers),
            acknowledged=acknowledged,
            expected=acknowledged * self._fan_out,
            delivered=self.delivered,
        )

    def _delivery_counter(self, number: int) -> FramesHandler:
        if len(self.publishers) == 1:
            return partial(self._count_fan_out, number)
        if len(self._received) == 1:
            return self._count_fan_in
        return partial(self._count_pair, self.publishers[number])

    def _note(self, frames: bytes, count: int) -> None:
        self.delivered += count
        self._reads += 1
        if not self._reads % SAMPLE_EVERY:
            size = frame_size(self._qos, self._payload_size)
            check_sample(frames[:size], self._qos, self._payload_size)

    def _count_pair(self, publisher: Publisher, frames: bytes, count: int) -> None:
        self._note(frames, count)
        publisher.delivered += count
        publisher.top_up()

    def _count_fan_in(self, frames: bytes, count: int) -> None:
        self._note(frames, count)
        for number, delivered in Counter(publisher_numbers(frames, self._qos)).items():
            publisher = self.publishers[number]
            publisher.delivered += delivered
            publisher.top_up()

    def _count_fan_out(self, number: int, frames: bytes, count: int) -> None:
        """The slowest subscriber decides, so its count is the publisher's ``delivered``."""
        self._note(frames, count)
        before = self._received[number]
        self._received[number] = before + count
        publisher = self.publishers[0]
        if before > publisher.delivered:
            return
        self._at_minimum -= 1
        if not self._at_minimum:
            publisher.delivered = min(self._received)
            self._at_minimum = self._received.count(publisher.delivered)
            publisher.top_up()


class Measured(NamedTuple):
    """A load's rate in its steady state, who was busy meanwhile, its final tally, its cost."""

    per_second: float
    busy: Busy
    tally: Tally
    cost_us: float
    """Microseconds that all of the broker's threads computed for a message meanwhile."""


def measure(load: Load, running: Running, *, warm_up_s: float, seconds: float) -> Measured:
    """Run ``load``: messages a second at the subscribers or, if there are none, acknowledged."""
    with CollectorPaused():
        load.start()
        load.poller.run_for(warm_up_s)
        before, spent_s = _count(load), running.processor_s()
        stopwatch = Stopwatch(running)
        load.poller.run_for(seconds)
        elapsed_s, busy = stopwatch.read()
        count, spent_s = _count(load) - before, running.processor_s() - spent_s
        cost_us = spent_s / max(1, count) * 1e6
        return Measured(count / elapsed_s, busy, load.finish(), cost_us)


def _count(load: Load) -> int:
    return load.delivered if load.subscribers else load.acknowledged


def open_publishers(
    ports: Mapping[Transport, int],
    count: int,
    transport: Transport = Transport.TCP,
    *,
    clean: bool = True,
) -> list[Opened]:
    """Connect clients that only publish."""
    return [
        open_channel(
            transport, ports[transport], Client(client_id=f"pub-{number:02d}", clean=clean)
        )
        for number in range(count)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Who is there: subscribers subscribe at ``qos`` and are persistent if not ``clean``.

    Publishers are persistent if not ``clean_publishers``.
    """

    qos: int
    publishers: int
    subscribers: int
    transport: Transport = Transport.TCP
    clean: bool = True
    clean_publishers: bool = True
    variants: str = ONE_VARIANT
    """A publisher has as many topics as this has characters, and never twice the same in a row."""
    window: int | None = None
    """Messages of a publisher under way at a time, if not as many as its QoS usually has."""
    payload_size: int = PAYLOAD_SIZE

    def topic_filter(self, subscriber: int) -> str:
        """What a subscriber subscribes to: the topics of its publisher, or of all."""
        if self.publishers != self.subscribers:
            return EVERY_TOPIC
        return topic_name(subscriber) if self.variants == ONE_VARIANT else pair_filter(subscriber)


def open_load(ports: Mapping[Transport, int], plan: Plan) -> Load:
    """Connect everybody."""
    receiving = [
        open_channel(
            plan.transport,
            ports[plan.transport],
            Client(
                client_id=f"sub-{number:02d}",
                clean=plan.clean,
                topic_filter=plan.topic_filter(number),
                qos=plan.qos,
            ),
        )
        for number in range(plan.subscribers)
    ]
    sending = open_publishers(ports, plan.publishers, plan.transport, clean=plan.clean_publishers)
    load = Load(plan.qos, sending, receiving, plan.variants, plan.payload_size)
    if plan.window is not None:
        for publisher in load.publishers:
            publisher.window = plan.window
    return load
