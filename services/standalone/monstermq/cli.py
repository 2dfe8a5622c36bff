"""The command line: the original's spelling, with one dash or two, and nothing else in silence."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from monstermq.cli_rebuild import parse_rebuild, parse_verify
from monstermq.cli_tools import TOOLS_HELP, parse_replay, parse_tail
from monstermq.invocations import (
    LISTED_MAX,
    Adopt,
    BackUp,
    Initialize,
    ListQuarantine,
    MendQuarantine,
    Rebuild,
    Recover,
    Replay,
    Restore,
    ShowQuarantine,
    SkipGap,
    Status,
    Tail,
    Verify,
)
from monstermq_edge.network.tls import build_ssl_context, certificate_warnings
from monstermq_edge.settings import tls_settings
from monstermq_mcp.tokens import Tokens
from monstermq_shared.config import (
    BrokerConfig,
    LoadedConfig,
    StoreType,
    check_runnable,
    load_config,
)
from monstermq_shared.config.checks import postgres_connection, stores_of
from monstermq_shared.config.postgres_urls import describe
from monstermq_shared.errors import ConfigError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.kafka.settings import KafkaSettings
from monstermq_shared.operation.command_line import CommandLine, file_name, level_of, whole_number
from monstermq_shared.operation.form import told_version

HELP = (
    """\
usage: monstermq [-config FILE] [-log LEVEL] [-cluster] [--check]
       monstermq db backup FILE [--force] [-config FILE]
       monstermq db restore BACKUP [-config FILE]
       monstermq db recover FILE NEWFILE
       monstermq db init [-config FILE]
       monstermq db adopt [-config FILE]
       monstermq db skip-gap [-config FILE]
       monstermq status [--json] [--watch] [-config FILE]
       monstermq rebuild TABLE [--anew | --discard] [--json] [-config FILE]
       monstermq verify [TABLE ...] [--json] [--limit N] [-config FILE]
       monstermq quarantine list [--limit N] [--json] [-config FILE]
       monstermq quarantine show POSITION [--json] [-config FILE]
       monstermq quarantine retry|discard POSITION|all [--json] [-config FILE]
       monstermq tail [FILTER] [--from T] [--to T] [--json] [-config FILE]
       monstermq replay FILTER --from T [--to T] [-config FILE], or replay FILE
       monstermq -help | --version

  -config FILE       the configuration; else the file GATEWAY_CONFIG names, else
                     config.yaml in the working directory, else an embedded default:
                     TCP 1883, WS 9000 and MCP 3000 on localhost, SQLite in
                     data/monstermq.db
  -log LEVEL         ALL, FINEST, FINER, FINE, CONFIG, INFO (default), WARNING, SEVERE,
                     OFF, or a number of java.util.logging
  -cluster           run as a node of a cluster
  --check            check the configuration and its certificates, without starting, and
                     exit with 0, 2 (configuration) or 8 (certificates); whether the
                     ports are free and the database opens, only a start tells
  --version          print the version and exit
  -h, -help          print this and exit

  db backup FILE     write a consistent copy of the SQLite database, also while the
                     broker runs; an older MonsterMQ database there is replaced, any
                     other file only with --force; for what is in PostgreSQL it tells
                     how to call pg_dump
  db restore BACKUP  put a copy of a backup in the database's place, while no broker
                     runs; the old database is kept under another name
  db recover FILE NEWFILE
                     copy what can be read of a damaged database into a new one; exit
                     with 0 if that is everything, 1 if something is missing
  db init            make the PostgreSQL role that may only read (Postgres.ReadUser) for SQL of
                     others, and indexes that are missing; also while a broker runs
  db adopt           give the PostgreSQL database, whose rows are of another log, to the
                     log of this configuration; tells what that means for the rows
  db skip-gap        on a Kafka bus: let the sessions go on from their rows where Kafka has
                     deleted facts before a projector had read them; tells which

  status             on a Kafka bus: partitions and their ends, how far each table is and
                     how old what it lacks, the edges that are alive and their clients; with
                     --watch again and again, until Ctrl-C
  rebuild TABLE      on a Kafka bus: make a table anew from the log beside the one in use, and put
                     it in its place: retained, lastval:GROUP or archive:GROUP. What is older
                     than the log is kept. An earlier call that did not end goes on; with
                     --anew it is dropped, with --discard it is dropped and that is all
  verify [TABLE ...] on a Kafka bus: fold the log again and compare the tables with that: all, or
                     retained, lastval:GROUP, archive:GROUP; tells the first N (1000) differences
                     and exits with 1 if there is one
  quarantine list    what stands in the log and is no record, the newest first
  quarantine show POSITION
                     what is kept of one, such as 3:17 or sessions/3:17
  quarantine retry POSITION|all
                     append it as a message of now, if it is one after all, and take it out
  quarantine discard POSITION|all
                     forget it, or everything

"""
    + TOOLS_HELP
    + """
Every option may be written with one dash or two. Environment variables MONSTERMQ_<KEY>
override the configuration, two underscores before a section's key: MONSTERMQ_SQLITE__PATH.
"""
)


_LISTED_MAX = 100_000
"""As many rows as quarantine can have, and more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Start the broker.

    Attributes:
        log_level: Python's, None if the configuration decides.
        log_text: The same as it was written.
    """

    config: Path | None
    log_level: int | None
    cluster: bool
    log_text: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Check the configuration and exit."""

    config: Path | None
    cluster: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Show:
    """Print a text and exit."""

    text: str


Operation = (
    BackUp
    | Restore
    | Recover
    | Initialize
    | Adopt
    | SkipGap
    | Status
    | ListQuarantine
    | ShowQuarantine
    | MendQuarantine
    | Tail
    | Replay
    | Rebuild
    | Verify
)

Invocation = Run | Check | Operation | Show
"""What a command line asks for."""


def parse_arguments(arguments: Sequence[str]) -> Invocation:
    """Read a command line, without the program's name.

    Raises:
        ConfigError: It has an argument nobody knows, or one without its value; the message names
            the nearest one there is.
    """
    # As in the original, help is looked for before anything else.
    if not {"-h", "--h", "-help", "--help"}.isdisjoint(arguments):
        return Show(text=HELP)
    if not {"-version", "--version"}.isdisjoint(arguments):
        return Show(text=f"monstermq {told_version()}\n")
    command = _COMMANDS.get(arguments[0]) if arguments else None
    return _parse_run(arguments) if command is None else command(arguments[1:])


def check(invocation: Check, environ: Mapping[str, str], output: TextIO) -> ExitCode:
    """Say whether the broker would start with this configuration, and what it would warn of.

    Certificates are loaded; no port and no database is opened, and no server is asked.

    Raises:
        ConfigError: It would not.
        StartupError: A certificate, key or CA file cannot be used.
    """
    loaded = load_config(invocation.config, environ, cluster=invocation.cluster)
    try:
        warnings = [*loaded.warnings, *check_runnable(loaded)]
    except ConfigError as exc:
        raise ConfigError(
            f"{loaded.source} is well-formed, but the broker would not start:\n{exc}"
        ) from exc
    warnings += _certificate_warnings(loaded.config)
    Tokens.from_config(loaded.config.mcp)  # reads their files
    if _uses_kafka(loaded.config):
        KafkaSettings.from_config(loaded.config).client_options()  # reads its certificates
    output.write(f"OK: {loaded.source}\n")
    output.writelines(f"  {line}\n" for line in summary(loaded))
    output.writelines(f"warning: {warning}\n" for warning in warnings)
    return ExitCode.OK


def _certificate_warnings(config: BrokerConfig) -> list[str]:
    """Load what the TLS ports would, if there are any."""
    if not (config.tcps or config.wss):
        return []
    tls = tls_settings(config.tls)
    build_ssl_context(tls)
    return certificate_warnings(tls, now=datetime.now(UTC))


def _uses_kafka(config: BrokerConfig) -> bool:
    kafka = config.kafka
    stores = {store for _, store in stores_of(config)}
    return kafka.bus.enabled or bool(kafka.ingress) or StoreType.KAFKA in stores


def summary(loaded: LoadedConfig) -> list[str]:
    """Describe a configuration in a few lines: ports, stores, archive groups, servers."""
    config = loaded.config
    ports = {"TCP": config.tcp, "TCPS": config.tcps, "WS": config.ws, "WSS": config.wss}
    listening = ", ".join(f"{name} {port}" for name, port in ports.items() if port)
    lines = [
        f"listens on {config.bind_address}: {listening}",
        f"sessions in {config.session_store_type}, "
        f"retained messages in {config.retained_store_type}",
    ]
    lines += [
        f"archive group {group.name}: {', '.join(group.topic_filter) or 'everything'}, "
        f"last values in {group.last_val_type}, history in {group.archive_type}"
        for group in config.archive_groups
        if group.enabled
    ]
    lines += [
        f"records of the Kafka topic {at.topic} become messages" for at in config.kafka.ingress
    ]
    if config.mcp.runs:
        shown = "reads need a token" if config.mcp.asks_for_token else "everybody reads"
        shown += ", publishing needs the write token" if config.mcp.allow_publish else ""
        address = config.mcp.bind_address or config.bind_address
        lines.append(f"MCP on {address}: port {config.mcp.port}, {shown}")
    used = {store for _, store in stores_of(config)}
    if StoreType.SQLITE in used:
        lines.append(f"SQLite in {config.sqlite.path}")
    if StoreType.POSTGRES in used:
        postgres = postgres_connection(config)
        lines.append(f"PostgreSQL at {describe(postgres)}, as {postgres.user}")
    if _uses_kafka(config):
        bus = config.kafka.bus
        all_of_it = f", every message through topic {bus.topic}" if bus.enabled else ""
        lines.append(f"Kafka at {config.kafka.servers}{all_of_it}")
    return lines


def _parse_run(arguments: Sequence[str]) -> Run | Check:
    parser = CommandLine("monstermq")
    parser.option("config", type=file_name, metavar="FILE")
    parser.option("log", metavar="LEVEL")
    parser.option("cluster", action="store_true")
    parser.option("check", action="store_true")
    parsed = parser.parse(arguments)
    log_level = level_of(parsed.log)
    if parsed.check:
        return Check(config=parsed.config, cluster=parsed.cluster)
    return Run(
        config=parsed.config, log_level=log_level, cluster=parsed.cluster, log_text=parsed.log
    )


def _parse_status(arguments: Sequence[str]) -> Status:
    parser = CommandLine("monstermq")
    parser.option("config", type=file_name, metavar="FILE")
    parser.option("json", action="store_true")
    parser.option("watch", action="store_true")
    parsed = parser.parse(arguments)
    return Status(config=parsed.config, as_json=parsed.json, watch=parsed.watch)


def _parse_quarantine(
    arguments: Sequence[str],
) -> ListQuarantine | ShowQuarantine | MendQuarantine:
    command = arguments[0] if arguments else None
    parser = CommandLine("monstermq")
    parser.option("config", type=file_name, metavar="FILE")
    parser.option("json", action="store_true")
    if command == "list":
        parser.option("limit", type=_listed, metavar="N", default=LISTED_MAX)
        parsed = parser.parse(arguments[1:])
        return ListQuarantine(config=parsed.config, limit=parsed.limit, as_json=parsed.json)
    if command == "show":
        parser.add_argument("position", metavar="POSITION")
        parsed = parser.parse(arguments[1:])
        return ShowQuarantine(config=parsed.config, position=parsed.position, as_json=parsed.json)
    if command in {"retry", "discard"}:
        parser.add_argument("position", metavar="POSITION or all")
        parsed = parser.parse(arguments[1:])
        position = None if parsed.position == "all" else parsed.position
        return MendQuarantine(
            config=parsed.config,
            position=position,
            retry=command == "retry",
            as_json=parsed.json,
        )
    raise ConfigError(
        "the commands for what is no record are: monstermq quarantine list, "
        "monstermq quarantine show POSITION, monstermq quarantine retry POSITION|all, "
        "monstermq quarantine discard POSITION|all"
    )


def _listed(text: str) -> int:
    return whole_number(text, 1, _LISTED_MAX)


def _parse_database_command(arguments: Sequence[str]) -> Operation:
    command = arguments[0] if arguments else None
    parser = CommandLine("monstermq")
    if command == "recover":
        parser.add_argument("source", type=file_name, metavar="FILE")
        parser.add_argument("target", type=file_name, metavar="NEWFILE")
        parsed = parser.parse(arguments[1:])
        return Recover(source=parsed.source, target=parsed.target)
    parser.option("config", type=file_name, metavar="FILE")
    if command == "backup":
        parser.add_argument("target", type=file_name, metavar="FILE")
        parser.option("force", action="store_true")
        parsed = parser.parse(arguments[1:])
        return BackUp(config=parsed.config, target=parsed.target, force=parsed.force)
    if command == "init":
        return Initialize(config=parser.parse(arguments[1:]).config)
    if command == "adopt":
        return Adopt(config=parser.parse(arguments[1:]).config)
    if command == "skip-gap":
        return SkipGap(config=parser.parse(arguments[1:]).config)
    if command == "restore":
        parser.add_argument("backup", type=file_name, metavar="BACKUP")
        parsed = parser.parse(arguments[1:])
        return Restore(config=parsed.config, backup=parsed.backup)
    raise ConfigError(
        "the commands for databases are: monstermq db backup FILE, monstermq db restore BACKUP, "
        "monstermq db recover FILE NEWFILE, monstermq db init, monstermq db adopt, "
        "monstermq db skip-gap"
    )


_COMMANDS: Mapping[str, Callable[[Sequence[str]], Operation]] = {
    "db": _parse_database_command,
    "status": _parse_status,
    "quarantine": _parse_quarantine,
    "tail": parse_tail,
    "replay": parse_replay,
    "rebuild": parse_rebuild,
    "verify": parse_verify,
}
"""By the first word of the command line."""
