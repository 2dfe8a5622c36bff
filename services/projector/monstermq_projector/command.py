"""The ``monstermq-projector`` command: the parts of a projector, one process each."""

import logging
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from functools import partial

from monstermq_projector.app import run_part
from monstermq_projector.groups import instance_of
from monstermq_projector.page import PAGE
from monstermq_projector.parts import Part, parts_of, program_of
from monstermq_shared.config import LoadedConfig, StoreType
from monstermq_shared.config.fields import ProjectorKind
from monstermq_shared.errors import ConfigError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.operation.command_line import CommandLine, file_name
from monstermq_shared.operation.form import told_version
from monstermq_shared.operation.health import Place
from monstermq_shared.operation.held import release
from monstermq_shared.operation.logging import configure_logging
from monstermq_shared.operation.process import run_command, run_process
from monstermq_shared.operation.signals import Signals
from monstermq_shared.supervisor.beginning import begin
from monstermq_shared.supervisor.command import serve
from monstermq_shared.supervisor.supervised import OPTION

logger = logging.getLogger(__name__)

HELP = """\
usage: monstermq-projector [-config FILE] [-log LEVEL] [--kinds KINDS]
       monstermq-projector -help | --version

Turns the Kafka bus into rows. Any number of them share the partitions, on one machine
or on several; on one machine each needs a Projector.Port of its own.

  --kinds KINDS      VIEWS (messages: retained, last values, archives, queues), SESSIONS
                     (kept sessions, wills, leases), or both, separated by commas; else
                     Projector.Kinds

Each kind is a process of its own, for each database, and this one looks after them.
Configuration, log levels and environment variables are those of monstermq, see
monstermq -help; monstermq -config FILE --check checks the file.
"""


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Do what the command line asks; return the exit status. Signals are held when it is called."""
    return run_command("monstermq-projector", partial(_execute, arguments, environ))


def _execute(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    parsed = _parse(arguments)
    if parsed.help or parsed.h or parsed.version:
        release()
        sys.stdout.write(f"{told_version()}\n" if parsed.version else HELP)
        return ExitCode.OK
    begun = begin(parsed, environ)
    loaded, signals, supervised = begun.loaded, begun.signals, begun.supervised
    configure_logging(begun.log_level, loaded.config.log.format, begun.log_name)
    parts = _parts(loaded, parsed)
    if supervised is not None:
        place = Place(host="", port=0, listeners=(supervised.listener(),))
        return run_part(loaded, parts[0], place, parsed.instance, signals)
    _tell_start(loaded)
    return _run_by_itself(loaded, parts, parsed, signals)


def _parse(arguments: Sequence[str]) -> Namespace:
    parser = CommandLine("monstermq-projector")
    parser.option("config", type=file_name, metavar="FILE")
    parser.option("log", metavar="LEVEL")
    parser.option("kinds")
    # These three are for a supervisor.
    for name in ("store", "instance", OPTION):
        parser.option(name)
    for name in ("help", "h", "version"):
        parser.option(name, action="store_true")
    return parser.parse(arguments)


def _parts(loaded: LoadedConfig, parsed: Namespace) -> list[Part]:
    """Return what to do.

    Raises:
        ConfigError: There is nothing to do.
    """
    config = loaded.config
    if not config.kafka.bus.enabled:
        raise ConfigError(
            "Kafka.Bus.Enabled is false: on the internal bus the broker makes the rows itself, "
            "and there is nothing for a projector to do"
        )
    kinds = config.projector.kinds if parsed.kinds is None else _kinds(parsed.kinds)
    store_type = None if parsed.store is None else StoreType(parsed.store)
    parts = parts_of(config, kinds, store_type)
    if not parts:
        raise ConfigError("no view lives in a database, so there is nothing to do for VIEWS")
    return parts


def _kinds(text: str) -> list[ProjectorKind]:
    try:
        return [ProjectorKind(each.strip().upper()) for each in text.split(",")]
    except ValueError as exc:
        raise ConfigError(f"--kinds {text}: write VIEWS, SESSIONS or VIEWS,SESSIONS") from exc


def _tell_start(loaded: LoadedConfig) -> None:
    logger.info("MonsterMQ projector %s, configuration: %s", told_version(), loaded.source)
    for warning in loaded.warnings:
        logger.warning("%s", warning)


def _run_by_itself(
    loaded: LoadedConfig, parts: Sequence[Part], parsed: Namespace, signals: Signals
) -> int:
    section = loaded.config.projector
    place = Place(host=section.bind_address, port=section.port, key="Projector.Port")
    at = place if section.port else None
    instance = instance_of(loaded.config, of_monstermq=False)
    if len(parts) == 1:
        return run_part(loaded, parts[0], at, instance, signals)
    programs = [program_of(part, passed_on(parsed), instance) for part in parts]
    return run_process(loaded, partial(serve, programs, at, PAGE, signals))


def passed_on(parsed: Namespace) -> list[str]:
    """Return the options that every process of a command is given."""
    options = []
    for name in ("config", "log"):
        value = getattr(parsed, name)
        options += [] if value is None else [f"-{name}", str(value)]
    return options
