"""Topic names and filters: what is refused, and what matches what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conformance.requirements import requirement

from monstermq_shared.errors import InvalidTopic
from monstermq_shared.topics import (
    TOPIC_SIZE_MAX,
    check_topic_filter,
    check_topic_name,
    decode_topic_name,
    escape_level,
    is_system_topic,
    is_wildcard,
    matches,
)

LEVELS_MAX = 100
LEVELS = st.sampled_from(["", "a", "b", "a!", "$x", "é"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)
FILTERS = st.builds(
    lambda levels, end: "/".join([*levels, *end]),
    st.lists(LEVELS | st.just("+"), max_size=4),
    st.sampled_from([["#"], ["+"], ["a"], [""]]),
).filter(bool)


def matches_by_definition(wanted: list[str], levels: list[str]) -> bool:
    """Read section 4.7 of the standard aloud, one level at a time."""
    if wanted == ["#"]:
        return True
    if not wanted or not levels:
        return wanted == levels
    return wanted[0] in {"+", levels[0]} and matches_by_definition(wanted[1:], levels[1:])


@requirement("MQTT-4.7.2-1", "MQTT-4.7.3-4")
@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        # What the original gets wrong in one place or another.
        ("sport/#", "sport", True),
        ("sport/+", "sport", False),
        ("sport/", "sport", False),
        ("+/#", "a", True),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("#", "$foo/x", False),
        # The examples of the standard.
        ("sport/tennis/player1/#", "sport/tennis/player1", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
        ("sport/tennis/+", "sport/tennis/player1", True),
        ("sport/tennis/+", "sport/tennis/player1/ranking", False),
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        ("$SYS/#", "$SYS/monitor/Clients", True),
        ("$SYS/monitor/+", "$SYS/monitor/Clients", True),
        ("+/monitor/Clients", "$SYS/monitor/Clients", False),
        # Case, spaces and every slash count.
        ("ACCOUNTS", "Accounts", False),
        ("a b", "a b", True),
        ("/a", "a", False),
        ("a//b", "a/b", False),
        ("a/+/b", "a//b", True),
        ("a/#", "ab", False),
        ("a/+", "a/$x", True),
        ("a/#", "a/$x", True),
        ("#", "/", True),
        ("+", "$", False),
        ("$", "$", True),
        ("$SYS", "$SYS/x", False),
        ("a.b", "axb", False),
    ],
)
def test_a_filter_matches_exactly_what_the_standard_says(
    topic_filter: str, topic: str, expected: bool
) -> None:
    assert matches(topic_filter, topic) is expected


@given(FILTERS, TOPICS)
def test_matching_agrees_with_the_definition(topic_filter: str, topic: str) -> None:
    hidden = topic.startswith("$") and topic_filter.startswith(("+", "#"))
    wanted = topic_filter.split("/")
    if wanted[-1] == "#" and len(wanted) > 1:  # the parent level is included
        parent = matches_by_definition(wanted[:-1], topic.split("/"))
    else:
        parent = False
    expected = parent or matches_by_definition(wanted, topic.split("/"))
    assert matches(topic_filter, topic) is (expected and not hidden)


def test_the_deepest_topic_there_can_be_is_matched() -> None:
    topic = "/" * TOPIC_SIZE_MAX
    assert matches("/" * (TOPIC_SIZE_MAX - 1) + "#", topic)
    assert matches("+/" * 30_000 + "#", topic)
    assert not matches("+/" * 30_000 + "+", topic)


@requirement("MQTT-4.7.1-1", "MQTT-4.7.3-1", "MQTT-4.7.3-2", "MQTT-4.7.3-3")
@pytest.mark.parametrize(
    ("topic", "clause"),
    [
        ("", "MQTT-4.7.3-1"),
        ("a/+/b", "MQTT-4.7.1-1"),
        ("a/#", "MQTT-4.7.1-1"),
        ("a+b", "MQTT-4.7.1-1"),
        ("a\0b", "MQTT-1.5.3-2"),
        ("a" * (TOPIC_SIZE_MAX + 1), "MQTT-4.7.3-3"),
        ("é" * (TOPIC_SIZE_MAX // 2 + 1), "MQTT-4.7.3-3"),
        ("a\ud800", "MQTT-1.5.3-1"),
        ("a/" * LEVELS_MAX, None),
    ],
)
def test_what_is_no_topic_name_is_refused_with_its_clause(topic: str, clause: str | None) -> None:
    with pytest.raises(InvalidTopic) as caught:
        check_topic_name(topic, levels_max=LEVELS_MAX)
    assert caught.value.clause == clause


@pytest.mark.parametrize(
    "topic", ["a", "/", "//", " ", "$SYS/x", "a" * TOPIC_SIZE_MAX, "é" * (TOPIC_SIZE_MAX // 2)]
)
def test_every_other_text_is_a_topic_name_and_a_filter(topic: str) -> None:
    check_topic_name(topic, levels_max=LEVELS_MAX)
    check_topic_filter(topic, levels_max=LEVELS_MAX)


@requirement("MQTT-4.7.1-2", "MQTT-4.7.1-3")
@pytest.mark.parametrize(
    ("topic_filter", "clause"),
    [
        ("", "MQTT-4.7.3-1"),
        ("a/#/b", "MQTT-4.7.1-2"),
        ("#/a", "MQTT-4.7.1-2"),
        ("##", "MQTT-4.7.1-2"),
        ("a/b#", "MQTT-4.7.1-2"),
        ("sport/tennis#", "MQTT-4.7.1-2"),
        ("+#", "MQTT-4.7.1-2"),
        ("sport+", "MQTT-4.7.1-3"),
        ("++", "MQTT-4.7.1-3"),
        ("a/+b/c", "MQTT-4.7.1-3"),
        ("a/+b/#", "MQTT-4.7.1-3"),
        ("+/\0", "MQTT-1.5.3-2"),
        ("+" * (TOPIC_SIZE_MAX + 1), "MQTT-4.7.3-3"),
        ("+/\udfff", "MQTT-1.5.3-1"),
        ("+/" * LEVELS_MAX, None),
    ],
)
def test_what_is_no_filter_is_refused_with_its_clause(
    topic_filter: str, clause: str | None
) -> None:
    with pytest.raises(InvalidTopic) as caught:
        check_topic_filter(topic_filter, levels_max=LEVELS_MAX)
    assert caught.value.clause == clause


@pytest.mark.parametrize("topic_filter", ["#", "+", "a/#", "+/+/#", "/+", "+/", "a/+/b", "//#"])
def test_wildcards_that_fill_a_level_are_a_filter(topic_filter: str) -> None:
    check_topic_filter(topic_filter, levels_max=LEVELS_MAX)
    assert is_wildcard(topic_filter)


@pytest.mark.parametrize("topic", ["$SYS", "$SYS/", "$SYS/broker/uptime", "$SYS/#", "$SYS/+/x"])
def test_what_begins_with_the_level_sys_is_the_brokers_own(topic: str) -> None:
    assert is_system_topic(topic)


@pytest.mark.parametrize("topic", ["$SYSTEM/x", "$SYSTEM", "$sys/x", "/$SYS", "a/$SYS/x", "#"])
def test_other_topics_are_not_the_brokers_own(topic: str) -> None:
    assert not is_system_topic(topic)


def test_the_limit_of_levels_is_inclusive() -> None:
    check_topic_name("a/a/a", levels_max=3)
    with pytest.raises(InvalidTopic, match=r"'a/a/a/a' has 4 levels, the limit is 3"):
        check_topic_name("a/a/a/a", levels_max=3)


def test_an_error_quotes_no_more_than_a_line_of_the_topic() -> None:
    with pytest.raises(InvalidTopic) as caught:
        check_topic_name("\n" * 60_000 + "#", levels_max=LEVELS_MAX)
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


@requirement("MQTT-1.5.3-3")
@pytest.mark.parametrize("topic", ["a/b", "$SYS/x", "grün/溫度", "\ufeffa", "\U0010ffff"])
def test_utf8_is_decoded_with_its_byte_order_mark(topic: str) -> None:
    assert decode_topic_name(topic.encode(), levels_max=LEVELS_MAX) == topic


@requirement("MQTT-1.5.3-1", "MQTT-1.5.3-2")
@pytest.mark.parametrize(
    ("raw", "clause"),
    [
        (b"a\xed\xa0\x80", "MQTT-1.5.3-1"),
        (b"\xed\xa0\xbd\xed\xb8\x80", "MQTT-1.5.3-1"),
        (b"a\xc0\x80", "MQTT-1.5.3-1"),
        (b"\xc1\xbf", "MQTT-1.5.3-1"),
        (b"\xe0\x80\xaf", "MQTT-1.5.3-1"),
        (b"\xf4\x90\x80\x80", "MQTT-1.5.3-1"),
        (b"\xe2\x82", "MQTT-1.5.3-1"),
        (b"\xff", "MQTT-1.5.3-1"),
        (b"a\x00", "MQTT-1.5.3-2"),
        (b"", "MQTT-4.7.3-1"),
        (b"a/+", "MQTT-4.7.1-1"),
        (b"a" * (TOPIC_SIZE_MAX + 1), "MQTT-4.7.3-3"),
    ],
)
def test_bytes_that_are_no_topic_name_are_refused_with_their_clause(
    raw: bytes, clause: str
) -> None:
    with pytest.raises(InvalidTopic) as caught:
        decode_topic_name(raw, levels_max=LEVELS_MAX)
    assert caught.value.clause == clause


@given(st.binary(max_size=40))
def test_any_bytes_are_a_topic_name_or_refused(raw: bytes) -> None:
    try:
        topic = decode_topic_name(raw, levels_max=3)
    except InvalidTopic:
        return
    assert topic.encode() == raw
    assert matches("#", topic) is not topic.startswith("$")


@given(st.text(max_size=20))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    try:
        check_topic_filter(text, levels_max=3)
    except InvalidTopic:
        return
    assert matches(text, text.replace("+", "x").replace("#", "y/z"))


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("sensor-1", "sensor-1"),
        ("a/b+c#d%e", "a%2Fb%2Bc%23d%25e"),
        ("\0\n\x7f", "%00%0A%7F"),
        ("\x85", "%C2%85"),
        ("grün $", "grün $"),
        ("", ""),
    ],
)
def test_what_a_level_must_not_contain_is_escaped(text: str, escaped: str) -> None:
    assert escape_level(text) == escaped


@given(st.text(alphabet="%/+#a20F", max_size=6), st.text(alphabet="%/+#a20F", max_size=6))
def test_an_escaped_text_is_one_level_and_distinct(one: str, other: str) -> None:
    assert not set("/+#") & set(escape_level(one))
    assert (escape_level(one) == escape_level(other)) is (one == other)
