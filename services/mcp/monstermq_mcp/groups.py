"""Which archive group a call is about."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from monstermq_mcp.faults import unknown
from monstermq_mcp.rendering.text import clipped, plain
from monstermq_mcp.sources import Group
from monstermq_shared.config import ArchiveGroup
from monstermq_shared.errors import NotSupported, QueryRefused
from monstermq_shared.queries.filters import exact_topics
from monstermq_shared.queries.ports import ArchiveQueries, SqlQueries, TopicQueries
from monstermq_shared.topics import is_system_topic, matches

DEFAULT_NAME = "MCP"
"""The group that is meant where neither caller nor configuration say, if there is one."""

_REASONS_MAX = 3
_SHOWN_MAX = 200

_Queries = TypeVar("_Queries")


class Groups:
    """The archive groups of the configuration, by name.

    Args:
        groups: They are, in its order.
        default: The name of the one that is meant where a caller says nothing; None: ``MCP``.
    """

    def __init__(self, groups: Sequence[Group], default: str | None) -> None:
        self.all = tuple(groups)
        self._default = default or DEFAULT_NAME

    def archive(self, name: str | None) -> tuple[str, ArchiveQueries]:
        """Return the group that is meant, and questions to its history.

        Raises:
            QueryRefused: There is no such group.
            NotSupported: It keeps no history that can be asked, or none does.
        """
        return self._pick(name, lambda group: group.archive)

    def topics(self, name: str | None) -> tuple[str, TopicQueries]:
        """Return the group that is meant, and questions about its topics.

        Raises:
            QueryRefused: There is no such group.
            NotSupported: It keeps no values that can be asked, or none does.
        """
        return self._pick(name, lambda group: group.topics)

    def sql(self, name: str | None) -> tuple[str, SqlQueries]:
        """Return the group that is meant, and questions in SQL to its database.

        Raises:
            QueryRefused: There is no such group.
            NotSupported: Its database takes no SQL, or none does.
        """
        return self._pick(name, lambda group: group.sql)

    def elsewhere(self, name: str, filters: Sequence[str] = ()) -> str | None:
        """Return which other groups may have what a group does not, None if there are none.

        Args:
            name: The group that has found nothing.
            filters: What it was asked for.
        """
        if any(is_system_topic(one) for one in filters):
            return "Topics below $SYS are the broker's own, and no archive group keeps them."
        others = [group.config for group in self.all if group.config.name != name]
        if not others:
            return None
        own = self.named(name).config
        for topic in exact_topics(filters):
            if not _takes(own, topic):
                takers = [one.name for one in others if _takes(one, topic)]
                taken = f"is taken by: {', '.join(takers)}" if takers else "is taken by none"
                shown = clipped(", ".join(own.topic_filter), _SHOWN_MAX)
                return f"{name} takes {shown} only; {plain(clipped(topic, _SHOWN_MAX))} {taken}."
        names = clipped(", ".join(one.name for one in others), _SHOWN_MAX)
        return f"Other archive groups may have it: {names}."

    def databases(self) -> list[SqlQueries]:
        """Return the databases that take SQL, each once."""
        found = [group.sql for group in self.all if not isinstance(group.sql, NotSupported)]
        return list({id(queries): queries for queries in found}.values())

    def _pick(
        self, name: str | None, part: Callable[[Group], _Queries | NotSupported]
    ) -> tuple[str, _Queries]:
        fit: dict[str, _Queries] = {}
        reasons: dict[str, str] = {}
        for group in self.all:
            queries = part(group)
            if isinstance(queries, NotSupported):
                reasons[group.config.name] = str(queries)
            else:
                fit[group.config.name] = queries
        if name is not None:
            found = self.named(name).config.name
            if found not in fit:
                others = f"; these groups answer: {', '.join(fit)}" if fit else ""
                raise NotSupported(f"{reasons[found]}{others}")
            return found, fit[found]
        if not fit:
            told = "; ".join(list(dict.fromkeys(reasons.values()))[:_REASONS_MAX])
            raise NotSupported(told or "there is no archive group: ArchiveGroups is empty")
        chosen = self._default if self._default in fit else next(iter(fit))
        return chosen, fit[chosen]

    def named(self, name: str) -> Group:
        """Return the group of that name; upper and lower case are the same to its tables.

        Raises:
            QueryRefused: There is none.
        """
        for group in self.all:
            if group.config.name.casefold() == name.casefold():
                return group
        names = [group.config.name for group in self.all]
        raise QueryRefused(f"there is no archive group {unknown(name, names)}")


def _takes(group: ArchiveGroup, topic: str) -> bool:
    filters = group.topic_filter
    return not filters or any(matches(one, topic) for one in filters)
