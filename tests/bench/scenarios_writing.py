"""Rows about what wears a disk out: bytes written for each byte of MQTT traffic.

Few messages a second are the dear case: every commit writes whole pages, and the fewer messages
share one, the more of them for each. What is counted is ``write_bytes`` of ``/proc/PID/io``: the
pages of 4 KiB in the page cache that the process made dirty and the kernel has to write, of every
file, write-ahead log and checkpoints included, from the first message to the end of the process.
What a file system writes for itself is not in it; one in memory has no such pages at all.
"""

import os
import random
import select
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.bench.brokers import STOP_TIMEOUT_S, Profile, Running
from tests.bench.channels import Client, Opened, Transport, open_channel
from tests.bench.frames import PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, publish_frame
from tests.bench.generator import DRAIN_IDLE_S
from tests.bench.model import Bound, Effort, Metric, Outcome, Scenario
from tests.bench.poller import CollectorPaused, Poller
from tests.bench.scenarios_durable import count_rows

MESSAGES_PER_S = 100
TOPICS = [f"plant/line{n // 10:02d}/sensor{n % 10}/value" for n in range(200)]
PAYLOAD_SIZES = range(70, 140)
RETAINED_SHARE = 0.1

_PROBLEM = "nothing was written: TMPDIR is in memory, or not counted; set it to a folder on a disk"


class Party:
    """A client that answers as the standard wants it; its bytes both ways are counted.

    Attributes:
        size: Bytes it has sent and received.
        received: Messages it has received.
        acknowledged: Messages of its own of which that is complete.
        sent_size: The part of ``size`` that it has sent.
    """

    def __init__(self, poller: Poller, opened: Opened) -> None:
        self.size = 0
        self.sent_size = 0
        self.received = 0
        self.acknowledged = 0
        self._poller = poller
        self._channel = opened.channel
        self._rest = b""
        poller.add(opened.channel, self._read)
        self._take(opened.early)

    def send(self, packet: bytes) -> None:
        """Send a whole packet."""
        self.size += len(packet)
        self.sent_size += len(packet)
        self._poller.send(self._channel, packet)

    def _read(self) -> None:
        self._take(self._channel.receive())

    def _take(self, chunk: bytes) -> None:
        self.size += len(chunk)
        data = self._rest + chunk
        while (end := _packet_end(data)) is not None:
            self._handle(data[:end])
            data = data[end:]
        self._rest = data

    def _handle(self, packet: bytes) -> None:
        kind = packet[0]
        if kind >> 4 == PUBLISH >> 4:
            self.received += 1
            qos = kind >> 1 & 3
            if qos:
                topic_at = 2 if packet[1] < 0x80 else 3
                id_at = topic_at + 2 + int.from_bytes(packet[topic_at : topic_at + 2])
                answer = PUBACK if qos == 1 else PUBREC
                self.send(bytes([answer, 2]) + packet[id_at : id_at + 2])
        elif kind == PUBREC:
            self.send(bytes([PUBREL]) + packet[1:])
        elif kind == PUBREL:
            self.send(bytes([PUBCOMP]) + packet[1:])
        elif kind in {PUBACK, PUBCOMP}:
            self.acknowledged += 1


def _packet_end(data: bytes) -> int | None:
    """Where the packet at the beginning ends; None if not all is there. Below 16 KiB."""
    if len(data) < 3:
        return 2 if data[1:] == b"\x00" else None
    end = 2 + data[1] if data[1] < 0x80 else 3 + (data[1] & 0x7F | data[2] << 7)
    return end if end <= len(data) else None


@dataclass(frozen=True, slots=True)
class Cast:
    """Who is there.

    Attributes:
        qos: What the publishers publish with, a clean client for each and in turn.
        clean: What clean sessions subscribe to ``#`` with.
        persistent: What persistent sessions do.
    """

    qos: Sequence[int]
    clean: Sequence[int]
    persistent: Sequence[int]


class PacedLoad:
    """Single messages at a fixed rate, each on another topic, as sensors send them."""

    def __init__(self, running: Running, cast: Cast) -> None:
        """Connect and subscribe."""
        self._poller = Poller()
        self._qos = cast.qos
        self._sent = 0
        self._random = random.Random(1)
        subscribers = [
            Client(client_id=f"{name}-{number}", clean=name == "clean", topic_filter="#", qos=qos)
            for name, every in (("clean", cast.clean), ("kept", cast.persistent))
            for number, qos in enumerate(every)
        ]
        publishers = [Client(client_id=f"publisher-{qos}") for qos in cast.qos]
        self._subscribers, self._publishers = (
            [Party(self._poller, open_channel(Transport.TCP, running.port, one)) for one in part]
            for part in (subscribers, publishers)
        )

    def publish_for(self, seconds: float) -> None:
        """Publish ``MESSAGES_PER_S``, whatever the broker does."""
        start = time.perf_counter()
        for number in range(max(1, int(seconds * MESSAGES_PER_S))):
            self._poller.run_until_time(start + number / MESSAGES_PER_S)
            self._publish()

    def finish(self, running: Running) -> list[str]:
        """Wait for what is under way, then say what is wrong."""
        self._poller.run_until(lambda: not self._problems(), self._progress, DRAIN_IDLE_S)
        problems = self._problems()
        self._poller.run_until(
            lambda: count_rows(running, "mcparchive") == self._sent, lambda: 0, DRAIN_IDLE_S
        )
        rows = count_rows(running, "mcparchive")
        return problems if rows == self._sent else [*problems, f"{rows} rows of {self._sent}"]

    def close(self) -> None:
        """Close every connection."""
        self._poller.close()

    @property
    def size(self) -> int:
        """Bytes of MQTT so far, both ways."""
        return sum(party.size for party in (*self._publishers, *self._subscribers))

    @property
    def sent_size(self) -> int:
        """Those that the broker received."""
        return sum(party.sent_size for party in (*self._publishers, *self._subscribers))

    def _publish(self) -> None:
        index = self._sent % len(self._qos)
        self._sent += 1
        draw = self._random
        payload = draw.randbytes(draw.choice(PAYLOAD_SIZES) // 2).hex().encode()
        packet = publish_frame(
            draw.choice(TOPICS),
            payload,
            qos=self._qos[index],
            retain=draw.random() < RETAINED_SHARE,
            packet_id=self._sent % 0xFFFF + 1,
        )
        self._publishers[index].send(packet)

    def _progress(self) -> int:
        return self.size

    def _problems(self) -> list[str]:
        waited_for = sum(1 for number in range(self._sent) if self._qos[number % len(self._qos)])
        acknowledged = sum(publisher.acknowledged for publisher in self._publishers)
        received = [subscriber.received for subscriber in self._subscribers]
        if acknowledged == waited_for and set(received) == {self._sent}:
            return []
        return [f"{self._sent} sent: {acknowledged} acknowledged, delivered {received}"]


def written_size(process: int) -> int:
    """What a process has written to disks, also one that has ended and was not waited for.

    Raises:
        OSError, ValueError: the system does not tell.
    """
    lines = Path(f"/proc/{process}/io").read_text(encoding="ascii").splitlines()
    (size,) = [line.partition(": ")[2] for line in lines if line.startswith("write_bytes: ")]
    return int(size)


def stop(running: Running) -> int:
    """Let the broker close its files; what it has written in all.

    Raises:
        RuntimeError: it does not end.
    """
    descriptor = os.pidfd_open(running.process.pid)
    try:
        running.process.send_signal(signal.SIGTERM)
        if not select.select([descriptor], [], [], STOP_TIMEOUT_S)[0]:
            raise RuntimeError(f"the broker does not stop within {STOP_TIMEOUT_S} s")
        return written_size(running.process.pid)
    finally:
        os.close(descriptor)


def run_writing(running: Running, effort: Effort, *, cast: Cast) -> Outcome:
    """Publish for a while and stop the broker; compare what it wrote with what was said."""
    load = PacedLoad(running, cast)
    try:
        before, size, sent_size = written_size(running.process.pid), load.size, load.sent_size
        with CollectorPaused():
            load.publish_for(effort.sustained_s)
        problems = load.finish(running)
        size, sent_size = load.size - size, load.sent_size - sent_size
        written = stop(running) - before
    finally:
        load.close()
    if not written:
        problems.append(_PROBLEM)
    return Outcome(
        figures={"received": written / sent_size, "traffic": written / size}, problems=problems
    )


def _scenario(name: str, what: str, cast: Cast, required: Bound) -> Scenario:
    title = f"written to the disk at 100 msg/s, {what}"
    return Scenario(
        name=f"writing-{name}",
        metrics=(
            Metric(
                name="traffic",
                title=f"{title}: for each byte of MQTT, both ways",
                unit="B",
                smaller_is_better=True,
                required=required,
            ),
            Metric(
                name="received",
                title="the same for each byte that came in",
                unit="B",
                smaller_is_better=True,
            ),
        ),
        run=partial(run_writing, cast=cast),
        configuration="archive and last value in SQLite; one by one, packets of 100 to 170 B",
        profile=Profile.DEFAULT,
        once=True,
    )


SCENARIOS = (
    _scenario("qos0", "QoS 0, a subscriber", Cast([0], [0], []), Bound(25)),
    _scenario(
        "mixed",
        "QoS 0, 1 and 2 in turn, two clean subscribers and a persistent one",
        Cast([0, 1, 2], [1, 2], [2]),
        Bound(60),
    ),
)
