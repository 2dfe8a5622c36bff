"""The SDK's server, with a bound for calls, and with sentences where the SDK has none."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import (
    ResourceNotFoundError,
    ToolError,
    UnexpectedToolError,
)
from mcp.server.mcpserver.prompts import Prompt
from mcp.server.mcpserver.tools import Tool
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    CallToolResult,
    GetPromptResult,
    InputRequiredResult,
)
from mcp.types import Tool as ListedTool
from pydantic import AnyUrl, ValidationError

from monstermq_mcp.counts import Counts
from monstermq_mcp.faults import protocol_error, refusal, repairable, unknown
from monstermq_mcp.rendering.text import clipped
from monstermq_shared.errors import MonsterError, QueryTimedOut
from monstermq_shared.operation.limited_log import LimitedLog

CALLS_MAX = 64
"""Calls of tools that are answered at a time; one more is told to come back."""

ARGUMENTS_MAX = 64
"""Arguments of a call. No tool has as many, and looking for what is wrong with each of a hundred
thousand holds the interpreter, and with it the broker, for a third of a second."""

CALL_S_MAX = 30.0
"""Seconds of a call, however many questions to databases it takes."""

_URI_MAX = 200
"""Characters of the URI of a resource that an error shows."""

_logger = logging.getLogger(__name__)
_limited = LimitedLog(_logger)


class BrokerServer(MCPServer[None]):
    """The server, given its tools.

    Args:
        version: Of this release.
        instructions: What a model reads before it uses the tools.
        tools: They are.
        additions: Name of a tool -> what its description ends with, asked for whenever the tools
            are listed.
        barred: Tells why the present caller may not use a tool, by its name; None: he may. He is
            not shown such a tool. It may be one that this server does not have.
        patience_s: Name of a tool -> seconds that a call may take; of others ``CALL_S_MAX``.

    Attributes:
        counts: Where calls are counted.
    """

    def __init__(
        self,
        *,
        version: str,
        instructions: str,
        tools: Sequence[Tool],
        additions: Mapping[str, Callable[[], Awaitable[str]]],
        barred: Callable[[str], str | None],
        patience_s: Mapping[str, float],
    ) -> None:
        super().__init__(
            "monstermq",
            title="MonsterMQ",
            version=version,
            instructions=instructions,
            tools=list(tools),
            # Its tools never change, and a stream that tells of nothing would hold a connection.
            subscriptions=False,
            # It is for a process that has set up no logging; ours always has.
            log_level="CRITICAL",
        )
        self._parameters = {tool.name: list(tool.parameters["properties"]) for tool in tools}
        self._prompts: dict[str, Prompt] = {}
        self._additions = additions
        self._barred = barred
        self._patience_s = patience_s
        self._calls = 0
        self.counts = Counts()

    @property
    def tools_count(self) -> int:
        """How many tools it has."""
        return len(self._parameters)

    async def list_tools(self) -> list[ListedTool]:
        """Return the tools as the present caller sees them."""
        tools = [tool for tool in await super().list_tools() if self._barred(tool.name) is None]
        for tool in tools:
            if tool.name in self._additions:
                addition = await self._additions[tool.name]()
                tool.description = f"{tool.description}\n{addition}".rstrip()
        return tools

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[None, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool.

        Raises:
            ToolError: The caller can repair it; the message says how.
            MCPError: He cannot, may not, or there is no such tool.
        """
        # Before his arguments are looked at: whoever may not call it need not know how.
        reason = self._barred(name)
        if reason is not None:
            raise MCPError(INVALID_REQUEST, reason)
        if name not in self._parameters:
            raise MCPError(INVALID_PARAMS, f"there is no tool {unknown(name, self._parameters)}")
        if len(arguments) > ARGUMENTS_MAX:
            raise ToolError(
                f"{name} was called with {len(arguments)} arguments; there are: "
                f"{', '.join(self._parameters[name])}"
            )
        if self._calls >= CALLS_MAX:
            self.counts.calls_refused += 1
            raise ToolError(f"{CALLS_MAX} calls are being answered already; try again in a second")
        self._calls += 1
        patience_s = self._patience_s.get(name, CALL_S_MAX)
        self.counts.calls += 1
        try:
            async with asyncio.timeout(patience_s):
                return await super().call_tool(name, arguments, context)
        except ToolError as error:
            raise self._failure(name, error) from error.__cause__
        except TimeoutError as exc:
            self.counts.calls_timed_out += 1
            raise ToolError(
                f"{name} was given up after {patience_s:g} seconds; ask for less: fewer topics, a"
                " shorter time, a lower limit"
            ) from exc
        finally:
            self._calls -= 1

    def _failure(self, name: str, error: ToolError) -> ToolError | MCPError:
        cause = error.__cause__
        if isinstance(cause, QueryTimedOut):
            self.counts.calls_timed_out += 1
        if repairable(cause):
            return ToolError(str(cause))
        if isinstance(error, UnexpectedToolError):
            self.counts.calls_failed += 1
            self._log(name, cause)
            return protocol_error(cause)
        if isinstance(cause, ValidationError):
            return ToolError(refusal(cause, self._parameters[name]))
        return ToolError(str(cause or error))

    def _log(self, name: str, cause: BaseException | None) -> None:
        known = isinstance(cause, MonsterError)
        limits = _limited.admit(name, time.monotonic())
        if limits is not None:
            trace = None if known else cause
            _logger.error("the tool %s failed: %s", name, cause, exc_info=trace, extra=limits)

    async def read_resource(
        self, uri: AnyUrl | str, context: Context[None, Any] | None = None
    ) -> Iterable[ReadResourceContents] | InputRequiredResult:
        """Return what a resource holds.

        Raises:
            MCPError: There is none, or it cannot be read now.
        """
        try:
            return await super().read_resource(uri, context)
        except ResourceNotFoundError as exc:
            # The SDK would repeat all of it, twice.
            shown = clipped(str(uri), _URI_MAX)
            raise MCPError(INVALID_PARAMS, f"Unknown resource: {shown}") from exc

    def add_prompt(self, prompt: Prompt) -> None:
        """Add a prompt."""
        self._prompts[prompt.name] = prompt
        super().add_prompt(prompt)

    async def get_prompt(
        self,
        name: str,
        arguments: dict[str, Any] | None = None,
        context: Context[None, Any] | None = None,
    ) -> GetPromptResult | InputRequiredResult:
        """Return a prompt, given its arguments.

        Raises:
            MCPError: There is no such prompt, its arguments are others, or it cannot be made now.
        """
        if name not in self._prompts:
            raise MCPError(INVALID_PARAMS, f"there is no prompt {unknown(name, self._prompts)}")
        known = [argument.name for argument in self._prompts[name].arguments or ()]
        given = arguments or {}
        for argument in given:
            if argument not in known:
                raise MCPError(INVALID_PARAMS, f"there is no argument {unknown(argument, known)}")
        for argument in known:
            if argument not in given:
                raise MCPError(INVALID_PARAMS, f"the argument {argument} is missing")
        return await super().get_prompt(name, given, context)
