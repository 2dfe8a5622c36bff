"""How much a result may be, so that a model can read it whatever the rows are.

Clients refuse results of more than 25,000 tokens or so. A result is there twice, as JSON and as
Markdown, and a client shows one of them to its model: each has the bound.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from pydantic import BaseModel

from monstermq_mcp.rendering.tables import row

PAYLOAD_MAX = 2 * 1024
"""Bytes of a payload that a result shows."""

NAME_MAX = 1_024
"""Characters of a topic or client id that a result shows; MQTT allows 65,535."""

RESULT_SIZE_MAX = 60_000
"""Bytes of a result in JSON, and of the same in Markdown."""

ROWS_SIZE_MAX = RESULT_SIZE_MAX - 6_000
"""The same of its rows: beside them are notes, hints and a cursor."""

_Item = TypeVar("_Item")
_Shown = TypeVar("_Shown", bound=BaseModel)


def fit(
    items: Sequence[_Item],
    show: Callable[[_Item], _Shown],
    cells: Callable[[_Shown], Sequence[str]],
    size_max: int = ROWS_SIZE_MAX,
) -> tuple[list[_Shown], list[str]]:
    """Return as many of the first items as there is room for, at least one if there is one.

    They come in both forms: as JSON, and as lines of a table.

    Args:
        items: What there is.
        show: Makes what stands in the JSON of one.
        cells: Makes the cells of its row in the table.
        size_max: Bytes that all may take together in JSON, and in Markdown.
    """
    shown: list[_Shown] = []
    lines: list[str] = []
    json_size = markdown_size = 0
    for item in items:
        model = show(item)
        line = row(cells(model))
        json_size += len(model.model_dump_json(by_alias=True, exclude_none=True).encode()) + 1
        markdown_size += len(line.encode()) + 1
        if shown and max(json_size, markdown_size) > size_max:
            break
        shown.append(model)
        lines.append(line)
    return shown, lines
