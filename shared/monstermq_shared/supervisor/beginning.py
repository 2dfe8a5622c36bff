"""How a command begins whose process a supervisor may have started."""

from argparse import Namespace
from collections.abc import Mapping
from typing import NamedTuple

from monstermq_shared.config import LoadedConfig, load_config
from monstermq_shared.operation.command_line import level_of
from monstermq_shared.operation.signals import Signals
from monstermq_shared.supervisor.supervised import Supervised


class Begun(NamedTuple):
    """What a command stands on.

    Attributes:
        loaded: The configuration.
        log_level: As of the ``logging`` module.
        signals: Who takes them, started.
        supervised: What a supervisor says, if one has started it.
    """

    loaded: LoadedConfig
    log_level: int
    signals: Signals
    supervised: Supervised | None

    @property
    def log_name(self) -> str:
        """How the log names the process, empty without a supervisor."""
        return "" if self.supervised is None else self.supervised.name


def begin(parsed: Namespace, environ: Mapping[str, str], *, cluster: bool = False) -> Begun:
    """Take the signals, stop with the supervisor from now on, and load the configuration.

    Args:
        parsed: The command line, with ``config``, ``log`` and ``supervised.OPTION``.
        environ: The environment.
        cluster: See ``load_config``.

    Raises:
        ConfigError: The command line or the configuration is wrong.
    """
    level = level_of(parsed.log)
    supervised = Supervised.parse(parsed.supervised)
    signals = Signals()
    signals.start()
    if supervised is not None:
        supervised.stop_with_supervisor()
    loaded = load_config(parsed.config, environ, cluster=cluster)
    return Begun(loaded, loaded.config.log.level if level is None else level, signals, supervised)
