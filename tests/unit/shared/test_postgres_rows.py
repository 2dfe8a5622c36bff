"""How rows are split and encoded on their way to PostgreSQL."""

import asyncio
import struct

import pytest

from monstermq_shared.records import Record
from monstermq_shared.stores.postgres import copying, rows
from monstermq_shared.stores.postgres.messages import _pattern
from monstermq_shared.stores.postgres.rows import Place


def record(payload: bytes = b"x", record_id: str | None = None) -> Record:
    return Record("plant/\u00e4", payload, 2, True, "press", 946_684_800_001, 2**41, record_id)


def fields(encoded: copying.EncodedRow) -> list[bytes]:
    """Read a row as the server does."""
    row = b"".join(encoded)
    (count,) = struct.unpack_from("!h", row)
    found, at = [], 2
    for _ in range(count):
        (length,) = struct.unpack_from("!i", row, at)
        found.append(row[at + 4 : at + 4 + length])
        at += 4 + length
    assert at == len(row)
    return found


def test_a_row_has_its_columns_in_order() -> None:
    row = fields(copying.encode_record(record(b"\0payload", "id"), Place(7, 3)))
    assert dict(zip([*copying.RECORD_COLUMNS, "payload"], row, strict=True)) == {
        "time": (1000).to_bytes(8),
        "generation": (7).to_bytes(2),
        "qos": (2).to_bytes(2),
        "partition": (3).to_bytes(4),
        "position": (2**41).to_bytes(8),
        "retained": b"\1",
        "topic": "plant/\u00e4".encode(),
        "client_id": b"press",
        "message_uuid": b"id",
        "payload": b"\0payload",
    }


def test_the_digest_of_the_topic_may_stand_among_them() -> None:
    one = record(b"x")
    row = fields(copying.encode_record(one, Place(7, 3), topic_digest=b"d" * 16))
    found = dict(zip([*copying.TOPIC_COLUMNS, "payload"], row, strict=True))
    assert found["topic_digest"] == b"d" * 16
    assert (found["message_uuid"], found["payload"]) == (one.id.encode(), b"x")


def test_a_link_has_its_columns_in_order() -> None:
    row = fields(copying.encode_link(bytes(range(16)), Place(7, 3), (2**41, 1, 99)))
    assert dict(zip(copying.LINK_COLUMNS, row, strict=True)) == {
        "client_digest": bytes(range(16)),
        "generation": (7).to_bytes(2),
        "partition": (3).to_bytes(4),
        "position": (2**41).to_bytes(8),
        "qos": (1).to_bytes(2),
        "size": (99).to_bytes(8),
    }


@pytest.mark.parametrize(
    "written",
    [
        [],
        [(b"x", b"")],
        [(b"x" * 50, b"y" * 50)] * 10_000,
        [(b"x", b"y" * 5_000_000)],
        [(b"x" * 70_000, b"y"), (b"", b"z" * 64)],
        [(b"x", b"y" * 70_000), (b"z", b"z" * 64), (b"x" * 99, b"y" * 70_000)],
    ],
    ids=["none", "one", "small", "large", "long texts", "mixed"],
)
async def test_pieces_are_small_and_between_them_others_have_their_turn(
    written: list[copying.EncodedRow],
) -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    pieces = [piece async for piece in copying.pieces(written)]
    counting.cancel()
    expected = b"".join(map(b"".join, written))
    assert b"".join(pieces) == b"PGCOPY\n\xff\r\n\0" + bytes(8) + expected + b"\xff\xff"
    assert max(map(len, pieces)) < 2 * copying.PIECE_SIZE
    assert turns >= len(pieces) - 2


@pytest.mark.parametrize(
    ("sizes", "parts"),
    [
        ([], []),
        ([1] * 1_200, [500, 500, 200]),
        ([300_000] * 3, [1, 1, 1]),
        ([100_000] * 7, [3, 3, 1]),
        ([10, 5_000_000, 10], [2, 1]),
    ],
)
def test_a_statement_carries_bounded_rows_and_bytes(sizes: list[int], parts: list[int]) -> None:
    records = [record(bytes(size)) for size in sizes]
    found = [*rows.record_parts(records)]
    assert [len(part) for part in found] == parts
    assert [at for part in found for at in part] == records


def test_digests_are_of_the_text() -> None:
    texts = ["", "a", "A", "a ", "\u00e4", "a" * 65_535]
    digests = {rows.digest(text) for text in texts}
    assert len(digests) == len(texts)
    assert {len(digest) for digest in digests} == {16}


@pytest.mark.parametrize(
    ("topic_filter", "pattern"),
    [
        ("a/+/c", "a/%/c"),
        ("+", "%"),
        ("+/#", "%%"),
        ("a/+/#", "a/%%"),
        ("a%/b_/+\\", r"a\%/b\_/+\\"),
        ("a_/+", r"a\_/%"),
    ],
)
def test_every_match_of_a_filter_is_like_its_pattern(topic_filter: str, pattern: str) -> None:
    assert _pattern(topic_filter) == pattern
