"""On the Kafka bus: the processes that one configuration asks for, under one supervisor."""

import logging
from collections.abc import Sequence
from functools import partial

from monstermq_edge import settings
from monstermq_edge.processes import check_ports, edge_programs
from monstermq_projector.groups import instance_of
from monstermq_projector.parts import parts_of, program_of
from monstermq_shared.config import LoadedConfig, check_runnable
from monstermq_shared.errors import MonsterError
from monstermq_shared.operation.form import told_version
from monstermq_shared.operation.health import Place
from monstermq_shared.operation.logging import configure_logging
from monstermq_shared.operation.process import exit_status, run_process
from monstermq_shared.operation.signals import Signals
from monstermq_shared.supervisor.child import Program
from monstermq_shared.supervisor.command import serve

logger = logging.getLogger(__name__)


def run_stack(
    loaded: LoadedConfig, log_level: int, options: Sequence[str], signals: Signals
) -> int:
    """Run edges, projectors and the MCP server until told to stop; return the exit status.

    Args:
        loaded: What to run.
        log_level: As of the ``logging`` module.
        options: What every process is given, such as ``-config FILE``.
        signals: Who takes them, started.
    """
    config = loaded.config
    configure_logging(log_level, config.log.format, "monstermq")
    logger.info("MonsterMQ %s, configuration: %s", told_version(), loaded.source)
    try:
        for warning in [*loaded.warnings, *check_runnable(loaded)]:
            logger.warning("%s", warning)
        check_ports(config)
    except MonsterError as exc:
        logger.critical("%s", exc)
        return exit_status(exc)
    metrics = config.metrics
    place = Place(host=metrics.bind_address, port=metrics.port)
    at = place if metrics.enabled and metrics.port else None
    programs = programs_of(loaded, options)
    return run_process(loaded, partial(serve, programs, at, settings.page(config), signals))


def programs_of(loaded: LoadedConfig, options: Sequence[str]) -> list[Program]:
    """Return what is started, in order.

    Projectors come first: an edge that serves before their views have begun would be served by
    nobody who keeps what it publishes.
    """
    config = loaded.config
    instance = instance_of(config, of_monstermq=True)
    parts = parts_of(config, config.projector.kinds)
    programs = [program_of(part, options, instance) for part in parts]
    cluster = ["-cluster"] if loaded.cluster else []
    programs += edge_programs(config, [*options, *cluster])
    if config.mcp.runs:
        programs.append(Program(name="mcp", module="monstermq_mcp", arguments=options))
    return programs
