"""Data of others in Markdown and JSON: shown as it is, acted on by nobody, and bounded."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monstermq_mcp.rendering.bounds import PAYLOAD_MAX, RESULT_SIZE_MAX, fit
from monstermq_mcp.rendering.tables import row, table
from monstermq_mcp.rendering.text import CUT, clipped, plain
from monstermq_mcp.tools.answers import Payload, payload_members
from monstermq_shared.queries.history import Message


def message(payload: bytes, *, is_text: bool = True, size: int | None = None) -> Message:
    """Return a message whose payload was read up to those bytes."""
    return Message(
        topic="a",
        time_ms=0,
        payload=payload,
        payload_size=len(payload) if size is None else size,
        is_text=is_text,
        qos=0,
        retained=False,
        client_id="c",
        message_id="i",
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("23.5", "23.5"),
        ("rooms/room_1/*", "rooms/room_1/*"),
        ("a | b", "a \\| b"),
        ("![x](http://evil)", "!\\[x](http\\://evil)"),
        ("HTTPS://evil/?q= www.evil", "HTTPS\\://evil/?q= www\\.evil"),
        ('{"a":1, "www": 2}', '{"a":1, "www": 2}'),
        ("<img src=x>", "\\<img src=x>"),
        ("`code`", "\\`code\\`"),
        ("back\\slash", "back\\\\slash"),
        ("two\nlines\r\t.", "two\\nlines\\r\\t."),
        ("zero\u200bwidth", "zero\\u{200b}width"),
        ("\u202eright to left", "\\u{202e}right to left"),
        ("tag\U000e0041", "tag\\u{e0041}"),
        (
            "hidden\ufe00\ufe0f\u034f\u3164\u2800",
            "hidden\\u{fe00}\\u{fe0f}\\u{34f}\\u{3164}\\u{2800}",
        ),
        ("selector\U000e0101", "selector\\u{e0101}"),
        ("grün 温度", "grün 温度"),
    ],
)
def test_what_markdown_acts_on_is_escaped_and_what_has_no_shape_is_written_out(
    text: str, shown: str
) -> None:
    assert plain(text) == shown


@given(st.lists(st.lists(st.text(), min_size=2, max_size=2), min_size=1, max_size=5))
def test_no_text_leaves_its_cell(cells: list[list[str]]) -> None:
    lines = table(["one", "two"], [*map(row, cells)]).split("\n")

    assert len(lines) == len(cells) + 2
    for line in lines[2:]:
        bare = line.replace("\\\\", "").replace("\\|", "")
        assert bare.count("|") == 3


def test_a_table_without_rows_is_nothing() -> None:
    assert table(["one"], []) == ""


def test_a_long_text_ends_with_a_mark() -> None:
    assert clipped("abcdef", 6) == "abcdef"
    assert clipped("abcdefg", 6) == f"abcde{CUT}"


def test_a_payload_that_was_cut_inside_a_character_loses_only_that() -> None:
    assert payload_members(message("aü".encode()[:2]))["payload"] == "a"


def test_a_cut_payload_tells_its_full_length() -> None:
    whole = Payload(**payload_members(message(b"x" * PAYLOAD_MAX)))
    cut = Payload(**payload_members(message(b"x" * PAYLOAD_MAX, size=5_000)))

    assert (whole.payload_size, whole.cell) == (None, "x" * PAYLOAD_MAX)
    assert cut.payload_size == 5_000
    assert cut.cell.endswith(f"{CUT} (of 5,000 bytes)")


def test_a_binary_payload_is_base64_and_no_longer_than_a_text() -> None:
    short = Payload(**payload_members(message(b"\xff\x00", is_text=False)))
    long = Payload(**payload_members(message(b"\xff" * PAYLOAD_MAX, is_text=False)))

    assert (short.encoding, base64.b64decode(short.payload)) == ("base64", b"\xff\x00")
    assert short.payload_size is None
    assert len(long.payload) <= PAYLOAD_MAX
    assert base64.b64decode(long.payload) == b"\xff" * (PAYLOAD_MAX // 4 * 3)
    assert long.payload_size == PAYLOAD_MAX


@given(
    texts=st.lists(
        st.text(max_size=3_000) | st.sampled_from(["\x01" * 2_000, "|" * 2_000, "ü" * 1_000]),
        max_size=120,
    )
)
def test_rows_fit_in_both_forms_and_none_is_left_out_without_need(texts: list[str]) -> None:
    shown, lines = fit(
        texts, lambda text: Payload(payload=text), lambda one: (one.payload,), RESULT_SIZE_MAX
    )

    as_json = json.dumps([one.payload for one in shown], ensure_ascii=False).encode()
    as_markdown = "\n".join(lines).encode()
    assert [one.payload for one in shown] == texts[: len(shown)]
    assert bool(shown) == bool(texts)
    assert max(len(as_json), len(as_markdown)) <= RESULT_SIZE_MAX
    if len(shown) < len(texts):
        # What is left is the longest text at most, in JSON with the name of its member.
        assert max(len(as_json), len(as_markdown)) > RESULT_SIZE_MAX - 20_000 - 14 * len(shown)
