"""What the driver leaves behind when a connection is lost is no line of the log."""

import asyncio
from typing import Any

import asyncpg
import pytest

from monstermq_shared.stores.postgres.errors import forget_lost_waits

NEVER_READ = "Future exception was never retrieved"
LOST = asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")


@pytest.mark.parametrize(
    ("message", "exception", "is_told"),
    [
        (NEVER_READ, LOST, False),
        (NEVER_READ, ValueError("ours"), True),
        ("Task was destroyed but it is pending!", None, True),
        ("Exception in callback", LOST, True),
    ],
)
async def test_only_waits_on_lost_connections_are_passed_over(
    caplog: pytest.LogCaptureFixture, message: str, exception: Exception | None, is_told: bool
) -> None:
    loop = asyncio.get_running_loop()
    forget_lost_waits(loop)
    forget_lost_waits(loop)
    context: dict[str, Any] = {"message": message}
    if exception is not None:
        context["exception"] = exception
    loop.call_exception_handler(context)
    assert [record.getMessage().splitlines()[0] for record in caplog.records] == [message] * is_told


async def test_a_handler_that_was_there_before_is_asked() -> None:
    loop = asyncio.get_running_loop()
    told: list[str] = []
    loop.set_exception_handler(lambda _, context: told.append(context["message"]))
    forget_lost_waits(loop)
    loop.call_exception_handler({"message": NEVER_READ, "exception": LOST})
    loop.call_exception_handler({"message": "something else"})
    assert told == ["something else"]
