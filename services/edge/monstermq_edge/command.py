"""The ``monstermq-edge`` command: one edge, for those who start each service by itself."""

import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from functools import partial

from monstermq_edge.app import run_broker
from monstermq_edge.processes import run_edges
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.operation.command_line import CommandLine, file_name
from monstermq_shared.operation.form import told_version
from monstermq_shared.operation.held import release
from monstermq_shared.operation.process import run_command
from monstermq_shared.supervisor.beginning import begin
from monstermq_shared.supervisor.supervised import OPTION

HELP = """\
usage: monstermq-edge [-config FILE] [-log LEVEL] [-cluster]
       monstermq-edge -help | --version

One edge: MQTT over TCP, TLS and WebSocket. On the Kafka bus any number of them serve
the clients, and monstermq-projector makes the rows. Edge.Processes of them share the
ports on one machine. Configuration, log levels and environment variables are those of
monstermq, see monstermq -help; monstermq -config FILE --check checks the file.
"""


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Do what the command line asks; return the exit status. Signals are held when it is called."""
    return run_command("monstermq-edge", partial(_execute, arguments, environ))


def _execute(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    parser = CommandLine("monstermq-edge")
    parser.option("config", type=file_name, metavar="FILE")
    parser.option("log", metavar="LEVEL")
    parser.option("cluster", action="store_true")
    parser.option(OPTION)
    parser.option("help", action="store_true")
    parser.option("h", action="store_true")
    parser.option("version", action="store_true")
    parsed = parser.parse(arguments)
    if parsed.help or parsed.h or parsed.version:
        release()
        sys.stdout.write(f"{told_version()}\n" if parsed.version else HELP)
        return ExitCode.OK
    loaded, level, signals, supervised = begin(parsed, environ, cluster=parsed.cluster)
    if supervised is None and loaded.config.edge.processes > 1:
        return run_edges(loaded, level, _passed_on(parsed), signals)
    return run_broker(loaded, level, signals, supervised)


def _passed_on(parsed: Namespace) -> list[str]:
    """Return the options that every process is given."""
    options = [] if parsed.config is None else ["-config", str(parsed.config)]
    options += [] if parsed.log is None else ["-log", parsed.log]
    return [*options, "-cluster"] if parsed.cluster else options
