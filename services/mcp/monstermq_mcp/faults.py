"""What is told of a call that fails: by whom it can be repaired decides how.

What the caller can repair is a tool's error, which a model reads and acts on. What it cannot is an
error of the protocol, with the sentence of whoever failed. What nobody expected is logged, and told
without details.
"""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from mcp.shared.exceptions import MCPError
from mcp.types import INTERNAL_ERROR, INVALID_PARAMS
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from monstermq_mcp.rendering.text import clipped
from monstermq_shared.errors import MonsterError, QueryError

_SHOWN_MAX = 5
_NAME_MAX = 80


def repairable(fault: BaseException | None) -> bool:
    """Tell whether the caller can do something about it."""
    return isinstance(fault, QueryError)


@contextmanager
def as_protocol_errors() -> Iterator[None]:
    """Turn our errors into those of the protocol, where there are no others: of what is read.

    Raises:
        MCPError: Instead of each of ours.
    """
    try:
        yield
    except QueryError as exc:
        raise MCPError(INVALID_PARAMS, str(exc)) from exc
    except MonsterError as exc:
        raise MCPError(INTERNAL_ERROR, str(exc)) from exc


def protocol_error(fault: BaseException | None) -> MCPError:
    """Return the protocol error of a fault that the caller can do nothing about."""
    if isinstance(fault, MonsterError):
        return MCPError(INTERNAL_ERROR, str(fault))
    return MCPError(
        INTERNAL_ERROR, "the server failed at this, and its log says how; other calls may work"
    )


def refusal(error: ValidationError, names: Sequence[str]) -> str:
    """Return what is wrong with a tool's arguments, and how to write them.

    Args:
        error: Of the model of the arguments.
        names: Those that the tool has.
    """
    # Of an argument that may be several things it is told once for each; what is told of its parts
    # comes closest.
    details: dict[tuple[int | str, ...], ErrorDetails] = {}
    for detail in error.errors(include_url=False, include_input=False):
        known = details.get(detail["loc"][:1])
        if known is None or len(detail["loc"]) > len(known["loc"]):
            details[detail["loc"][:1]] = detail
    sentences = [_sentence(detail, names) for detail in [*details.values()][:_SHOWN_MAX]]
    if len(details) > _SHOWN_MAX:
        sentences.append(f"and {len(details) - _SHOWN_MAX} more")
    return "; ".join(sentences)


def _sentence(detail: ErrorDetails, names: Sequence[str]) -> str:
    name = str(detail["loc"][0]) if detail["loc"] else "arguments"
    if detail["type"] == "missing":
        return f"the argument {name} is missing"
    if detail["type"] == "extra_forbidden":
        return f"there is no argument {unknown(name, names)}"
    if detail["type"] in {"string_too_short", "too_short"}:
        return f"the argument {name} is empty"
    return f"the argument {name} is wrong: {detail['msg'].replace('Input', 'it', 1)}"


def unknown(name: str, names: Iterable[str]) -> str:
    """Return the name that does not exist, the nearest that does, and all that do."""
    known = list(names)
    shown = repr(clipped(name, _NAME_MAX))
    if not known:
        return f"{shown}, and no other"
    nearest = difflib.get_close_matches(name[:_NAME_MAX], known, n=1)
    guess = f"did you mean {nearest[0]}? " if nearest else ""
    return f"{shown}; {guess}there are: {', '.join(known)}"
