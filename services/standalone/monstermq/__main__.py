"""The ``monstermq`` command."""

import os
import sys
from collections.abc import Mapping, Sequence

from monstermq.cli import Check, Run, Show, check, parse_arguments
from monstermq.databases import BackUp, Recover, Restore, back_up, recover, restore
from monstermq_edge.app import exit_status, run_broker
from monstermq_shared.config import load_config
from monstermq_shared.errors import MonsterError
from monstermq_shared.exit_codes import ExitCode


def main() -> None:
    """Do what the command line asks and end the process with its exit code."""
    try:
        code = _execute(sys.argv[1:], os.environ)
    except MonsterError as exc:
        sys.stderr.write(f"monstermq: {exc}\n")
        code = exit_status(exc)
    sys.exit(code)


def _execute(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    invocation = parse_arguments(arguments)
    match invocation:
        case Show():
            sys.stdout.write(invocation.text)
            return ExitCode.OK
        case Check():
            return check(invocation, environ, sys.stdout)
        case BackUp():
            return back_up(invocation, environ, sys.stdout)
        case Restore():
            return restore(invocation, environ, sys.stdout)
        case Recover():
            return recover(invocation, sys.stdout)
        case Run():
            loaded = load_config(invocation.config, environ, cluster=invocation.cluster)
            level = invocation.log_level
            return run_broker(loaded, loaded.config.log.level if level is None else level)


if __name__ == "__main__":
    main()
