"""Attacks with messages, frames and signals: floods, fan-out, wills, replays.

Of each function, what stands before the ``yield`` prepares; the canary sees what follows.
"""

import itertools
import resource
import signal
from collections.abc import Callable, Iterator

from tests.bench.channels import Closed, WebSocketChannel, wait_for_bytes
from tests.bench.frames import (
    ANSWER_SIZE,
    DISCONNECT_FRAME,
    PINGREQ_FRAME,
    PUBACK,
    Will,
    answers,
    connect_frame,
    publish_frame,
    subscribe_all_frame,
)
from tests.bench.poller import Poller
from tests.bench.stage import CHUNK_SIZE, Attacker, HostileChannel, Stage, chunk_of, joined

FLOODERS, FAN_OUTS = 8, 5
SPARE_DESCRIPTORS = 500
"""What a process needs besides its clients' connections."""
_WILL_SIZE = 64 * 1024 - 1
_BIG_SIZE = 511 * 1024
_SIGNAL_INTERVAL_S = 0.005
_MASKED = b"\x80\0\0\0\0"
_EMPTY_FRAGMENT, _FIRST_FRAGMENT = b"\x00" + _MASKED, b"\x02" + _MASKED
_PINGREQ_IN_TWO_FRAMES = b"".join(b"\x82\x81\0\0\0\0" + bytes([one]) for one in PINGREQ_FRAME)


def nothing(stage: Stage) -> Iterator[None]:
    """What the machine alone makes the canary wait for."""
    yield
    stage.run_for(stage.effort.seconds)


def send_websocket_frames(stage: Stage, size: int) -> Iterator[None]:
    """One client sends frames of no or of one byte as fast as it can."""
    attacker = stage.join_websocket()
    envelope = WebSocketChannel(attacker.channel, client=True)
    envelope.send(connect_frame("attacker"))
    stage.expect_received([attacker], ANSWER_SIZE)
    if not size:
        attacker.send(_FIRST_FRAGMENT)
    frame = _PINGREQ_IN_TWO_FRAMES if size else _EMPTY_FRAGMENT
    yield
    stage.feed({attacker: itertools.repeat(chunk_of(frame))}, stage.effort.seconds)


def vanish_with_wills(stage: Stage, *, is_kept: bool) -> Iterator[None]:
    """A thousand clients with 64 KB wills go at once, and somebody gets them all.

    The wills are of QoS 1 and retained if they are to be kept.
    """
    subscriber = stage.join("subscriber")
    stage.subscribe(subscriber, ["will/#"])
    count = stage.some(1_000)
    payload = b"w" * (_WILL_SIZE if count == 1_000 else 100)
    attackers = []
    for number in range(count):
        will = Will(f"will/{number}", payload, qos=int(is_kept), retain=is_kept)
        attackers.append(stage.join(f"attacker-{number:04d}", will=will))
    yield
    for attacker in attackers:
        attacker.vanish()


def wipe_a_queue(stage: Stage, size: int) -> Iterator[None]:
    """A session with a long queue begins anew, clean."""
    sleeper = stage.join("sleeper", clean=False)
    sleeper.send(subscribe_all_frame(["queue/#"], 1))
    stage.sync(sleeper)
    sleeper.send(DISCONNECT_FRAME)
    publisher, count, payload = stage.join("publisher"), stage.some(300_000), b"q" * size
    frames = (
        publish_frame("queue/x", payload, qos=1, packet_id=number % 0xFFFF + 1)
        for number in range(count)
    )
    stage.feed({publisher: joined(frames, CHUNK_SIZE)})
    stage.expect_received([publisher], ANSWER_SIZE * count)
    yield
    sleeper = stage.join("sleeper")
    stage.sync(sleeper)


def retain_much(stage: Stage, count: int, size: int) -> Iterator[None]:
    """300 MB of retained messages come in."""
    publisher = stage.join("publisher")
    payload = b"r" * (size if stage.some(count) == count else 100)
    yield
    frames = (
        publish_frame(f"retained/{number % 1_000}/{number}", payload, retain=True)
        for number in range(stage.some(count))
    )
    stage.feed({publisher: joined(frames, CHUNK_SIZE)})
    stage.sync(publisher)


def replay_everything(stage: Stage, *, is_committed: bool) -> Iterator[None]:
    """Three hundred clients ask for everything that is retained, or is about to be."""
    publisher = stage.join("publisher")
    frames = [
        publish_frame(f"plant/line{number}/t", b"retained", retain=True)
        for number in range(stage.some(100_000))
    ]
    attackers = [stage.join(f"attacker-{number:03d}") for number in range(stage.some(300))]
    size = sum(map(len, frames))
    if is_committed:
        stage.feed({publisher: joined(frames, CHUNK_SIZE)})
        stage.commit(publisher)
    yield
    if not is_committed:
        stage.feed({publisher: joined(frames, CHUNK_SIZE)})
    for attacker in attackers:
        attacker.send(subscribe_all_frame(["#"]))
    stage.wait_until(
        lambda: all(one.is_closed or one.received >= size for one in attackers),
        5 * stage.effort.seconds,
    )


def flood(stage: Stage, topics: int, *, is_heard: bool) -> Iterator[None]:
    """Eight publishers of QoS 0 and one byte, as fast as they can, on so many topics each."""
    subscriber = stage.join("subscriber")
    if is_heard:
        stage.subscribe(subscriber, ["flood/#"])
    chunks = {}
    for number in range(FLOODERS):
        frames = (publish_frame(f"flood/{number}/{at}", b"x") for at in range(topics))
        wire = b"".join(frames)
        chunks[stage.join(f"attacker-{number}")] = chunk_of(wire)
    yield
    stage.feed(
        {one: itertools.repeat(chunk) for one, chunk in chunks.items()}, stage.effort.seconds
    )


class Receiver(Attacker):
    """One of many who get a message, and acknowledge it; all messages are of the same size."""

    def __init__(self, poller: Poller, channel: HostileChannel, size: int) -> None:
        super().__init__(poller, channel)
        self._size = size
        self._rest = b""

    def take(self, chunk: bytes) -> None:
        """See ``Attacker``."""
        super().take(chunk)
        self._rest += chunk
        while len(self._rest) >= self._size:
            frame, self._rest = self._rest[: self._size], self._rest[self._size :]
            self.send(bytes(answers(PUBACK, frame[-3:-2], frame[-2:-1])))


def fan_out(stage: Stage, count: int, qos: int, *, clean: bool) -> Iterator[None]:
    """One PUBLISH that very many are to get, and the next one when they have it."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    topic, suback = "fan/out", b"\x90\x03\x00\x01" + bytes([qos])
    size = len(publish_frame(topic, b"x", qos=qos))
    receivers: list[Attacker] = []
    for number in range(min(stage.some(count), descriptors - SPARE_DESCRIPTORS)):
        channel = stage.connect(f"receiver-{number:05d}", clean=clean)
        channel.send(subscribe_all_frame([topic], qos))
        if wait_for_bytes(channel, b"", len(suback)) != suback:
            raise Closed(f"SUBSCRIBE of receiver {number} was refused")
        made = Receiver(stage.poller, channel, size) if qos else Attacker(stage.poller, channel)
        receivers.append(made)
    publisher = stage.join("publisher")
    yield
    for number in range(1, FAN_OUTS + 1):
        publisher.send(publish_frame(topic, b"x", qos=qos, packet_id=number))
        stage.expect_received(receivers, size * number)


def reload_certificates(stage: Stage) -> Iterator[None]:
    """A hundred SIGHUPs, each asks for the certificates to be read again."""
    yield
    for _ in range(stage.some(100)):
        stage.running.process.send_signal(signal.SIGHUP)
        stage.running.wait(_SIGNAL_INTERVAL_S)


def send_packets(stage: Stage, frames: Callable[[int], Iterator[bytes]]) -> Iterator[None]:
    """One client sends very small packets as fast as it can, whole chunks of them."""
    attacker = stage.join("attacker")
    chunks = list(joined(frames(stage.some(1_000_000)), CHUNK_SIZE))
    yield
    stage.feed({attacker: itertools.cycle(chunks)}, stage.effort.seconds)


def pings(_: int) -> Iterator[bytes]:
    """One chunk of PINGREQs."""
    yield chunk_of(PINGREQ_FRAME)


def unknown_acknowledgements(_: int) -> Iterator[bytes]:
    """One chunk of PUBACKs for what was never sent."""
    yield chunk_of(bytes(answers(PUBACK, b"\x12", b"\x34")))


def topics_of_one_message(count: int) -> Iterator[bytes]:
    """PUBLISHes that each have a topic of their own."""
    return (publish_frame(f"o/{number:x}", b"x") for number in range(count))
