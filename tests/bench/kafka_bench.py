"""What an edge on Kafka spends on a message, stage by stage, in microseconds of processor time.

Real Kafka, and the functions that the edge calls; nobody is connected. Run it by hand with
``python -m tests.bench.kafka_bench``.
"""

import socket
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from time import thread_time, time_ns

import uvloop
from tests.bench.frames import TEN_VARIANTS, topic_name
from tests.bench.kafka_places import KafkaPlace, kafka_place
from tests.bench.kafka_writer import BusWriter, bus_writer
from tests.bench.model import LARGE, Effort
from tests.bench.stored import garbage_as_in_the_broker
from tests.support.mqtt_client_frames import encode_connect, encode_publish

from monstermq_edge.mqtt.decoder import Decoder, DecoderLimits
from monstermq_edge.mqtt.encoder import encode_run_qos0
from monstermq_shared.budget import Budget
from monstermq_shared.bus.header import RUN_SIZE
from monstermq_shared.bus.kafka.encoding import RunEncoder
from monstermq_shared.bus.kafka.pieces import RunsPiece
from monstermq_shared.bus.ports import Entry, LogReader
from monstermq_shared.messages import MessageRun
from monstermq_shared.routing import Interest, Router

PAYLOAD = b"x" * 64
CHUNK = 100
"""Messages that a publisher sends at once."""
PUBLISHERS = 50
CLIENT_ID = "publisher"
STAGES = ("decode", "encode", "send", "fetch", "match", "write", "parse")
SHAPES = {"one topic": "0", "ten topics in turn": TEN_VARIANTS}

Batches = list[tuple[int, Sequence[Entry]]]
"""Partition and entries, as they were read."""


def run(effort: Effort) -> list[str]:
    """Measure each shape and return a line for it.

    ``parse`` is the JSON, which is only read of what another edge has written.
    """
    lines = ["An edge on Kafka, QoS 0, 64 bytes, microseconds of processor time per message:"]
    rounds = max(1, effort.stored_rows // (PUBLISHERS * CHUNK))
    for name, variants in SHAPES.items():
        with kafka_place() as place, garbage_as_in_the_broker():
            spent_s = uvloop.run(_measure(place, variants, rounds))
        count = rounds * PUBLISHERS * CHUNK
        costs = ", ".join(f"{stage} {spent_s[stage] / count * 1e6:.2f}" for stage in STAGES)
        lines.append(f"{CHUNK} messages at once, {name}: {costs}")
    return lines


class _Spent(dict[str, float]):
    """Seconds by stage."""

    @contextmanager
    def on(self, stage: str) -> Iterator[None]:
        """Count what this thread computes within for a stage."""
        began_s = thread_time()
        yield
        self[stage] = self.get(stage, 0.0) + thread_time() - began_s


async def _measure(place: KafkaPlace, variants: str, rounds: int) -> _Spent:
    spent = _Spent()
    router = _router()
    chunks = [_chunk(number, variants) for number in range(PUBLISHERS)]
    async with bus_writer(place) as writer, _reading(writer) as reader:
        near, far = socket.socketpair()
        with closing(near), closing(far):
            for _ in range(rounds):
                runs = _decode(chunks, spent)
                await _send(writer, runs, spent)
                batches = await _fetch(reader, PUBLISHERS * CHUNK, spent)
                _match(batches, router, spent)
                _write(near, far, runs, spent)
                _parse(batches, spent)
    # What was sent had to be encoded as well.
    spent["send"] -= spent["encode"]
    return spent


def _chunk(publisher: int, variants: str) -> bytes:
    return b"".join(
        encode_publish(topic_name(publisher, variants[number % len(variants)]), PAYLOAD)
        for number in range(CHUNK)
    )


def _decode(chunks: Sequence[bytes], spent: _Spent) -> list[list[MessageRun]]:
    """Return the runs of each publisher."""
    decoder = Decoder(DecoderLimits())
    decoder.feed(encode_connect(CLIENT_ID))
    found = []
    with spent.on("decode"):
        for chunk in chunks:
            packets = decoder.feed(chunk)
            while decoder.unread:
                packets += decoder.more()
            found.append(packets)
    return [[one for one in packets if isinstance(one, MessageRun)] for packets in found]


async def _send(writer: BusWriter, runs: Sequence[list[MessageRun]], spent: _Spent) -> None:
    """Encode, and then do it again on the way to Kafka."""
    flat = [one for each in runs for one in each]
    now_ms = time_ns() // 1_000_000
    with spent.on("encode"):
        piece = RunsPiece(now_ms, bytes(RUN_SIZE), 0, RunEncoder())
        for one in flat:
            piece.add(one.topic, one, CLIENT_ID, now_ms, None)
        piece.fields()
    with spent.on("send"):
        for one in flat:
            writer.append(one)
        await writer.flush()


@asynccontextmanager
async def _reading(writer: BusWriter) -> AsyncIterator[LogReader]:
    log = writer.bus.messages
    reader = log.read(await log.end_positions())
    try:
        yield reader
    finally:
        await reader.aclose()


async def _fetch(reader: LogReader, count: int, spent: _Spent) -> Batches:
    batches: Batches = []
    with spent.on("fetch"):
        while count > 0:
            batch = await anext(reader)
            batches.append((batch.partition, batch.entries))
            count -= len(batch.entries)
    return batches


def _router() -> Router[str]:
    """Somebody subscribes to everything."""
    nobody = Interest(wanted=False, durable=False, durable_retained=False)
    router: Router[str] = Router(
        lambda _: nobody, levels_max=100, cache_max=10_000, budget=Budget()
    )
    router.add("#", "subscriber", 0)
    return router


def _match(batches: Batches, router: Router[str], spent: _Spent) -> None:
    """Look up who is to receive each run of messages on one topic."""
    with spent.on("match"):
        for _, entries in batches:
            last = None
            for entry in entries:
                if entry.topic is not last and entry.topic != last:
                    last = entry.topic
                    assert router.route(last).targets


def _write(
    near: socket.socket, far: socket.socket, runs: Sequence[list[MessageRun]], spent: _Spent
) -> None:
    """Write each publisher's messages to one subscriber."""
    for each in runs:
        with spent.on("write"):
            sent = near.send(b"".join(map(encode_run_qos0, each)))
        while sent:
            sent -= len(far.recv(sent))


def _parse(batches: Batches, spent: _Spent) -> None:
    with spent.on("parse"):
        deque((entry.record() for _, entries in batches for entry in entries), maxlen=0)


if __name__ == "__main__":
    print(*run(LARGE), sep="\n")
