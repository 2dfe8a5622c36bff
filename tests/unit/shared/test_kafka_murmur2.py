"""Partitions are those that Kafka's own clients choose."""

import pytest

from monstermq_shared.kafka.murmur2 import murmur2, partition_of


@pytest.mark.parametrize(
    ("key", "value"),  # from the tests of Kafka's Java client
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_the_hash_is_kafkas(key: bytes, value: int) -> None:
    assert murmur2(key) == value % 2**32


def test_partitions_are_counted_from_the_hash_without_its_sign() -> None:
    assert partition_of(b"21", 12) == (-973932308 & 0x7FFFFFFF) % 12
    assert {partition_of(str(number).encode(), 12) for number in range(500)} == set(range(12))
