"""What the queues of one partition cost the projector's processor, without a database or a log.

Every message has one session that is there and acknowledges it 100 ms later, in the coalesced
records that an edge writes; then the same with sessions that are away.
"""

from collections.abc import Iterator, Sequence
from time import process_time

from tests.bench.model import LARGE, Effort

from monstermq_shared.bus.control import control_texts
from monstermq_shared.bus.facts import Ack
from monstermq_shared.bus.header import CONTROL_HEADER, HEADER, KIND_SHIFT, flags_of, pack_header
from monstermq_shared.bus.kafka.entries import entries_of
from monstermq_shared.positions import Mark
from monstermq_shared.records import CONTROL_TOPIC, ControlRecord, Record, encode_record
from monstermq_shared.sessions.distributed.queues.cuts import CutTable
from monstermq_shared.sessions.distributed.queues.fold import QueueFold
from monstermq_shared.stores.changes import Quarantined, StoredLogState
from monstermq_shared.stores.queue_changes import NOTHING_WAITS, Cut
from monstermq_shared.stores.queues import StoredQueue
from monstermq_shared.views.log_fold import LogFold, LogSettings
from monstermq_shared.views.view_set import ViewSet

_PARTITIONS = 12
_CLIENTS = 1_000
_TURN = 500
"""Messages of one turn of an edge, and as many acknowledgements; at 50,000 a second, 10 ms."""

_TURN_S = 0.01
_TURNS_BEHIND = 10
_PAYLOAD = b"x" * 64
_TIME_MS = 1_768_478_400_000


class _Source:
    """What is used of aiokafka's record."""

    def __init__(self, record: Record, offset: int) -> None:
        flags = flags_of(record)
        kind = flags >> KIND_SHIFT
        header = pack_header(kind, record.qos, False, False, b"benching", offset)
        self.offset = offset
        self.timestamp = record.timestamp_ms
        self.key: bytes | None = record.topic.encode()
        self.value: bytes | None = encode_record(record)
        self.headers: Sequence[tuple[str, bytes | None]] = [
            (HEADER, header),
            *([(CONTROL_HEADER, b"")] if kind else []),
        ]


def run(effort: Effort) -> list[str]:
    """Measure the fold; return the rows of the report, in seconds of processor time."""
    turns = max(effort.stored_rows // _TURN, 2 * _TURNS_BEHIND)
    clients = max(effort.stored_rows // 2, 1_000)
    loaded_s = _timed_load(clients)
    return [
        f"queues: cuts loaded, {clients:,} in {_PARTITIONS} partitions  "
        f"{clients * _PARTITIONS / loaded_s:,.0f} /s",
        f"queues: message, match and ack  {_timed_fold(turns, acks=True):.1f} us each",
        f"queues: message, match and row  {_timed_fold(turns, acks=False):.1f} us each",
    ]


def _timed_load(clients: int) -> float:
    table = _table()
    folds = [QueueFold(number, table, _state()) for number in range(_PARTITIONS)]
    stored = [
        StoredQueue(
            f"client-{number}",
            Cut(1, 0, 1, ((f"plant/{number}/+", 1, 0), ("all/#", 1, 0)), _TIME_MS),
            {},
            NOTHING_WAITS,
        )
        for number in range(clients)
    ]
    begun_s = process_time()
    for fold in folds:
        fold.load(stored)
    return process_time() - begun_s


def _timed_fold(turns: int, *, acks: bool) -> float:
    """Return microseconds for each message."""
    queues = QueueFold(0, _table(), _state())
    queues.load(
        StoredQueue(
            f"client-{number}",
            Cut(1, 0, 1, ((f"plant/{number}/value", 1, 0),), _TIME_MS),
            {},
            NOTHING_WAITS,
        )
        for number in range(_CLIENTS)
    )
    log = LogSettings(log_id="bench", lateness_ms=900_000, describe=_refuse)
    fold = LogFold(log, ViewSet([], []), 1, _state(), queues=queues)
    chunks = [*_chunks(turns, acks=acks)]
    begun_s = process_time()
    for number, chunk in enumerate(chunks):
        rows = [*fold.tick(number * _TURN_S)]
        rows += fold.fold(entries_of(chunk))
        if fold.holds_rows:
            rows.append(fold.flush())
    return (process_time() - begun_s) / (turns * _TURN) * 1e6


def _table() -> CutTable:
    return CutTable(_PARTITIONS, lambda _: 0, topic_levels_max=100, route_cache_max=50_000)


def _state() -> StoredLogState:
    return StoredLogState(mark=Mark(1, 1), log_id="bench", last_id=None, runs={}, fences={})


def _chunks(turns: int, *, acks: bool) -> Iterator[list[_Source]]:
    """Yield what stands in the log, by the turn."""
    offset, positions = 1, list[list[int]]()
    for turn in range(turns):
        chunk = []
        for number in range(_TURN):
            topic = f"plant/{(turn * _TURN + number) % _CLIENTS}/value"
            chunk.append(_Source(Record(topic, _PAYLOAD, 1, False, "bench", _TIME_MS, 0), offset))
            offset += 1
        positions.append([source.offset for source in chunk])
        if acks and turn >= _TURNS_BEHIND:
            for text in _acks(turn - _TURNS_BEHIND, positions[turn - _TURNS_BEHIND]):
                chunk.append(_Source(text, offset))
                offset += 1
        yield chunk


def _acks(turn: int, offsets: Sequence[int]) -> Iterator[Record]:
    facts = [
        Ack(client_id=f"client-{(turn * _TURN + number) % _CLIENTS}", offsets=(offset,))
        for number, offset in enumerate(offsets)
    ]
    for kind, text in control_texts(facts):
        yield ControlRecord(CONTROL_TOPIC, text, _TIME_MS, 0, kind)


def _refuse(*_: object) -> Quarantined:
    raise AssertionError("all is ours")


if __name__ == "__main__":
    print(*run(LARGE), sep="\n")
