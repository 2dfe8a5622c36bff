"""PgBouncer, the pooler, before a test's PostgreSQL server."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from tests.support.broker import LOOPBACK, TICK_S, free_ports
from tests.support.machine import program
from tests.support.postgres import PASSWORD, ROLE, SUPERUSER, PostgresServer, as_server_user

START_S = 30.0
STOP_S = 30.0


class PgBouncer:
    """A pooler on a port of its own, with the role of the server's databases; use it as a context.

    Args:
        server: Whose sessions it pools.
        mode: ``session``, ``transaction`` or ``statement``.
        pool_size: How many sessions it has for a database.
    """

    def __init__(self, server: PostgresServer, mode: str, *, pool_size: int = 5) -> None:
        self.port = free_ports(1)[0]
        # It refuses to run as root, as the server does.
        self._folder = Path(tempfile.mkdtemp(prefix="monstermq-pgbouncer-"))
        (self._folder / "users.txt").write_text(f'"{ROLE}" "{PASSWORD}"\n')
        (self._folder / "pgbouncer.ini").write_text(
            "\n".join(
                [
                    "[databases]",
                    f"* = host={LOOPBACK} port={server.port}",
                    "[pgbouncer]",
                    f"listen_addr = {LOOPBACK}",
                    f"listen_port = {self.port}",
                    f"pool_mode = {mode}",
                    f"default_pool_size = {pool_size}",
                    "auth_type = scram-sha-256",
                    f"auth_file = {self._folder}/users.txt",
                    "unix_socket_dir =",
                    "",
                ]
            )
        )
        if os.getuid() == 0:
            for path in (self._folder, *self._folder.iterdir()):
                shutil.chown(path, SUPERUSER, SUPERUSER)
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        """Return the address of one of the server's databases through the pooler."""
        return f"postgresql://{ROLE}:{PASSWORD}@{LOOPBACK}:{self.port}/{database}"

    def __enter__(self) -> Self:
        log_path = self._folder / "pgbouncer.log"
        with log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [*as_server_user(), program("pgbouncer"), self._folder / "pgbouncer.ini"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
            )
        said = ""
        for _ in range(int(START_S / TICK_S)):
            said = log_path.read_text(encoding="utf-8", errors="replace")
            if "process up" in said:
                return self
            try:
                self._process.wait(TICK_S)
            except subprocess.TimeoutExpired:
                continue
            break
        self.__exit__()
        raise AssertionError(f"PgBouncer did not start:\n{said}")

    def __exit__(self, *_exc: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_S)
        shutil.rmtree(self._folder)
