"""Questions to the data: what is refused, patterns, times, paths, cursors, pages."""

import fnmatch
import re
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monstermq_shared.errors import QueryRefused
from monstermq_shared.queries.aggregates import (
    AggregateFunction,
    AggregateQuery,
    bucket_count,
    coarsened,
)
from monstermq_shared.queries.bounds import FILTERS_MAX, ROWS_MAX, TEXT_SIZE_MAX
from monstermq_shared.queries.cursors import Cursors
from monstermq_shared.queries.fields import FieldPath
from monstermq_shared.queries.history import HistoryQuery
from monstermq_shared.queries.pages import page_of
from monstermq_shared.queries.patterns import TopicPattern, matcher
from monstermq_shared.queries.sql import SqlQuery
from monstermq_shared.queries.times import parse_time
from monstermq_shared.queries.topics import ChildrenQuery, DescriptionSearch, ValuesQuery
from monstermq_shared.records import format_timestamp

DAY_MS = 86_400_000


def aggregate(**changed: object) -> AggregateQuery:
    values: dict[str, object] = {
        "filters": ("a",),
        "functions": (AggregateFunction.AVG,),
        "start_ms": 0,
        "end_ms": DAY_MS,
        "bucket_ms": 3_600_000,
    }
    return AggregateQuery(**{**values, **changed})  # type: ignore[arg-type]


# -- times ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2026-01-15T10:30:00Z", "2026-01-15T10:30:00.000Z"),
        ("2026-01-15T10:30:00.123Z", "2026-01-15T10:30:00.123Z"),
        ("2026-01-15T10:30:00.1Z", "2026-01-15T10:30:00.100Z"),
        ("2026-01-15T10:30:00.123999999Z", "2026-01-15T10:30:00.123Z"),
        ("2026-01-15T11:30:00.250+01:00", "2026-01-15T10:30:00.250Z"),
        ("2026-01-15T11:30+0100", "2026-01-15T10:30:00.000Z"),
        ("2026-01-15 10:30", "2026-01-15T10:30:00.000Z"),
        ("2026-01-15", "2026-01-15T00:00:00.000Z"),
        ("  2026-01-15t10:30:00z ", "2026-01-15T10:30:00.000Z"),
        ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
    ],
)
def test_a_time_is_read_to_the_millisecond(text: str, shown: str) -> None:
    assert format_timestamp(parse_time(text)) == shown


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "now", "yesterday", "1736937000", "2026", "2026-01", "20260115", "2026-W03-4"),
        *("2026-13-01", "2026-02-30", "2026-01-15T24:01", "2026-01-15T10:60", "2026-1-5"),
        *("2026-01-15T10", "2026-01-15T10:30:61Z", "2026-01-15T10:30:00.Z", "T10:30"),
        *("2026-01-15T10:30:00+25:00", "2026-01-15T10:30:00.1234567890Z", "1969-12-31"),
        *(
            "9999-12-31T23:59:59-01:00",
            "2026-01-15T10:30:00Z; DROP TABLE x",
            "\uff12\uff10\uff12\uff16-01-15",
        ),
        *("0000-01-01", "2026-01-15\0", "x" * 100_000),
    ],
)
def test_what_is_no_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(QueryRefused, match=r"ISO 8601|1970 to 9999"):
        parse_time(text)


@given(st.integers(0, 253_402_300_799_999))
def test_what_we_write_is_what_we_read(moment: int) -> None:
    assert parse_time(format_timestamp(moment)) == moment


# -- patterns ------------------------------------------------------------------------------------

PATTERNS = st.text(st.sampled_from("aAb/_%[]^é"), max_size=5)
GLOBS = st.text(st.sampled_from("aAb/_%[*?é"), min_size=1, max_size=6)


@pytest.mark.parametrize(
    ("pattern", "topic"),
    [
        (TopicPattern.glob("*temp*"), "house/Kitchen/temperature"),
        (TopicPattern.glob("house/+?/x"), "house/ab/x"),
        (TopicPattern.glob("a_b%"), "a_b%"),
        (TopicPattern.like("house/%/temp_rature"), "house/1/2/temperature"),
        (TopicPattern.like(r"100\%"), "100%"),
        (TopicPattern.like("a\\"), "a\\"),
        (TopicPattern.containing("*b"), "a*bc"),
        (TopicPattern.glob("*x").below("a_/b"), "a_/b/c/x"),
    ],
)
def test_a_pattern_matches(pattern: TopicPattern, topic: str) -> None:
    assert matcher(pattern, ignore_case=True)(topic)
    assert matcher(pattern, ignore_case=False)(topic.lower())


@pytest.mark.parametrize(
    ("pattern", "topic"),
    [
        (TopicPattern.glob("temp"), "house/temp"),
        (TopicPattern.glob("a_b"), "axb"),
        (TopicPattern.like("a*"), "ab"),
        (TopicPattern.like(r"a\_b"), "axb"),
        (TopicPattern.glob("*x").below("a"), "ab/x"),
        (TopicPattern.glob("ab*ba"), "aba"),
    ],
)
def test_a_pattern_does_not_match(pattern: TopicPattern, topic: str) -> None:
    assert not matcher(pattern, ignore_case=True)(topic)


@given(GLOBS, PATTERNS, st.booleans())
def test_sqlite_agrees_with_a_pattern(text: str, topic: str, ignore_case: bool) -> None:
    pattern = TopicPattern.glob(text)
    connection = sqlite3.connect(":memory:")
    if ignore_case:
        query, written = r"SELECT ? LIKE ? ESCAPE '\'", pattern.to_like()
    else:
        query, written = "SELECT ? GLOB ?", pattern.to_glob()
    ((found,),) = connection.execute(query, (topic, written))
    connection.close()
    assert bool(found) == bool(matcher(pattern, ignore_case=ignore_case)(topic))


@given(st.text(st.sampled_from("ab*?"), min_size=1, max_size=8), st.text("ab", max_size=8))
def test_a_pattern_means_what_a_shell_means(text: str, topic: str) -> None:
    expected = re.fullmatch(fnmatch.translate(text), topic) is not None
    assert bool(matcher(TopicPattern.glob(text), ignore_case=False)(topic)) == expected


def test_wildcards_beside_each_other_are_one() -> None:
    assert TopicPattern.glob("a" + "*" * 1000 + "b") == TopicPattern.glob("a*b")


@pytest.mark.parametrize(
    "text", ["", "a\0b", "\ud800", "x" * (TEXT_SIZE_MAX + 1), "*a" * 17, "*?" * 400]
)
def test_a_pattern_out_of_bounds_is_refused(text: str) -> None:
    with pytest.raises(QueryRefused):
        TopicPattern.glob(text)


# -- paths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("value", ("value",)),
        ("motor.speed", ("motor", "speed")),
        ("$.motor.speed", ("motor", "speed")),
        ("axes[0].position", ("axes", 0, "position")),
        ("[2]", (2,)),
        ('"a.b".c', ("a.b", "c")),
        ('$["a[0]"].c', ("a[0]", "c")),
        ("Größe", ("Größe",)),
        ("a b", ("a b",)),
    ],
)
def test_a_path_is_read(text: str, steps: tuple[str | int, ...]) -> None:
    path = FieldPath.parse(text)
    assert path == FieldPath(steps)
    assert FieldPath.parse(str(path)) == path


@pytest.mark.parametrize("text", ["", "$", " "])
def test_no_path_is_the_whole_document(text: str) -> None:
    assert FieldPath.parse(text) is None


@pytest.mark.parametrize(
    "text",
    [
        *(".", "a.", ".a", "a..b", "a[", "a[-1]", "a[x]", 'a"b', '""', "a[0", "$$", "a[0]b"),
        *("a\\b", 'a["', "a\0", "'); DROP TABLE x; --\"", "a[9999999]", "x" * 1000, "a.b" * 20),
    ],
)
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(QueryRefused):
        FieldPath.parse(text)


# -- questions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [-1, 0, ROWS_MAX + 1, 10**9])
def test_a_limit_out_of_bounds_is_refused(limit: int) -> None:
    with pytest.raises(QueryRefused, match="from 1 to 1000"):
        HistoryQuery(filters=("a",), limit=limit)
    with pytest.raises(QueryRefused, match="from 1 to 1000"):
        SqlQuery(text="SELECT 1", limit=limit)


@pytest.mark.parametrize(
    "filters",
    [(), ("",), ("a/#/b",), ("a+",), ("a\0",), ("\ud800",), ("x" * 70_000,), ("+/" * 1000 + "#",)],
)
def test_what_is_no_filter_is_refused(filters: tuple[str, ...]) -> None:
    with pytest.raises(QueryRefused):
        ValuesQuery(filters=filters)


def test_too_many_filters_are_refused() -> None:
    with pytest.raises(QueryRefused, match="too many"):
        ValuesQuery(filters=tuple(f"t/{number}" for number in range(FILTERS_MAX + 1)))


def test_a_filter_that_is_repeated_counts_once() -> None:
    assert ValuesQuery(filters=("b", "a", "b")).filters == ("b", "a")


@pytest.mark.parametrize(("start_ms", "end_ms"), [(2, 1), (-1, None), (None, 10**18)])
def test_a_stretch_of_time_that_is_none_is_refused(start_ms: int, end_ms: int) -> None:
    with pytest.raises(QueryRefused, match="time"):
        HistoryQuery(filters=("a",), start_ms=start_ms, end_ms=end_ms)


@pytest.mark.parametrize(
    "changed",
    [{"functions": ()}, {"end_ms": 0}, {"bucket_ms": 0}, {"bucket_ms": -5}, {"bucket_ms": 1}],
)
def test_an_aggregate_out_of_bounds_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(QueryRefused):
        aggregate(**changed)


@pytest.mark.parametrize("text", ["", " \n", "SELECT '\0'", "x" * 20_000])
def test_sql_out_of_bounds_is_refused(text: str) -> None:
    with pytest.raises(QueryRefused):
        SqlQuery(text=text)


@pytest.mark.parametrize(
    "text", ["", " ", "x" * 2000, "a\0", "\ud800", " ".join("abcdefghijklmnopq")]
)
def test_a_description_out_of_bounds_is_refused(text: str) -> None:
    with pytest.raises(QueryRefused):
        DescriptionSearch(text=text)


@pytest.mark.parametrize("parent", ["a/+", "#", "a\0"])
def test_a_parent_that_is_no_topic_is_refused(parent: str) -> None:
    with pytest.raises(QueryRefused):
        ChildrenQuery(parent=parent)


# -- buckets -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("span_ms", "bucket_ms", "expected_ms"),
    [
        (DAY_MS, 3_600_000, 3_600_000),
        (DAY_MS, 60_000, 300_000),
        (DAY_MS, 1, 300_000),
        (365 * DAY_MS, 3_600_000, DAY_MS),
        (36_500 * DAY_MS, 1000, 77 * DAY_MS),
    ],
)
def test_buckets_are_coarsened_to_a_round_length(
    span_ms: int, bucket_ms: int, expected_ms: int
) -> None:
    coarse_ms = coarsened(0, span_ms, bucket_ms, buckets_max=500)
    assert coarse_ms == expected_ms
    assert bucket_count(0, span_ms, coarse_ms) <= 500


@given(st.integers(1, 10**14), st.integers(1, 10**10), st.integers(1, 1000))
def test_coarse_buckets_are_never_too_many(span_ms: int, bucket_ms: int, most: int) -> None:
    coarse_ms = coarsened(5, 5 + span_ms, bucket_ms, buckets_max=most)
    assert bucket_count(5, 5 + span_ms, coarse_ms) <= most
    assert coarse_ms >= bucket_ms


def test_a_started_bucket_counts() -> None:
    assert bucket_count(0, DAY_MS, 3_600_000) == 24
    assert bucket_count(0, DAY_MS + 1, 3_600_000) == 25


# -- cursors and pages ---------------------------------------------------------------------------


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(codec="utf-8"))))
def test_a_cursor_brings_its_place_back(place: list[str | int]) -> None:
    cursors = Cursors()
    assert cursors.open("question", cursors.seal("question", place)) == place


def test_processes_with_one_key_read_each_others_cursors() -> None:
    assert Cursors(b"key").open("q", Cursors(b"key").seal("q", [1])) == [1]


@pytest.mark.parametrize(
    "cursor",
    [
        *(
            "",
            "x",
            "=",
            "====",
            "[1]",
            "é",
            "a" * 1_000_000,
            "AAAA" * 100,
            "\0",
            "../../etc/passwd",
        ),
        Cursors(b"other").seal("q", [1]),
        Cursors(b"key").seal("another question", [1]),
        Cursors(b"key").seal("q", [1])[:-2],
        "A" + Cursors(b"key").seal("q", [1])[1:] + "A",
    ],
)
def test_a_cursor_that_is_not_of_this_question_is_refused(cursor: str) -> None:
    with pytest.raises(QueryRefused, match="cursor"):
        Cursors(b"key").open("q", cursor)


def test_a_cursor_is_of_its_question_whatever_its_page_size() -> None:
    small = HistoryQuery(filters=("a", "b"), limit=1, payload_limit=10)
    large = HistoryQuery(filters=("a", "b"), limit=9)
    assert small.question == large.question
    assert small.question != HistoryQuery(filters=("a", "b"), newest_first=False).question
    assert small.question != HistoryQuery(filters=("a",)).question


def test_a_page_goes_on_after_any_of_its_rows() -> None:
    cursors = Cursors()
    page = page_of("abc", more=False, cursors=cursors, question="q", place=lambda row: [row])
    assert [cursors.open("q", page.cursor_after(shown) or "") for shown in (1, 2)] == [["a"], ["b"]]
    assert page.cursor_after(3) is None


def test_a_page_that_others_follow_goes_on_after_its_last_row() -> None:
    cursors = Cursors()
    page = page_of("abc", more=True, cursors=cursors, question="q", place=lambda row: [row])
    assert cursors.open("q", page.cursor_after(3) or "") == ["c"]


def test_an_empty_page_goes_nowhere() -> None:
    page = page_of("", more=False, cursors=Cursors(), question="q", place=lambda row: [row])
    assert page.cursor_after(0) is None
