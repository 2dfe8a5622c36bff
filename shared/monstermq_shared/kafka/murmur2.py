"""The hash that Kafka's own clients choose a partition by, so that anybody finds a key's records.

Austin Appleby's MurmurHash2 with 32 bits, the seed and the sign as Kafka has them.
"""

import struct
from typing import Final

_SEED: Final = 0x9747B28C
_M: Final = 0x5BD1E995
_MASK: Final = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """Return the hash, from 0 to 2**32 - 1."""
    length = len(data)
    value = _SEED ^ length
    for (word,) in struct.iter_unpack("<I", data[: length & ~3]):
        k = word * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        value = value * _M & _MASK ^ k
    rest = data[length & ~3 :]
    if rest:
        value = (value ^ int.from_bytes(rest, "little")) * _M & _MASK
    value = (value ^ value >> 13) * _M & _MASK
    return value ^ value >> 15


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition in which Kafka's default partitioner puts a key."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
