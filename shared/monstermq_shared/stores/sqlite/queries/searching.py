"""Looking for topics with the index of ``topic_index``, or without one where there is none."""

import sqlite3
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import orjson

from monstermq_shared.queries.topics import FoundTopic

_TRIGRAM = 3
_TRIGRAMS_MAX = 8
"""Of those that must occur; a few are enough, because what is found is compared in full."""


class Search(NamedTuple):
    """What is looked for.

    Attributes:
        what: ``names`` or ``descriptions``, by which the statements are called.
        trigrams: What the index is asked for; None if it cannot be asked.
        parameters: Of the statements.
        row_id: After which entry of the index the page begins.
        after: After which topic, of those that are not in the index.
        end: What the statements call a topic more than it is called here.
        rows: How many rows are wanted.
    """

    what: str
    trigrams: str | None
    parameters: Mapping[str, object]
    row_id: int
    after: str
    end: str
    rows: int


class Hit(NamedTuple):
    """A topic that was found, and where it stands: after which entry, and after which topic."""

    found: FoundTopic
    row_id: int
    after: str


def search(
    statements: Mapping[str, str], wanted: Search, connection: sqlite3.Connection
) -> list[Hit]:
    """Return what is found, first what is in the index, then what has only been noted for it.

    Args:
        statements: Those of ``topics.sql``, for the tables in question.
        wanted: What is looked for.
        connection: Where to ask.
    """
    connection.execute("BEGIN")
    try:
        hits: list[Hit] = []
        for stage, in_index in _stages(statements, wanted, connection):
            parameters = {
                **wanted.parameters,
                "trigrams": wanted.trigrams,
                "id": wanted.row_id,
                "after": f"{wanted.after}{wanted.end}" if wanted.after else "",
                "rows": wanted.rows - len(hits),
            }
            ((text,),) = connection.execute(statements[stage], parameters)
            hits += [
                Hit(
                    FoundTopic(topic=topic, description=description, config=config),
                    row_id,
                    wanted.after if in_index else topic,
                )
                for topic, description, config, row_id in orjson.loads(text)
            ]
        return hits
    finally:
        connection.execute("ROLLBACK")


def _stages(
    statements: Mapping[str, str], wanted: Search, connection: sqlite3.Connection
) -> list[tuple[str, bool]]:
    ((has_index,),) = connection.execute(statements["has_index"])
    if not has_index:
        return [(wanted.what, False)]
    first = "all" if wanted.trigrams is None else "indexed"
    return [(f"{first}_{wanted.what}", True), (f"noted_{wanted.what}", False)]


def trigrams(texts: Iterable[str]) -> str | None:
    """Return a question to the index for what has these texts, None if all are too short."""
    found: dict[str, None] = {}
    for text in sorted(texts, key=len, reverse=True):
        ends = [*range(0, len(text) - _TRIGRAM + 1, _TRIGRAM), len(text) - _TRIGRAM]
        found |= dict.fromkeys(text[at : at + _TRIGRAM] for at in ends if at >= 0)
    some = list(found)[:_TRIGRAMS_MAX]
    quoted = ['"' + one.replace('"', '""') + '"' for one in some]
    return " AND ".join(quoted) or None
