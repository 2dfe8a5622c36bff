"""A process of the product, whatever it serves: its settings, its loop, its exit status."""

import asyncio
import gc
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

import uvloop

from monstermq_shared.config import LoadedConfig
from monstermq_shared.errors import (
    BusLost,
    ConfigError,
    MonsterError,
    StartupError,
    StoreConflict,
    StoreDamaged,
)
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.operation.files import raise_file_limit
from monstermq_shared.operation.notify import READY, STOPPING, notify
from monstermq_shared.operation.signals import Signals

logger = logging.getLogger(__name__)


class Service(Protocol):
    """What a process does from its start to its stop.

    Attributes:
        failed: Set, with an error as its result, when the process must end.
    """

    failed: asyncio.Future[MonsterError]

    async def stop(self) -> None:
        """End it, in bounded time."""
        ...


GC_THRESHOLDS = (50_000, 20, 1_000)
"""Few collections: the hot paths make no cycles, and a full one stops the process for a moment."""

SWITCH_INTERVAL_S = 0.0005
"""How long a thread that waits for the interpreter lets another run. The loop gives the interpreter
away in every turn, and takes it back before the default of 5 ms has passed: a writer's thread would
wait for seconds on a busy machine."""


def run_process(
    loaded: LoadedConfig,
    serve: Callable[[], Coroutine[Any, Any, int]],
    *,
    has_clients: bool = False,
) -> int:
    """Run what a process does until it ends; return the exit status. Logging is configured before.

    Args:
        loaded: Its configuration.
        serve: Called in the event loop; returns the exit status.
        has_clients: It serves them, so a low limit of files is told.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    soft, hard = raise_file_limit()
    if has_clients and soft < loaded.config.limits.connections:
        logger.info("the process may open %d files (hard limit %d)", soft, hard)
    try:
        return uvloop.run(serve())
    except MonsterError as exc:
        logger.critical("%s", exc)
        return exit_status(exc)


def run_command(name: str, execute: Callable[[], int]) -> int:
    """Do what a command line asks; tell what stands in the way; return the exit status."""
    try:
        return execute()
    except MonsterError as exc:
        sys.stderr.write(f"{name}: {exc}\n")
        return exit_status(exc)


def exit_status(exc: MonsterError) -> int:
    """Return the exit status for an error that ends the process."""
    match exc:
        case StartupError():
            return exc.exit_code
        case ConfigError():
            return ExitCode.CONFIG
        case StoreDamaged():
            return ExitCode.STORE_DAMAGED
        case StoreConflict():
            return ExitCode.STORE_IN_USE
        case BusLost():
            return ExitCode.BUS_MISMATCH
        case _:
            return ExitCode.FAILURE


async def start_or_stop(start: Awaitable[None], stopped: asyncio.Task[Any]) -> bool:
    """Start something, or give it up as soon as it is told to stop; return whether it runs.

    Args:
        start: Starts it; cancelled, it undoes what it did.
        stopped: Done when it is to stop.
    """
    starting = asyncio.ensure_future(start)
    await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        notify(STOPPING)
        starting.cancel()
    try:
        await starting
    except asyncio.CancelledError:
        return False
    return True


def settle_memory() -> None:
    """Take what there is after a start for permanent, and collect garbage seldom from now on."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


async def run_service(
    service: Service,
    start: Awaitable[None],
    stopping: asyncio.Event,
    signals: Signals,
    started: Callable[[], None],
    told_by: logging.Logger,
) -> int:
    """Run a service until it is told to stop, or fails; return the exit status.

    Args:
        service: It.
        start: Starts it; cancelled, it undoes what it did.
        stopping: Set when it is to stop.
        signals: Who takes them.
        started: Called once it runs.
        told_by: Whose lines tell of its end.
    """
    stopped = asyncio.create_task(stopping.wait())
    if not await start_or_stop(start, stopped):
        told_by.info("stopped before it had started")
        return ExitCode.OK
    signals.started()
    settle_memory()
    started()
    notify(READY)
    ends: list[asyncio.Future[Any]] = [stopped, service.failed]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    notify(STOPPING)
    if service.failed.done():
        stopped.cancel()
        error = service.failed.result()
        told_by.critical("%s", error)
        await service.stop()
        return exit_status(error)
    told_by.info("stopping; a second signal ends at once")
    await service.stop()
    told_by.info("stopped")
    return ExitCode.OK
