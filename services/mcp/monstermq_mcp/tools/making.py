"""How a tool is made of a function, and a result of an answer."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import FuncMetadata
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from monstermq_mcp.rendering.bounds import ROWS_SIZE_MAX, fit
from monstermq_mcp.tools.answers import Answer
from monstermq_mcp.tools.arguments import CURSOR_MAX, TOPIC_NAMES, Arguments
from monstermq_shared.queries.pages import Page

READS = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
"""Hints of a tool that changes nothing, and asks this broker alone."""

WRITES = ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=True
)
"""Hints of a tool that publishes: machines may act on it, and on each message anew."""

_Row = TypeVar("_Row")
_Shown = TypeVar("_Shown", bound=Answer)
_Arguments = TypeVar("_Arguments", bound=Arguments)


class About(NamedTuple):
    """What a model is told of a tool before it calls it.

    Attributes:
        name: The tool's.
        title: The same for people.
        description: What it is for, when to use it, and how to ask for less.
        hints: What a call does to the world.
    """

    name: str
    title: str
    description: str
    hints: ToolAnnotations


def make_tool(
    about: About,
    function: Callable[[_Arguments], Awaitable[CallToolResult]],
    arguments: type[_Arguments],
    answer: type[Answer],
) -> Tool:
    """Return a tool.

    Args:
        about: What a model is told of it.
        function: Answers a call.
        arguments: What it takes.
        answer: What it answers.
    """

    async def call(arguments: _Arguments) -> CallToolResult:
        return await function(arguments)

    return Tool(
        fn=call,
        name=about.name,
        title=about.title,
        description=about.description,
        parameters=_schema(arguments),
        fn_metadata=_Metadata(
            arg_model=arguments, output_model=answer, output_schema=_schema(answer)
        ),
        is_async=True,
        context_kwarg=None,
        annotations=about.hints,
    )


class _Metadata(FuncMetadata):
    """What the SDK knows of a tool's function, and how it takes arguments."""

    def pre_parse_json(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments without the JSON in which some clients wrap what is no text.

        A topic may look like JSON, so of these only a list of texts is taken for wrapped.
        """
        return {
            name: data[name] if name in TOPIC_NAMES and not _are_texts(value) else value
            for name, value in super().pre_parse_json(data).items()
        }


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


class _Untitled(GenerateJsonSchema):
    """Makes schemas without titles: pydantic's say the same as the names, and cost tokens."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401 - pydantic's is hidden
        return False


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema(by_alias=True, schema_generator=_Untitled)


def result(answer: Answer, text: str) -> CallToolResult:
    """Return the result of a call: the answer, and the same as Markdown."""
    return CallToolResult(
        content=[TextContent(type="text", text=text)],
        structured_content=answer.model_dump(mode="json", by_alias=True, exclude_none=True),
    )


class FittedPage(NamedTuple, Generic[_Shown]):
    """As much of a page as a result has room for.

    Attributes:
        rows: As they stand in the JSON.
        lines: As they stand in the Markdown table.
        truncated: Whether there are more rows.
        cursor: Where they begin. None if there are none, and where the last topic is so long that
            a result has no room for its cursor.
    """

    rows: list[_Shown]
    lines: list[str]
    truncated: bool
    cursor: str | None

    @property
    def place(self) -> dict[str, Any]:
        """The members of ``answers.Page`` that tell how much of it there is."""
        return {
            "returned": len(self.rows),
            "truncated": self.truncated,
            "next_cursor": self.cursor,
        }


def fit_page(
    page: Page[_Row],
    show: Callable[[_Row], _Shown],
    cells: Callable[[_Shown], Sequence[str]],
    *,
    size_max: int = ROWS_SIZE_MAX,
) -> FittedPage[_Shown]:
    """Return the beginning of a page, and where to go on after it.

    Args:
        page: Of a database.
        show: Makes what stands in the JSON of a row.
        cells: Makes the cells of the table of that.
        size_max: Bytes that the rows may take, in JSON and in Markdown.
    """
    rows, lines = fit(page.rows, show, cells, size_max)
    cursor = page.cursor_after(len(rows))
    fits = cursor is not None and len(cursor) <= CURSOR_MAX
    return FittedPage(rows, lines, cursor is not None, cursor if fits else None)
