"""Topic filters as regular expressions of PostgreSQL, and where their matches are."""

import re

from hypothesis import given
from hypothesis import strategies as st

from monstermq_shared.errors import InvalidTopic
from monstermq_shared.stores.postgres.queries.filters import Filters, escaped
from monstermq_shared.topics import check_topic_filter, matches

LEVELS = st.sampled_from(["a", "b", "", "+", "$x", "a.b", "[c]", "(", "\\w", "é", "a b", "*"])
TOPICS = st.lists(LEVELS.filter(lambda level: level != "+"), min_size=1, max_size=4).map("/".join)
FILTERS = st.builds(
    lambda levels, tail: "/".join([*levels, *tail]),
    st.lists(LEVELS, min_size=0, max_size=3),
    st.sampled_from([[], ["#"]]),
).filter(bool)


def is_filter(text: str) -> bool:
    try:
        check_topic_filter(text, levels_max=100)
    except InvalidTopic:
        return False
    return True


@given(st.lists(FILTERS.filter(is_filter), min_size=1, max_size=4), TOPICS.filter(bool))
def test_an_expression_matches_what_its_filters_do(filters: list[str], topic: str) -> None:
    """The parts of PostgreSQL's expressions that are used mean the same to Python, but for $."""
    found = Filters(filters)
    expression = re.compile(found.expression.removesuffix("$") + r"\Z", re.DOTALL)
    expected = any(matches(one, topic) for one in filters)
    assert (topic in found.exact or bool(expression.match(topic))) == expected


@given(st.lists(FILTERS.filter(is_filter), min_size=1, max_size=4), TOPICS.filter(bool), TOPICS)
def test_every_match_after_a_topic_is_named_or_in_one_range(
    filters: list[str], topic: str, after: str
) -> None:
    found = Filters(filters)
    ranges = found.ranges(after)
    places = [low <= topic and (high is None or topic < high) for low, high in ranges]
    assert sum(places) <= 1
    if topic > after and any(matches(one, topic) for one in filters):
        assert topic in found.exact or any(places)


def test_filters_without_a_wildcard_have_no_range() -> None:
    found = Filters(["b", "a"])
    assert (found.exact, found.ranges()) == (["a", "b"], [])
    assert not re.match(found.expression, "a")


def test_letters_of_any_script_are_not_escaped() -> None:
    """PostgreSQL knows \\é as little as \\q, and refuses it."""
    assert escaped("é/q_1.$") == "é/q_1\\.\\$"
