"""Topics and their current values: what can be asked, and what comes back."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import orjson

from monstermq_shared.errors import QueryRefused
from monstermq_shared.queries.bounds import (
    PAYLOAD_START_DEFAULT,
    ROWS_DEFAULT,
    TEXT_SHOWN_MAX,
    TEXT_SIZE_MAX,
    check_payload_start,
    check_rows,
)
from monstermq_shared.queries.filters import checked_filters
from monstermq_shared.queries.history import Message
from monstermq_shared.queries.pages import Page
from monstermq_shared.queries.patterns import TopicPattern
from monstermq_shared.topics import is_wildcard, matches

CONFIG_LEVEL = "<config>"
"""The last level of a retained topic that describes the topic above it, in JSON."""

DESCRIPTION_KEYS = ("Description", "description")
"""The members of such a document that may be the description; the first that is a text is."""

WORDS_MAX = 16
"""Words of a description that is looked for."""


class ValueSource(StrEnum):
    """Where a value comes from."""

    RETAINED = "retained"
    LAST_VALUE = "last value"


@dataclass(frozen=True, slots=True, kw_only=True)
class ValuesQuery:
    """A question for current values; one that is wrong is refused when it is made.

    Attributes:
        filters: Topics and filters.
        limit: Topics of the page at most.
        cursor: Where the page begins; see ``HistoryQuery``.
        payload_limit: Bytes of each payload at most.
    """

    filters: tuple[str, ...]
    limit: int = ROWS_DEFAULT
    cursor: str | None = None
    payload_limit: int = PAYLOAD_START_DEFAULT

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            QueryRefused: Something is out of its bounds.
        """
        object.__setattr__(self, "filters", checked_filters(self.filters))
        check_rows(self.limit)
        check_payload_start(self.payload_limit)

    @property
    def question(self) -> str:
        """What is asked, without how much of it at a time: what a cursor belongs to."""
        return repr(("values", self.filters))


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicValue:
    """The value of a topic.

    Attributes:
        message: The message that brought it.
        source: Where it was found.
    """

    message: Message
    source: ValueSource


ValuesPage = Page[TopicValue]
"""Values in order of topic, by code points; each topic once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NameSearch:
    """A question for topics by their names; one that is wrong is refused when it is made.

    Attributes:
        pattern: What the whole name must look like. A namespace is part of it: ``pattern.below``.
        ignore_case: Whether upper and lower case are the same, at least those of ASCII.
        limit: Topics of the page at most.
        cursor: Where the page begins; see ``HistoryQuery``.
    """

    pattern: TopicPattern
    ignore_case: bool = True
    limit: int = ROWS_DEFAULT
    cursor: str | None = None

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            QueryRefused: Something is out of its bounds.
        """
        check_rows(self.limit)

    @property
    def question(self) -> str:
        """What is asked, without how much of it at a time: what a cursor belongs to."""
        return repr(("name", self.pattern, self.ignore_case))


@dataclass(frozen=True, slots=True, kw_only=True)
class DescriptionSearch:
    """A question for topics by their descriptions; one that is wrong is refused when it is made.

    Attributes:
        text: Words; each of them must occur somewhere in the description, also inside a word.
        namespace: Topics must begin with it and a slash; None: any.
        ignore_case: As for ``NameSearch``.
        limit: Topics of the page at most.
        cursor: Where the page begins; see ``HistoryQuery``.
    """

    text: str
    namespace: str | None = None
    ignore_case: bool = True
    limit: int = ROWS_DEFAULT
    cursor: str | None = None

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            QueryRefused: Something is out of its bounds.
        """
        check_rows(self.limit)
        for name, text in (("description", self.text), ("namespace", self.namespace or "")):
            if len(text) > TEXT_SIZE_MAX:
                raise QueryRefused(f"the {name} is longer than {TEXT_SIZE_MAX} characters")
            if "\0" in text or not _is_unicode(text):
                raise QueryRefused(f"the {name} contains NUL or half a surrogate pair")
        if not 1 <= len(self.words) <= WORDS_MAX:
            raise QueryRefused(f"give 1 to {WORDS_MAX} words of the description")

    @property
    def words(self) -> list[str]:
        """What must occur."""
        return list(dict.fromkeys(self.text.split()))

    @property
    def question(self) -> str:
        """What is asked, without how much of it at a time: what a cursor belongs to."""
        return repr(("description", self.text, self.namespace, self.ignore_case))


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundTopic:
    """A topic that was looked for.

    Attributes:
        topic: The topic; of a search by description, the described one, which need not have a
            value.
        description: What describes it, if anything does: a member of its config.
        config: The beginning of the retained document at ``<topic>/<config>``, as text; None if
            there is none.
    """

    topic: str
    description: str | None
    config: str | None

    @classmethod
    def cut(cls, topic: str, *, description: str | None, config: str | None) -> "FoundTopic":
        """Return one with the beginnings of its texts."""
        return cls(
            topic=topic,
            description=None if description is None else description[:TEXT_SHOWN_MAX],
            config=None if config is None else config[:TEXT_SHOWN_MAX],
        )


FoundPage = Page[FoundTopic]
"""Found topics, each once, in an order that stays the same from page to page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildrenQuery:
    """A question for one level of the topic tree; one that is wrong is refused when it is made.

    Attributes:
        parent: The topic whose children are wanted; None: the first level.
        limit: Children of the page at most.
        cursor: Where the page begins; see ``HistoryQuery``.
    """

    parent: str | None = None
    limit: int = ROWS_DEFAULT
    cursor: str | None = None

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            QueryRefused: Something is out of its bounds.
        """
        check_rows(self.limit)
        if self.parent is not None:
            checked_filters([f"{self.parent}/#"])
            if any(wildcard in self.parent for wildcard in "+#"):
                raise QueryRefused("the parent has a wildcard; give a topic without one")

    @property
    def question(self) -> str:
        """What is asked, without how much of it at a time: what a cursor belongs to."""
        return repr(("children", self.parent))


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicChild:
    """A node of the topic tree.

    Attributes:
        name: Its level: the text after the parent's slash; may be empty.
        topic: Its whole name.
        has_value: Whether it is a topic with a value itself.
        has_children: Whether topics with values lie below it.
    """

    name: str
    topic: str
    has_value: bool
    has_children: bool


ChildrenPage = Page[TopicChild]
"""Children in order of name, by code points."""


def config_topic(topic: str) -> str:
    """Return the topic under which another one is described."""
    return f"{topic}/{CONFIG_LEVEL}"


def description_in(document: bytes) -> str | None:
    """Return the description that a config has, None if it has none or is no JSON."""
    try:
        members = orjson.loads(document)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(members, dict):
        return None
    return next(
        (text for key in DESCRIPTION_KEYS if isinstance(text := members.get(key), str)), None
    )


def without_value(asked: Sequence[str], found: Sequence[TopicValue]) -> list[str]:
    """Return those of some topics and filters that have no value among those found."""
    there = {value.message.topic for value in found}
    return [
        one
        for one in asked
        if one not in there
        and not (is_wildcard(one) and any(matches(one, topic) for topic in there))
    ]


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
