"""Trouble in the middle of a tool that runs in the tests' process."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

_Step = Callable[..., Awaitable[Any]]


def before_first(
    patched: pytest.MonkeyPatch, owner: type, name: str, trouble: Callable[[], Awaitable[None]]
) -> None:
    """Let something happen right before a method is called for the first time.

    Args:
        patched: Undoes it.
        owner: Whose method.
        name: Its name; it is a coroutine.
        trouble: What happens.
    """
    method: _Step = getattr(owner, name)
    happened = False

    async def troubled(*arguments: Any) -> Any:
        nonlocal happened
        if not happened:
            happened = True
            await trouble()
        return await method(*arguments)

    patched.setattr(owner, name, troubled)
