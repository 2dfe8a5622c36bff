"""A part of a projector as a process: event loop, signals, exit status."""

import asyncio
import logging
from functools import partial
from importlib.metadata import version

from monstermq_projector.parts import Part
from monstermq_projector.projector import Projector
from monstermq_shared.config import LoadedConfig
from monstermq_shared.operation.binding import url_host
from monstermq_shared.operation.health import Place
from monstermq_shared.operation.process import run_process, run_service
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
    start, tell = projector.start(place, instance), partial(_say_where, projector, place)
    return await run_service(projector, start, stopping, signals, tell, logger)


def _say_where(projector: Projector, place: Place | None) -> None:
    if place is not None and not place.listeners:
        logger.info("listening on http://%s:%d/", url_host(place.host), projector.port)


def _nothing_to_reload() -> None:
    logger.info("nothing to reload")
