"""The ``monstermq-mcp`` command: the MCP server by itself, or standard input to a running one."""

import asyncio
import logging
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial

from monstermq_mcp.forwarding import checked_url, forward_standard_input
from monstermq_mcp.places import url_of
from monstermq_mcp.process import run_server
from monstermq_mcp.tokens import Tokens
from monstermq_shared.config import load_config
from monstermq_shared.errors import ConfigError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.operation.command_line import CommandLine, file_name
from monstermq_shared.operation.form import told_version
from monstermq_shared.operation.held import release
from monstermq_shared.operation.logging import configure_logging
from monstermq_shared.operation.process import run_command
from monstermq_shared.supervisor.beginning import begin
from monstermq_shared.supervisor.supervised import OPTION

logger = logging.getLogger(__name__)

HELP = """\
usage: monstermq-mcp [-config FILE] [-log LEVEL]
       monstermq-mcp --stdio [--url URL] [-config FILE]
       monstermq-mcp -help | --version

The MCP server, beside the edges and projectors of a Kafka bus. On the internal bus the
broker runs it itself.

  --stdio            forward standard input and output to the server that runs, for
                     clients that start their servers themselves; opens no database
  --url URL          where it runs; else as the configuration says

Configuration, log levels and environment variables are those of
monstermq, see monstermq -help; monstermq -config FILE --check checks the file.
"""


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Do what the command line asks; return the exit status. Signals are held when it is called."""
    return run_command("monstermq-mcp", partial(_execute, arguments, environ))


def _execute(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    parsed = _parse(arguments)
    if parsed.help or parsed.h or parsed.version:
        release()
        sys.stdout.write(f"{told_version()}\n" if parsed.version else HELP)
        return ExitCode.OK
    if parsed.stdio:
        return _forward(parsed, environ)
    if parsed.url is not None:
        raise ConfigError("--url is for --stdio")
    return _serve(parsed, environ)


def _parse(arguments: Sequence[str]) -> Namespace:
    parser = CommandLine("monstermq-mcp")
    parser.option("config", type=file_name, metavar="FILE")
    parser.option("log", metavar="LEVEL")
    parser.option("url", metavar="URL")
    parser.option(OPTION)
    for name in ("stdio", "help", "h", "version"):
        parser.option(name, action="store_true")
    return parser.parse(arguments)


def _forward(parsed: Namespace, environ: Mapping[str, str]) -> int:
    release()
    url = None if parsed.url is None else checked_url(parsed.url)
    config = load_config(parsed.config, environ).config
    if url is None and not config.mcp.runs:
        raise ConfigError(
            "there is no server to forward to: set MCP.Enabled to true, or give --url"
        )
    configure_logging(logging.WARNING, config.log.format, "")
    tokens = Tokens.from_config(config.mcp)
    forwarding = forward_standard_input(url or url_of(config), tokens.write or tokens.read)
    with suppress(KeyboardInterrupt):
        asyncio.run(forwarding)
    return ExitCode.OK


def _serve(parsed: Namespace, environ: Mapping[str, str]) -> int:
    begun = begin(parsed, environ)
    loaded, signals, supervised = begun.loaded, begun.signals, begun.supervised
    config = loaded.config
    configure_logging(begun.log_level, config.log.format, begun.log_name)
    if not config.mcp.runs:
        raise ConfigError("there is nothing to serve: set MCP.Enabled to true and give MCP.Port")
    if not config.kafka.bus.enabled:
        raise ConfigError(
            "Kafka.Bus.Enabled is false: on the internal bus the broker runs the MCP server "
            "itself; start monstermq"
        )
    if supervised is None:
        logger.info("MonsterMQ MCP %s, configuration: %s", told_version(), loaded.source)
        for warning in loaded.warnings:
            logger.warning("%s", warning)
    return run_server(loaded, signals, supervised)
