"""The header ``m``: seventeen bytes, as the protocol says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monstermq_shared.bus.header import (
    KIND_SHIFT,
    QOS,
    RETAIN,
    SEQUENCE_MAX,
    STAMPED,
    Kind,
    flags_of,
    pack_header,
    unpack_header,
)
from monstermq_shared.errors import InvalidRecord
from monstermq_shared.records import SESSION_TOPIC, ControlRecord, Record, StampedRecord

RUN = bytes(range(1, 9))


def test_the_bytes_are_those_of_the_protocol() -> None:
    header = pack_header(Kind.MESSAGE, 2, True, True, RUN, 0x0102)
    assert header == b"\x0e" + RUN + b"\0\0\0\0\0\0\x01\x02"
    assert pack_header(Kind.LEASE, 0, False, False, RUN, 0)[0] == 0x40


@given(
    st.sampled_from(Kind),
    st.integers(0, 2),
    st.booleans(),
    st.booleans(),
    st.binary(min_size=8, max_size=8),
    st.integers(0, SEQUENCE_MAX),
)
def test_what_is_packed_is_unpacked(
    kind: Kind, qos: int, retain: bool, stamped: bool, run: bytes, sequence: int
) -> None:
    header = unpack_header(pack_header(kind, qos, retain, stamped, run, sequence))
    assert (header.run, header.sequence) == (run, sequence)
    assert header.flags >> KIND_SHIFT == kind
    assert header.flags & QOS == qos
    assert bool(header.flags & RETAIN) == retain
    assert bool(header.flags & STAMPED) == stamped


@pytest.mark.parametrize("value", [b"", bytes(16), bytes(18), b"\x80" + bytes(16), b"\x03" * 17])
def test_other_bytes_are_no_header(value: bytes) -> None:
    with pytest.raises(InvalidRecord, match="header 'm'"):
        unpack_header(value)


def test_a_kind_of_a_later_release_is_read_so_that_a_reader_can_stop_at_it() -> None:
    assert unpack_header(b"\x70" + bytes(16)).flags >> KIND_SHIFT == 7


def test_a_record_in_memory_has_the_flags_it_would_have_on_kafka() -> None:
    message = Record("a", b"", 2, True, "c", 0, 0)
    assert flags_of(message) == 2 | RETAIN
    assert flags_of(StampedRecord(message, 1, 2)) == 2 | RETAIN | STAMPED
    control = ControlRecord(SESSION_TOPIC, b"{}", 0, 0, Kind.FACTS)
    assert flags_of(control) == pack_header(Kind.FACTS, 0, False, False, RUN, 0)[0]
