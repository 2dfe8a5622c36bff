"""Topic filters as PostgreSQL compares topics with them."""

import re
from collections.abc import Sequence

from monstermq_shared.stores.topic_ranges import Range, merged_ranges, topic_ranges
from monstermq_shared.topics import is_wildcard

_ONE = "[^/]*"
_FIRST = "(?:[^/$][^/]*)?"  # [MQTT-4.7.2-1]
_PUNCTUATION = re.compile(r"([!-.:-@\[-^`{-~])")

_NOTHING = "^(?!)"


class Filters:
    """The topics and filters of a question.

    Attributes:
        exact: Topics, in order. Parents that filters with ``#`` match are among them.
        expression: A regular expression of PostgreSQL that the matches of the others match, and
            no other topic.
    """

    def __init__(self, filters: Sequence[str]) -> None:
        self._wild = [one for one in filters if is_wildcard(one)]
        parents = (one[:-2] for one in self._wild if one.endswith("/#"))
        exact = {*filters, *parents}
        self.exact = sorted(one for one in exact if one and not is_wildcard(one))
        # One expression: the server keeps only some compiled ones for the next row.
        alternatives = "|".join(map(_expression, self._wild))
        self.expression = f"^(?:{alternatives})$" if self._wild else _NOTHING

    def ranges(self, after: str = "") -> list[Range]:
        """Return where in the order of topics the matches of the expression are, after a topic.

        They are in order and do not overlap. They may hold topics that do not match, and leave out
        those that are in ``exact``.
        """
        found = (at for one in self._wild for at in topic_ranges(one))
        # A range of one topic is in ``exact``, and no text without NUL can end it.
        some = ((low, high) for low, high in found if high is None or not high.endswith("\0"))
        return merged_ranges(some, after=after)


def _expression(topic_filter: str) -> str:
    levels = topic_filter.split("/")
    tail = levels[-1] == "#"
    if tail:
        levels.pop()
        if not levels:
            return "[^$].*"
    first, *others = levels
    parts = [_FIRST if first == "+" else escaped(first)]
    parts += [_ONE if level == "+" else escaped(level) for level in others]
    return "/".join(parts) + ("(?:/.*)?" if tail else "")


def escaped(text: str) -> str:
    """Return a regular expression of PostgreSQL that matches a text and nothing else.

    A backslash before a letter would mean something, also before one that is not of ASCII.
    """
    return _PUNCTUATION.sub(r"\\\1", text)
