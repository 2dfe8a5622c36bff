"""What decoder and encoder cost per message, in nanoseconds of processor time.

Run it by hand with ``python -m tests.bench.codec_bench``.
"""

from collections.abc import Callable
from functools import partial
from time import process_time

from tests.bench.model import LARGE, Effort
from tests.support.mqtt_client_frames import encode_connect, encode_publish

from monstermq_edge.mqtt.decoder import Decoder, DecoderLimits
from monstermq_edge.mqtt.encoder import encode_answers, encode_run, encode_run_qos0
from monstermq_edge.mqtt.packets import Answers, Packet
from monstermq_shared.messages import MessageRun
from monstermq_shared.sessions.ports import Answer

_PAYLOAD = b"x" * 32
_TOPIC = "bench/p/12"
_ROUNDS = 5


def run(effort: Effort) -> list[str]:
    """Measure every case and return one line for each."""
    return [*_decoder_lines(effort.codec_calls), *_encoder_lines(effort.codec_calls)]


def _decoder_lines(repetitions: int) -> list[str]:
    qos0 = encode_publish(_TOPIC, _PAYLOAD)
    chunks = {
        "100 QoS 0, one topic": (qos0 * 100, 100),
        "20 QoS 0, one topic": (qos0 * 20, 20),
        "1 QoS 0": (qos0, 1),
        "100 QoS 0, two lengths": ((qos0 + encode_publish(_TOPIC, b"longer" * 6)) * 50, 100),
        "100 QoS 0, alternating topics": (
            (qos0 + encode_publish("bench/p/34", _PAYLOAD)) * 50,
            100,
        ),
        "20 QoS 1, one topic": (_numbered(_TOPIC, 20), 20),
        "1 QoS 1": (_numbered(_TOPIC, 1), 1),
        "100 PUBACK": (encode_answers(Answer.PUBACK, range(1, 101)), 100),
        "20 PUBACK": (encode_answers(Answer.PUBACK, range(1, 21)), 20),
        "1 PUBACK": (encode_answers(Answer.PUBACK, [1]), 1),
    }
    decoder = Decoder(DecoderLimits())
    decoder.feed(encode_connect("bench"))
    lines = []
    for name, (chunk, count) in chunks.items():
        assert sum(map(_count, _decode(decoder, chunk))) == count
        cost_ns = _cost_ns(partial(_decode, decoder, chunk), count, repetitions)
        rate = len(chunk) / count / cost_ns * 1_000
        lines.append(f"decode {name:30} {cost_ns:7.0f} ns/message {rate:7.0f} MB/s")
    return lines


def _decode(decoder: Decoder, chunk: bytes) -> list[Packet]:
    packets = decoder.feed(chunk)
    while decoder.unread:
        packets += decoder.more()
    return packets


def _encoder_lines(repetitions: int) -> list[str]:
    twenty = _decoded(_numbered(_TOPIC, 20))
    one = _decoded(_numbered(_TOPIC, 1))
    ids = list(range(101, 121))
    assert encode_run(twenty, 0, range(1, 21), 1, False) == _numbered(_TOPIC, 20)
    assert encode_run_qos0(twenty) == encode_publish(_TOPIC, _PAYLOAD) * 20

    def first_receiver() -> None:
        twenty.encodings = None
        encode_run(twenty, 0, ids, 1, False)

    def qos0_from_qos1() -> None:
        twenty.frames = None
        encode_run_qos0(twenty)

    cases: dict[str, tuple[Callable[[], object], int]] = {
        "20 QoS 1, another receiver": (lambda: encode_run(twenty, 0, ids, 1, False), 20),
        "20 QoS 1, first receiver": (first_receiver, 20),
        "1 QoS 1, another receiver": (lambda: encode_run(one, 0, (101,), 1, False), 1),
        "20 QoS 0 from QoS 1": (qos0_from_qos1, 20),
        "20 PUBACK": (lambda: encode_answers(Answer.PUBACK, ids), 20),
        "1 PUBACK": (lambda: encode_answers(Answer.PUBACK, (101,)), 1),
    }
    return [
        f"encode {name:30} {_cost_ns(call, count, repetitions):7.0f} ns/message"
        for name, (call, count) in cases.items()
    ]


def _numbered(topic: str, count: int) -> bytes:
    return b"".join(encode_publish(topic, _PAYLOAD, qos=1, packet_id=i + 1) for i in range(count))


def _decoded(frames: bytes) -> MessageRun:
    decoder = Decoder(DecoderLimits())
    (_, messages) = decoder.feed(encode_connect("bench") + frames)
    assert isinstance(messages, MessageRun)
    return messages


def _count(packet: object) -> int:
    if isinstance(packet, MessageRun):
        return packet.count
    return len(packet.packet_ids) if isinstance(packet, Answers) else 0


def _cost_ns(call: Callable[[], object], count: int, repetitions: int) -> float:
    """Return the best of some rounds, since others use the processor too."""
    best = float("inf")
    for _ in range(_ROUNDS):
        began = process_time()
        for _ in range(repetitions):
            call()
        best = min(best, process_time() - began)
    return best / repetitions / count * 1e9


if __name__ == "__main__":
    print(*run(LARGE), sep="\n")
