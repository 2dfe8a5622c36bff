"""``Edge.Processes``: several edges on the same MQTT ports, looked after by one process."""

import logging
from collections.abc import Sequence
from functools import partial

from monstermq_edge import settings
from monstermq_shared.config import BrokerConfig, LoadedConfig, check_runnable
from monstermq_shared.operation.binding import listen
from monstermq_shared.operation.form import told_version
from monstermq_shared.operation.health import Place
from monstermq_shared.operation.logging import configure_logging
from monstermq_shared.operation.process import run_process
from monstermq_shared.operation.signals import Signals
from monstermq_shared.supervisor.child import Program
from monstermq_shared.supervisor.command import serve

logger = logging.getLogger(__name__)


def run_edges(
    loaded: LoadedConfig, log_level: int, options: Sequence[str], signals: Signals
) -> int:
    """Run the configured number of edges until told to stop; return the exit status.

    Args:
        loaded: What to run.
        log_level: As of the ``logging`` module.
        options: What every process is given, such as ``-config FILE``.
        signals: Who takes them, started.

    Raises:
        ConfigError: It asks for what cannot be run.
        StartupError: A port is taken.
    """
    config = loaded.config
    configure_logging(log_level, config.log.format, "monstermq-edge")
    logger.info("MonsterMQ %s, configuration: %s", told_version(), loaded.source)
    for warning in [*loaded.warnings, *check_runnable(loaded)]:
        logger.warning("%s", warning)
    check_ports(config)
    programs = edge_programs(config, options)
    metrics = config.metrics
    place = Place(host=metrics.bind_address, port=metrics.port)
    at = place if metrics.enabled and metrics.port else None
    return run_process(loaded, partial(serve, programs, at, settings.page(config), signals))


def edge_programs(config: BrokerConfig, options: Sequence[str]) -> list[Program]:
    """Return the edges that a configuration asks for.

    Args:
        config: The configuration.
        options: What each is given.
    """
    count = config.edge.processes
    names = ["edge"] if count == 1 else [f"edge-{number}" for number in range(1, count + 1)]
    return [Program(name=name, module="monstermq_edge", arguments=options) for name in names]


def check_ports(config: BrokerConfig) -> None:
    """See that nobody else has the ports that several edges are to share.

    They open them in a way that would let them in beside another broker of the same user, which
    would then get some of the clients.

    Raises:
        StartupError: Somebody has.
    """
    if config.edge.processes == 1:
        return
    ports = {"TCP": config.tcp, "TCPS": config.tcps, "WS": config.ws, "WSS": config.wss}
    for key, number in ports.items():
        if number:
            for listener in listen(key, config.bind_address, number, backlog=1):
                listener.close()
