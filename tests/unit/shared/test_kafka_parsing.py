"""Batches are read whatever the names of headers are, and none is read otherwise than before."""

from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka.consumer import fetcher
from aiokafka.record.memory_records import MemoryRecords
from tests.support.kafka_bus import HeaderName, batch_builder

from monstermq_shared.kafka.parsing import AnyRecords, read_any_header_name

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
Headers = Sequence[tuple[str, bytes | None]]


def batch(first: int, *records: Headers, compression: int = 0) -> bytes:
    builder = batch_builder(compression)
    for at, headers in enumerate(records):
        key = None if at % 2 else b"key %d" % at
        builder.append(at, 1_000 + at, key, b"\xff\xfe" * at, [*headers])
    built = builder.build()
    built[:8] = first.to_bytes(8, "big")
    return bytes(built)


def read(records: Any) -> list[tuple[Any, ...]]:
    found = []
    while records.has_next():
        each = records.next_batch()
        assert each.validate_crc()
        found += [(r.offset, r.timestamp, r.key, r.value, r.headers) for r in each]
        assert each.next_offset == found[-1][0] + 1
    return found


@pytest.mark.parametrize("codec", CODECS)
def test_a_name_that_is_no_text_is_replaced_and_nothing_else(codec: str) -> None:
    compression = CODECS[codec]
    broken = HeaderName.of(b"a\xff\xfe")
    good: Headers = [("m", b"\xff\xfe"), ("n", None)]
    data = b"".join(
        (
            batch(10, good, [], compression=compression),
            batch(12, good, [("x", b"1"), (broken, b"\xff\xfe"), ("y", None)], [], good),
            batch(16, [(broken, None)], compression=compression),
            batch(17, good, compression=compression),
        )
    )
    found = read(AnyRecords(data))
    assert [offset for offset, *_ in found] == [*range(10, 18)]
    assert found[3][4] == [("x", b"1"), ("???", b"\xff\xfe"), ("y", None)]
    assert found[6][4] == [("???", None)]
    whole = [at for at in range(8) if at not in {3, 6}]
    assert [found[at][4] for at in whole] == [good, [], good, [], good, good]
    assert [(key, value) for *_, key, value, _ in found[2:6]] == [
        (b"key 0", b""),
        (None, b"\xff\xfe"),
        (b"key 2", b"\xff\xfe" * 2),
        (None, b"\xff\xfe" * 3),
    ]


@pytest.mark.parametrize("codec", CODECS)
def test_what_aiokafka_can_read_is_as_it_reads_it(codec: str) -> None:
    data = batch(5, [("é", b"1")], [], compression=CODECS[codec]) + batch(7, [], [])
    # Kafka ends an answer where it is full, also in the middle of a batch.
    data += batch(9, [])[:-1]
    assert read(AnyRecords(data)) == read(MemoryRecords(data))
    assert AnyRecords(data).size_in_bytes() == len(data)


def test_without_it_aiokafka_fails_for_ever() -> None:
    """Once it does not, all this can go."""
    with pytest.raises(UnicodeDecodeError):
        read(MemoryRecords(batch(0, [(HeaderName.of(b"\xff"), b"")])))


def test_it_stands_where_aiokafka_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fetcher.MemoryRecords in {MemoryRecords, AnyRecords}
    monkeypatch.setattr(fetcher, "MemoryRecords", MemoryRecords)
    read_any_header_name()
    assert fetcher.MemoryRecords is AnyRecords
