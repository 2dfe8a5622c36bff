"""The edge as a process: event loop, signals, exit status."""

import asyncio
import gc
import logging
import os
import sys
from functools import partial
from importlib.metadata import version
from typing import Any

import uvloop

from monstermq_edge.broker import Broker
from monstermq_edge.operation.files import raise_file_limit
from monstermq_edge.operation.logging import configure_logging
from monstermq_edge.operation.notify import READY, STOPPING, notify
from monstermq_edge.operation.signals import Signals
from monstermq_shared.config import LoadedConfig, check_runnable
from monstermq_shared.errors import (
    ConfigError,
    MonsterError,
    StartupError,
    StoreConflict,
    StoreDamaged,
)
from monstermq_shared.exit_codes import ExitCode

logger = logging.getLogger(__name__)

GC_THRESHOLDS = (50_000, 20, 1_000)
"""Few collections: the hot path makes no cycles, and a full one stops the broker for a moment."""

SWITCH_INTERVAL_S = 0.0005
"""How long a thread that waits for the interpreter lets another run. The loop gives the interpreter
away in every turn, and takes it back before the default of 5 ms has passed: the writer's thread
would wait for seconds on a busy machine."""


def run_broker(loaded: LoadedConfig, log_level: int, signals: Signals) -> int:
    """Run a broker until it is told to stop; return the exit status.

    SIGTERM and SIGINT stop it gracefully, a second one at once. SIGHUP reads certificates again.

    Args:
        loaded: What to run.
        log_level: As of the ``logging`` module.
        signals: Who takes them, started.
    """
    configure_logging(log_level, loaded.config.log.format)
    logger.info("MonsterMQ %s, configuration: %s", version("monstermq"), loaded.source)
    for warning in loaded.warnings:
        logger.warning("%s", warning)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    soft, hard = raise_file_limit()
    if soft < loaded.config.limits.connections:
        logger.info("the process may open %d files (hard limit %d)", soft, hard)
    try:
        for warning in check_runnable(loaded):
            logger.warning("%s", warning)
        return uvloop.run(_run(loaded, signals))
    except MonsterError as exc:
        logger.critical("%s", exc)
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
        case _:
            return ExitCode.FAILURE


async def _run(loaded: LoadedConfig, signals: Signals) -> int:
    broker = Broker(loaded.config, version("monstermq"))
    stopping = asyncio.Event()
    soon = asyncio.get_running_loop().call_soon_threadsafe
    signals.listen(
        partial(soon, stopping.set),
        partial(soon, broker.reload),
        # Where there is nothing to reload, the terminal has been closed.
        hang_up_stops=os.isatty(0) and not broker.reloads,
    )
    stopped = asyncio.create_task(stopping.wait())
    if not await _start(broker, stopped):
        logger.info("stopped before it had started")
        return ExitCode.OK
    signals.started()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    for url in broker.urls():
        logger.info("listening on %s", url)
    _say_what_next(loaded)
    notify(READY)
    ends: list[asyncio.Future[Any]] = [stopped, broker.failed]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    notify(STOPPING)
    if broker.failed.done():
        stopped.cancel()
        error = broker.failed.result()
        logger.critical("%s", error)
        await broker.stop()
        return exit_status(error)
    logger.info("stopping; a second signal ends at once")
    await broker.stop()
    logger.info("stopped")
    return ExitCode.OK


async def _start(broker: Broker, stopped: asyncio.Task[Any]) -> bool:
    """Start the broker, or give it up as soon as it is told to stop; return whether it runs."""
    starting = asyncio.create_task(broker.start())
    await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        notify(STOPPING)
        starting.cancel()
    try:
        await starting
    except asyncio.CancelledError:
        return False
    return True


def _say_what_next(loaded: LoadedConfig) -> None:
    port = loaded.config.tcp
    if port:
        logger.info("try: mosquitto_sub -p %d -t '#' -v", port)
        logger.info("and: mosquitto_pub -p %d -t hello -m world -r", port)
