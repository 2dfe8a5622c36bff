"""What the ``monstermq`` command does, by its command line."""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import TextIO, TypeAlias, cast

from monstermq.cli import Check, Operation, Run, Show, check, parse_arguments
from monstermq.companions import companions_of
from monstermq.invocations import (
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
from monstermq.stack import run_stack
from monstermq_edge.app import run_broker
from monstermq_shared.config import load_config
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.operation.held import release
from monstermq_shared.operation.process import run_command, settle_memory
from monstermq_shared.operation.signals import Signals

_Operate: TypeAlias = Callable[[Operation, Mapping[str, str], TextIO], ExitCode]

_OPERATIONS: Mapping[type[Operation], tuple[str, str]] = {
    BackUp: ("monstermq.databases", "back_up"),
    Restore: ("monstermq.databases", "restore"),
    Recover: ("monstermq.databases", "recover"),
    Initialize: ("monstermq.initializing", "initialize"),
    Adopt: ("monstermq.adopting", "adopt"),
    SkipGap: ("monstermq.skipping", "skip_gap"),
    Status: ("monstermq.status", "status"),
    ListQuarantine: ("monstermq.quarantine", "list_quarantine"),
    ShowQuarantine: ("monstermq.quarantine", "show_quarantine"),
    MendQuarantine: ("monstermq.quarantine_mending", "mend_quarantine"),
    Tail: ("monstermq.tailing", "tail"),
    Replay: ("monstermq.replaying", "replay"),
    Rebuild: ("monstermq.rebuilding", "rebuild"),
    Verify: ("monstermq.verifying", "verify"),
}
"""Where each command is, which is loaded when it is asked for: the driver of Kafka takes long."""


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Do what the command line asks; return the exit status.

    Signals are held when this is called: the broker takes them, every other command lets them act.
    """
    return run_command("monstermq", partial(_execute, arguments, environ))


def _execute(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    invocation = parse_arguments(arguments)
    if isinstance(invocation, Run):
        return _run(invocation, environ)
    try:
        release()
        return _serve_nobody(invocation, environ)
    except KeyboardInterrupt:
        # While it was loaded; what runs takes Ctrl-C itself.
        return ExitCode.INTERRUPTED


def _serve_nobody(invocation: Show | Check | Operation, environ: Mapping[str, str]) -> ExitCode:
    match invocation:
        case Show():
            sys.stdout.write(invocation.text)
            return ExitCode.OK
        case Check():
            return check(invocation, environ, sys.stdout)
        case _:
            return _operate(invocation, environ)


def _operate(invocation: Operation, environ: Mapping[str, str]) -> ExitCode:
    module, name = _OPERATIONS[type(invocation)]
    operate = cast("_Operate", getattr(import_module(module), name))
    # Millions of records come and go, and nearly all without the collector's help.
    settle_memory()
    return operate(invocation, environ, sys.stdout)


def _run(invocation: Run, environ: Mapping[str, str]) -> int:
    signals = Signals()
    signals.start()
    loaded = load_config(invocation.config, environ, cluster=invocation.cluster)
    given = invocation.log_level
    level = loaded.config.log.level if given is None else given
    if not loaded.config.kafka.bus.enabled:
        return run_broker(loaded, level, signals, companions=companions_of(loaded.config))
    options = [] if invocation.config is None else ["-config", str(invocation.config)]
    options += [] if invocation.log_text is None else ["-log", invocation.log_text]
    return run_stack(loaded, level, options, signals)
