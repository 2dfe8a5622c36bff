"""What a fetch has brought, parsed by aiokafka, also where a header's name is no UTF-8.

To Kafka the name of a header is bytes, and there are clients that write what is no text. aiokafka
fails at such a record whenever it is read, so whoever has to read it would never get past it.
"""

import struct
from collections.abc import Iterator

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint

UNREADABLE = b"?"
"""Stands for each byte of a name that cannot be read."""

_LENGTH = struct.Struct(">8xi")  # at the beginning of a batch, behind its first offset


def read_any_header_name() -> None:
    """From now on, let every aiokafka consumer of this process read records of all header names.

    It has no other place for that than a name in its module: a batch with such a name is
    parsed again, by aiokafka's parser in Python, and all others as before. Once is enough; again
    does no harm.
    """
    fetcher.MemoryRecords = AnyRecords


class AnyRecords:
    """The batches of one fetch of a partition; stands for ``MemoryRecords``.

    Args:
        data: They.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._records = MemoryRecords(data)
        self._batches = 0

    def has_next(self) -> bool:
        """Whether there is another batch."""
        return bool(self._records.has_next())

    def size_in_bytes(self) -> int:
        """Return the bytes of all of them."""
        return len(self._data)

    def next_batch(self) -> object:
        """Return the next batch."""
        batch = self._records.next_batch()
        self._batches += 1
        # Older ones have no headers; and what Kafka itself has written is looked at in another way.
        if type(batch) is not DefaultRecordBatch or batch.is_control_batch:
            return batch
        return _AnyBatch(batch, self._data, self._batches - 1)


class _AnyBatch:
    """One batch.

    Args:
        batch: As aiokafka parses it.
        data: All of the fetch.
        number: Which of the batches there it is.
    """

    __slots__ = (
        "_batch",
        "_data",
        "_number",
        "base_offset",
        "is_control_batch",
        "is_transactional",
        "next_offset",
        "producer_id",
        "validate_crc",
    )

    def __init__(self, batch: DefaultRecordBatch, data: bytes, number: int) -> None:
        self._batch = batch
        self._data = data
        self._number = number
        self.base_offset: int = batch.base_offset
        self.is_control_batch = False
        self.is_transactional: bool = batch.is_transactional
        self.next_offset: int = batch.next_offset
        self.producer_id: int = batch.producer_id
        self.validate_crc = batch.validate_crc

    def __iter__(self) -> Iterator[object]:
        try:
            return iter([*self._batch])
        except UnicodeDecodeError:
            return _parse_again(self._data, self._number)


def _parse_again(data: bytes, number: int) -> Iterator[object]:
    """Return the records of a batch; what cannot be read of names is replaced."""
    begin = 0
    for _ in range(number):
        begin = _end(data, begin)
    batch = _DefaultRecordBatchPy(bytearray(data[begin : _end(data, begin)]))
    batch._maybe_uncompress()  # noqa: SLF001 - the tests hold it
    at = batch._pos  # noqa: SLF001 - the same
    for _ in range(batch._num_records):  # noqa: SLF001 - the same
        at = _make_readable(batch._buffer, at)  # noqa: SLF001 - the same
    return iter([*batch])


def _end(data: bytes, begin: int) -> int:
    (length,) = _LENGTH.unpack_from(data, begin)
    return begin + _LENGTH.size + int(length)


def _make_readable(buffer: bytearray, begin: int) -> int:
    """Overwrite what is no UTF-8 in the names of a record's headers; return where it ends."""
    length, at = decode_varint(buffer, begin)
    end = at + length
    for _ in ("attributes", "time", "offset"):
        _, at = decode_varint(buffer, at)
    for _ in ("key", "value"):
        at = _behind(buffer, at)
    count, at = decode_varint(buffer, at)
    for _ in range(count):
        size, at = decode_varint(buffer, at)
        name = buffer[at : at + size]
        try:
            name.decode()
        except UnicodeDecodeError:
            buffer[at : at + size] = UNREADABLE * len(name)
        at = _behind(buffer, at + size)
    return int(end)


def _behind(buffer: bytearray, begin: int) -> int:
    """Return where bytes end that begin with their length, which is -1 where there are none."""
    size, at = decode_varint(buffer, begin)
    return int(at + max(size, 0))
