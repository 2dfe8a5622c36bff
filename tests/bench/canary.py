"""The canary: clients in a process of their own whose waits tell whether others can go on.

A pair exchanges a QoS 0 message every 100 ms, a client with a keep-alive sends PINGREQ every
second, and ``GET /health`` is asked every 100 ms over a new connection. Beside these, a QoS 1
message is published every 100 ms for a session that is away: its PUBACK waits for the disk. The
figure is the worst wait of each. The kernel stamps what clients receive: their own reading is in
none of their waits.
"""

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

from tests.bench.channels import Closed, StampedChannel, connect_socket, wait_for_bytes
from tests.bench.frames import (
    PINGREQ_FRAME,
    PINGRESP_FRAME,
    connect_frame,
    publish_frame,
    subscribe_frame,
)

MESSAGE_INTERVAL_S, PING_INTERVAL_S, HEALTH_INTERVAL_S = 0.1, 1.0, 0.1
KEEP_ALIVE_S = 3
"""The client pings three times as often: it never deserves to be closed."""
ANSWER_TIMEOUT_S = 240.0
"""The broker stood still for good, or lost what was sent."""
_TOPIC, _STORED_TOPIC = "canary/x", "canary/stored"
_CONNACK, _PUBACK = b"\x20\x02\x00\x00", b"\x40\x02\x00\x01"
_REPOSITORY = Path(__file__).parents[2]

Exchange = Callable[[], float]
"""One question and its answer: the seconds in between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """The worst of each kind, in milliseconds, and what went wrong."""

    message: float
    ping: float
    health: float
    stored: float
    lateness: float
    """Of the canary itself: how late the machine let it ask."""
    problems: list[str] = field(default_factory=list)


class Canary:
    """The canary's process, for whoever attacks meanwhile; it is gone after the ``with``."""

    def __init__(self, port: int, operation_port: int) -> None:
        """Start it; when this returns, each of its clients has had an answer."""
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tests.bench.canary", str(port), str(operation_port)],
            env={**os.environ, "PYTHONPATH": str(_REPOSITORY)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            self.__exit__()
            raise RuntimeError("the canary could not start; its output says why")

    def __enter__(self) -> Self:
        """The canary is at work already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill it, unless it has ended."""
        self._process.kill()
        self._process.communicate()

    def stop(self) -> Waits:
        """Let it have the answers it still waits for, and ask a last time; what it has seen."""
        told, _ = self._process.communicate("\n", 2 * ANSWER_TIMEOUT_S + 10)
        return Waits(**json.loads(told))


class Asker(StampedChannel):
    """A connected client of one of the probes, which are threads."""

    __slots__ = ()
    _reading = threading.Lock()
    """All channels of a process read into one buffer."""

    def __init__(
        self, port: int, client_id: str, *, clean: bool = True, keep_alive_s: int = 0
    ) -> None:
        super().__init__(connect_socket(port))
        self.send(connect_frame(client_id, clean=clean, keep_alive_s=keep_alive_s))
        self.expect(_CONNACK)

    def subscribe(self, topic: str, qos: int) -> None:
        """Subscribe and see it granted."""
        self.send(subscribe_frame(topic, qos))
        self.expect(b"\x90\x03\x00\x01" + bytes([qos]))

    def receive(self) -> bytes:
        """See ``Channel``."""
        with self._reading:
            return super().receive()

    def expect(self, answer: bytes) -> None:
        """Wait for ``answer``. Raises ``Closed`` if something else comes."""
        received = wait_for_bytes(self, b"", len(answer), ANSWER_TIMEOUT_S)
        if received != answer:
            raise Closed(f"{received.hex()} came instead of {answer.hex()}")


def exchange(sender: Asker, question: bytes, receiver: Asker, answer: bytes) -> float:
    """Send a packet and wait for what must follow it, on the same connection or another."""
    asked_ns = time.time_ns()
    sender.send(question)
    receiver.expect(answer)
    return (receiver.arrived_ns - asked_ns) / 1e9


def _message(port: int) -> Exchange:
    publisher, subscriber = Asker(port, "canary-publisher"), Asker(port, "canary-subscriber")
    subscriber.subscribe(_TOPIC, 0)
    frame = publish_frame(_TOPIC, b"?")
    return partial(exchange, publisher, frame, subscriber, frame)


def _ping(port: int) -> Exchange:
    client = Asker(port, "canary-pinger", keep_alive_s=KEEP_ALIVE_S)
    return partial(exchange, client, PINGREQ_FRAME, client, PINGRESP_FRAME)


def _stored(port: int) -> Exchange:
    sleeper = Asker(port, f"canary-sleeper-{os.getpid()}", clean=False)  # new, whoever was there
    publisher = Asker(port, "canary-storer")
    sleeper.subscribe(_STORED_TOPIC, 1)
    sleeper.close()
    return partial(
        exchange, publisher, publish_frame(_STORED_TOPIC, b"?", qos=1), publisher, _PUBACK
    )


def ask_health(operation_port: int) -> float:
    """Ask for ``/health`` over a new connection."""
    start = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", operation_port, timeout=ANSWER_TIMEOUT_S)
    try:
        connection.request("GET", "/health")
        response = connection.getresponse()
        response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise Closed(f"/health was answered with {response.status}")
    return time.perf_counter() - start


class Probe(threading.Thread):
    """Asks again and again, never twice at the same time, and remembers the worst wait."""

    def __init__(self, exchange: Exchange, interval_s: float, stopping: threading.Event) -> None:
        super().__init__(daemon=True)
        self.worst_s = 0.0
        self.lateness_s = 0.0
        self.problem = ""
        self.begun = threading.Event()
        self._exchange = exchange
        self._interval_s = interval_s
        self._stopping = stopping

    def run(self) -> None:
        """Ask until ``stopping`` and once more; a failure ends it, and the wait for it counts."""
        is_last = False
        while not is_last:
            is_last = self._stopping.is_set()
            start = time.perf_counter()
            try:
                waited_s = self._exchange()
            except (Closed, OSError, http.client.HTTPException) as error:
                self.problem = repr(error)
                waited_s = time.perf_counter() - start
            self.worst_s = max(self.worst_s, waited_s)
            self.begun.set()
            if self.problem:
                return
            due = max(start + self._interval_s, time.perf_counter())
            if not self._stopping.wait(due - time.perf_counter()):
                self.lateness_s = max(self.lateness_s, time.perf_counter() - due)


def main() -> None:
    """Watch the ports of the command line until a line comes in; print the ``Waits`` as JSON."""
    port, operation_port = map(int, sys.argv[1:])
    stopping = threading.Event()
    probes = {
        "message": Probe(_message(port), MESSAGE_INTERVAL_S, stopping),
        "ping": Probe(_ping(port), PING_INTERVAL_S, stopping),
        "health": Probe(partial(ask_health, operation_port), HEALTH_INTERVAL_S, stopping),
        "stored": Probe(_stored(port), MESSAGE_INTERVAL_S, stopping),
    }
    for probe in probes.values():
        probe.start()
    for probe in probes.values():
        probe.begun.wait(ANSWER_TIMEOUT_S)
        probe.worst_s = probe.lateness_s = 0.0
    print("ready", flush=True)
    sys.stdin.readline()
    stopping.set()
    for probe in probes.values():
        probe.join()
    waits = Waits(
        **{name: probe.worst_s * 1000 for name, probe in probes.items()},
        lateness=max(probe.lateness_s for probe in probes.values()) * 1000,
        problems=[f"canary's {name}: {one.problem}" for name, one in probes.items() if one.problem],
    )
    print(json.dumps(asdict(waits)))


if __name__ == "__main__":
    main()
