"""The edge as a process: event loop, signals, exit status."""

import asyncio
import gc
import logging
import os
import signal
from importlib.metadata import version
from typing import Any

import uvloop

from monstermq_edge.broker import Broker
from monstermq_edge.operation.files import raise_file_limit
from monstermq_edge.operation.logging import configure_logging
from monstermq_edge.operation.notify import READY, STOPPING, notify
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


def run_broker(loaded: LoadedConfig, log_level: int) -> int:
    """Run a broker until it is told to stop; return the exit status.

    SIGTERM and SIGINT stop it gracefully, a second one at once. SIGHUP reads certificates again.

    Args:
        loaded: What to run.
        log_level: As of the ``logging`` module.
    """
    configure_logging(log_level, loaded.config.log.format)
    logger.info("MonsterMQ %s, configuration: %s", version("monstermq"), loaded.source)
    for warning in loaded.warnings:
        logger.warning("%s", warning)
    soft, hard = raise_file_limit()
    if soft < loaded.config.limits.connections:
        logger.info("the process may open %d files (hard limit %d)", soft, hard)
    try:
        for warning in check_runnable(loaded):
            logger.warning("%s", warning)
        return uvloop.run(_run(loaded))
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


async def _run(loaded: LoadedConfig) -> int:
    broker = Broker(loaded.config, version("monstermq"))
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, stopping)
    await broker.start()
    loop.add_signal_handler(signal.SIGHUP, broker.reload)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    for url in broker.urls():
        logger.info("listening on %s", url)
    _say_what_next(loaded)
    notify(READY)
    stopped = asyncio.create_task(stopping.wait())
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


def _stop(stopping: asyncio.Event) -> None:
    if stopping.is_set():
        # The log is the truth: what was acknowledged is committed, whatever happens now.
        os._exit(ExitCode.FAILURE)
    stopping.set()


def _say_what_next(loaded: LoadedConfig) -> None:
    port = loaded.config.tcp
    if port:
        logger.info("try: mosquitto_sub -p %d -t '#' -v", port)
        logger.info("and: mosquitto_pub -p %d -t hello -m world -r", port)
