"""The topics and filters of a question."""

from collections.abc import Iterable, Sequence

from monstermq_shared.errors import InvalidTopic, QueryRefused
from monstermq_shared.queries.bounds import FILTER_LEVELS_MAX, FILTERS_MAX
from monstermq_shared.topics import check_topic_filter, is_wildcard


def checked_filters(filters: Iterable[str]) -> tuple[str, ...]:
    """Return each topic and filter once, in the order given.

    Raises:
        QueryRefused: There is none, there are too many, or one of them is not a filter.
    """
    distinct = tuple(dict.fromkeys(filters))
    if not distinct:
        raise QueryRefused("no topic is given; give at least one topic or filter, such as plant/#")
    if len(distinct) > FILTERS_MAX:
        raise QueryRefused(
            f"{len(distinct)} topics and filters are too many; give at most {FILTERS_MAX}, or one "
            "filter with a wildcard"
        )
    for topic_filter in distinct:
        try:
            check_topic_filter(topic_filter, levels_max=FILTER_LEVELS_MAX)
        except InvalidTopic as exc:
            raise QueryRefused(
                f"{exc}; + stands for one level and # for all that follow: plant/+/temperature, "
                "plant/#"
            ) from exc
    return distinct


def exact_topics(filters: Sequence[str]) -> list[str]:
    """Return those that are topics: filters without a wildcard."""
    return [topic for topic in filters if not is_wildcard(topic)]
