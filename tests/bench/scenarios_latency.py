"""The latency row: QoS 1 pairs at a fixed rate."""

import struct
import time
from collections import deque
from functools import partial

from tests.bench.brokers import Running
from tests.bench.busy import Stopwatch
from tests.bench.channels import Client, StampedChannel, Transport, open_channel
from tests.bench.frames import (
    ANSWER_SIZE,
    PACKET_ID_AT,
    PAYLOAD_SIZE,
    publish_frame,
    topic_name,
)
from tests.bench.generator import DRAIN_IDLE_S, Subscriber
from tests.bench.model import Bound, Effort, Metric, Outcome, Scenario, times
from tests.bench.poller import CollectorPaused, Poller

_ID_AND_DUE = struct.Struct(">HQ")


def _now_ns() -> int:
    return time.perf_counter_ns()


class _Publisher:
    """Knows when each of its messages was due that are not acknowledged."""

    __slots__ = ("channel", "due_ns", "frame", "unread")

    def __init__(self, channel: StampedChannel, frame: bytearray) -> None:
        self.channel = channel
        self.frame = frame
        self.due_ns: deque[int] = deque()
        self.unread = 0

    def acknowledged(self) -> list[int]:
        """Read; when those messages were due that are acknowledged by it, in order."""
        self.unread += len(self.channel.receive())
        count, self.unread = divmod(self.unread, ANSWER_SIZE)
        return [self.due_ns.popleft() for _ in range(count)]


class LatencyLoad:
    """Pairs at a fixed rate, whatever the broker does: an open loop.

    A message carries the time at which it was due, so neither a late generator nor a late broker
    can hide it, and the kernel notes when it came, so that nobody is charged for the generator's
    reading. Messages are due in bursts a millisecond apart, each from another publisher.

    Attributes:
        poller: Handles its events, and those of others who want to be served meanwhile.
    """

    def __init__(
        self,
        running: Running,
        effort: Effort,
        messages_per_s: int,
        payload_size: int = PAYLOAD_SIZE,
        *,
        since_due: bool = True,
    ) -> None:
        """Connect and subscribe. Without ``since_due``, time counts from when a message is sent:
        for comparing with what is measured so.
        """
        self.latencies_ns: list[int] = []
        self.acknowledged_ns: list[int] = []
        self.lateness_ns: list[int] = []
        self.poller = Poller()
        self._interval_ns = max(1_000_000, 1_000_000_000 // messages_per_s)
        self._burst = max(1, messages_per_s * self._interval_ns // 1_000_000_000)
        self._perf_counter_zero_ns = time.time_ns() - _now_ns()
        self._due = struct.Struct(f">{PACKET_ID_AT + 2}xQ{payload_size - 8}x")
        self._since_due = since_due
        self._sent = 0
        self._acknowledged = 0
        self._subscribers = []
        for number in range(effort.pairs):
            name, topic_filter = f"sub-{number:02d}", topic_name(number)
            client = Client(client_id=name, topic_filter=topic_filter, qos=1, stamped=True)
            opened = open_channel(Transport.TCP, running.port, client)
            assert isinstance(opened.channel, StampedChannel)
            note = partial(self._note, opened.channel)
            self._subscribers.append(Subscriber(self.poller, opened, 1, note, payload_size))
        self._publishers: list[_Publisher] = []
        for number in range(effort.pairs):
            client = Client(client_id=f"pub-{number:02d}", stamped=True)
            channel = open_channel(Transport.TCP, running.port, client).channel
            assert isinstance(channel, StampedChannel)
            frame = bytearray(publish_frame(topic_name(number), bytes(payload_size), qos=1))
            publisher = _Publisher(channel, frame)
            self._publishers.append(publisher)
            self.poller.add(channel, partial(self._read_acknowledgements, publisher))

    def forget(self) -> None:
        """Begin to measure: what was measured before is forgotten."""
        self.latencies_ns.clear()
        self.acknowledged_ns.clear()
        self.lateness_ns.clear()

    def publish_for(self, seconds: float) -> None:
        """Publish at the fixed rate."""
        start_ns = _now_ns()
        for tick in range(int(seconds * 1e9 / self._interval_ns)):
            due_ns = start_ns + tick * self._interval_ns
            self.poller.run_until_time(due_ns / 1e9)
            self.lateness_ns.append(max(0, _now_ns() - due_ns))
            for _ in range(self._burst):
                self._publish(due_ns if self._since_due else _now_ns())
            self.poller.turn(0)

    def finish(self) -> list[str]:
        """Wait for what is under way, then say what is wrong."""
        self.poller.run_until(lambda: not self._problems(), self._progress, DRAIN_IDLE_S)
        return self._problems()

    def close(self) -> None:
        """Close every connection."""
        self.poller.close()

    def _problems(self) -> list[str]:
        acknowledged, received = self._acknowledged, self._delivered()
        if acknowledged == received == self._sent:
            return []
        return [f"{self._sent} sent, {acknowledged} acknowledged, {received} delivered"]

    def _delivered(self) -> int:
        return sum(subscriber.received for subscriber in self._subscribers)

    def _progress(self) -> int:
        return self._acknowledged + self._delivered()

    def _publish(self, due_ns: int) -> None:
        publisher = self._publishers[self._sent % len(self._publishers)]
        self._sent += 1
        frame = publisher.frame
        _ID_AND_DUE.pack_into(frame, PACKET_ID_AT, self._sent % 0xFFFF + 1, due_ns)
        publisher.due_ns.append(due_ns)
        self.poller.send(publisher.channel, bytes(frame))

    def _note(self, channel: StampedChannel, frames: bytes, _count: int) -> None:
        came_ns = channel.arrived_ns - self._perf_counter_zero_ns
        self.latencies_ns.extend(came_ns - due_ns for (due_ns,) in self._due.iter_unpack(frames))

    def _read_acknowledgements(self, publisher: _Publisher) -> None:
        due = publisher.acknowledged()
        came_ns = publisher.channel.arrived_ns - self._perf_counter_zero_ns
        self._acknowledged += len(due)
        self.acknowledged_ns.extend(came_ns - due_ns for due_ns in due)


def percentile_ms(values_ns: list[int], share: float) -> float:
    """Return what that share of the values is not above."""
    ordered = sorted(values_ns)
    return ordered[int(share * (len(ordered) - 1))] / 1e6


def run_latency(running: Running, effort: Effort) -> Outcome:
    """Percentiles from due to delivered; of how late the generator was as well."""
    load = LatencyLoad(running, effort, effort.messages_per_s)
    try:
        with CollectorPaused():
            load.publish_for(effort.warm_up_s)
            load.forget()
            stopwatch = Stopwatch(running)
            load.publish_for(effort.seconds)
            _, busy = stopwatch.read()
            problems = load.finish()
    finally:
        load.close()
    return Outcome(
        figures={
            "p99": percentile_ms(load.latencies_ns, 0.99),
            "p50": percentile_ms(load.latencies_ns, 0.5),
            "lateness": percentile_ms(load.lateness_ns, 0.99),
        },
        busy={"p99": busy},
        problems=problems,
    )


SCENARIOS = (
    Scenario(
        name="latency",
        metrics=(
            Metric(
                name="p99",
                title="p99 latency at 20,000 msg/s, QoS 1, 50 pairs",
                unit="ms",
                smaller_is_better=True,
                required=times(1),
                aim=Bound(1),
            ),
            Metric(
                name="p50",
                title="p50 latency of the same",
                unit="ms",
                smaller_is_better=True,
                rests_on=("p99",),
            ),
            Metric(
                name="lateness",
                title="p99 of the generator's own lateness",
                unit="ms",
                smaller_is_better=True,
            ),
        ),
        run=run_latency,
        configuration="routing; open loop, bursts of 20 each ms",
    ),
)
