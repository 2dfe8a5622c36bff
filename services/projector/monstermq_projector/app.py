"""A part of a projector as a process: event loop, signals, exit status."""

import asyncio
import logging
from functools import partial
from importlib.metadata import version
from typing import Any

from monstermq_projector.parts import Part
from monstermq_projector.projector import Projector
from monstermq_shared.config import LoadedConfig
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.operation.binding import url_host
from monstermq_shared.operation.health import Place
from monstermq_shared.operation.notify import READY, STOPPING, notify
from monstermq_shared.operation.process import (
    exit_status,
    run_process,
    settle_memory,
    start_or_stop,
)
from monstermq_shared.operation.signals import Signals

logger = logging.getLogger(__name__)


def run_part(
    loaded: LoadedConfig, part: Part, place: Place | None, instance: str | None, signals: Signals
) -> int:
    """Run a part until it is told to stop; return the exit status. Logging is configured before.

    Args:
        loaded: The configuration.
        part: What to do.
        place: Where it is answered for; None: nowhere.
        instance: See ``groups.instance_of``.
        signals: Who takes them, started.
    """
    return run_process(loaded, partial(_run, loaded, part, place, instance, signals))


async def _run(
    loaded: LoadedConfig, part: Part, place: Place | None, instance: str | None, signals: Signals
) -> int:
    projector = Projector(loaded.config, part, version("monstermq"))
    stopping = asyncio.Event()
    soon = asyncio.get_running_loop().call_soon_threadsafe
    signals.listen(partial(soon, stopping.set), _nothing_to_reload, hang_up_stops=False)
    stopped = asyncio.create_task(stopping.wait())
    if not await start_or_stop(projector.start(place, instance), stopped):
        logger.info("stopped before it had started")
        return ExitCode.OK
    signals.started()
    settle_memory()
    if place is not None and not place.listeners:
        logger.info("listening on http://%s:%d/", url_host(place.host), projector.port)
    notify(READY)
    ends: list[asyncio.Future[Any]] = [stopped, projector.failed]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    notify(STOPPING)
    if projector.failed.done():
        stopped.cancel()
        error = projector.failed.result()
        logger.critical("%s", error)
        await projector.stop()
        return exit_status(error)
    logger.info("stopping; a second signal ends at once")
    await projector.stop()
    logger.info("stopped")
    return ExitCode.OK


def _nothing_to_reload() -> None:
    logger.info("nothing to reload")
