"""Real PostgreSQL servers on loopback that a test may stop, kill and freeze, then throw away.

The server refuses to run as root, so root starts it as Debian's user ``postgres``. Its folder is
therefore not below pytest's, which only root may enter.
"""

import atexit
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Literal, Self
from urllib.parse import quote

import asyncpg
import psutil
from tests.support.broker import LOOPBACK, TICK_S, free_ports
from tests.support.certificates import CertificateAuthority, Identity

SUPERUSER = "postgres"
ROLE, PASSWORD = "system", "manager"
"""The README's role; it owns the databases it is given and has no other rights."""

START_S = 60.0
STOP_S = 60.0
STATEMENT_S = 60.0

_PACKAGED = "/usr/lib/postgresql/*/bin/initdb"
_ICU = ["--locale-provider=icu", "--icu-locale=en"]
_STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_numbers = count(1)


class PostgresFailed(AssertionError):
    """The server ended, or did not become ready; the message carries its log."""


@cache
def binaries() -> Path:
    """Return the folder of the newest server's programs, of the search path and Debian's packages.

    Raises:
        AssertionError: There is no server on this machine.
    """
    found = list(Path("/").glob(_PACKAGED.lstrip("/")))
    on_path = shutil.which("initdb")
    if on_path is not None:
        found.append(Path(on_path).resolve())
    assert found, (
        "no PostgreSQL server: install the package postgresql (Debian, Ubuntu), or run "
        "scripts/install-test-tools as root"
    )
    return max((path.parent for path in found), key=server_version)


def server_version(folder: Path) -> tuple[int, ...]:
    """Return the version of the server whose programs are in a folder."""
    done = subprocess.run(
        [folder / "postgres", "--version"], capture_output=True, text=True, check=True
    )
    found = re.search(r"\d+(?:\.\d+)*", done.stdout)
    assert found is not None, done.stdout
    return tuple(map(int, found[0].split(".")))


class PostgresServer:
    """A server in a folder of its own; ``start`` it, and ``close`` it in the end.

    Superuser is ``postgres``, over the Unix socket in ``folder``. ``ROLE`` comes over TCP with its
    password. Text is ordered as ICU orders English, so that an ORDER BY without COLLATE "C" shows.

    Args:
        fsync: Whether commits survive a power loss. Without, tests that crash nothing are faster.
        settings: The server's own, by name, such as ``max_connections``; they take effect at the
            next start, so a test may change ``settings`` later.
        port: Where it listens; without, a free one. It stays the same over restarts.

    Attributes:
        folder: Its data, its socket and its log.
        port: Where it listens.
        settings: The settings of the next start.
    """

    def __init__(
        self,
        *,
        fsync: bool = True,
        settings: dict[str, str] | None = None,
        port: int | None = None,
    ) -> None:
        self.port = port or free_ports(1)[0]
        self.folder = _new_folder()
        self.settings = {
            "listen_addresses": LOOPBACK,
            "fsync": "on" if fsync else "off",
            **(settings or {}),
        }
        self._data = self.folder / "data"
        self._log_path = self.folder / "postgres.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._fill(self._data)

    def _fill(self, data: Path) -> None:
        subprocess.run(["cp", "-a", _template(), data], check=True)

    def start(self) -> Self:
        """Start it and return once it takes connections.

        Raises:
            PostgresFailed: It ended, or was not ready within ``START_S``.
        """
        assert self._process is None, "it is running"
        settings = {
            **self.settings,
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*as_server_user(), binaries() / "postgres", "-D", self._data, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C is for the tests
            )
        self._wait_until_ready()
        return self

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stop it.

        Args:
            mode: ``smart`` waits for all clients, ``fast`` disconnects them, ``immediate`` leaves
                without a checkpoint, so that the next start recovers.
        """
        process = self._running()
        process.send_signal(_STOP_SIGNALS[mode])
        process.wait(STOP_S)
        self._process = None

    def kill(self) -> None:
        """End it and all its backends with SIGKILL, as the kernel does when memory runs out."""
        process = self._running()
        self.freeze()  # or it would answer the first death with new backends
        backends = psutil.Process(process.pid).children(recursive=True)
        for backend in backends:
            with suppress(psutil.NoSuchProcess):
                backend.kill()
        process.kill()
        process.wait(STOP_S)
        self._process = None
        # Nobody may reap them here; a zombie has let go of the memory and the files.
        while any(map(_is_alive, backends)):
            psutil.wait_procs(backends, timeout=TICK_S)

    def restart(self) -> Self:
        """Stop it if it runs, and start it on the same port, with the settings of now."""
        if self.is_running:
            self.stop()
        return self.start()

    def freeze(self) -> None:
        """Stop all its processes where they are: connections stay, and nobody answers."""
        for process in self._family():
            with suppress(psutil.NoSuchProcess):
                process.suspend()

    def thaw(self) -> None:
        """Let all its processes go on."""
        for process in self._family():
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def close(self) -> None:
        """End it if it runs, and delete its folder."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder)

    def wait(self) -> int:
        """Return its exit status, once it has ended by itself."""
        return self._running().wait()

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process that all others of it come from, while it runs."""
        return self._running().pid

    @property
    def log(self) -> str:
        """What it wrote to its log, over all starts."""
        return self._log_path.read_text(encoding="utf-8", errors="replace")

    def psql(self, *commands: str, database: str = "postgres") -> str:
        """Run commands as superuser, each in a transaction of its own.

        Returns:
            The rows, one a line, columns parted by ``|``.

        Raises:
            AssertionError: One of them failed.
        """
        arguments = ["-XqAt", "--set=ON_ERROR_STOP=1", f"--host={self.folder}"]
        arguments += [f"--port={self.port}", f"--username={SUPERUSER}", f"--dbname={database}"]
        arguments += [f"--command={command}" for command in commands]
        done = subprocess.run(
            [binaries() / "psql", *arguments],
            capture_output=True,
            text=True,
            timeout=STATEMENT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.rstrip("\n")

    def create_database(self, name: str | None = None, options: str = "") -> str:
        """Make a database that belongs to ``ROLE`` and return its name.

        Args:
            name: Without, one that no other has.
            options: What follows in CREATE DATABASE, such as ``TEMPLATE template0 ENCODING ...``.
        """
        name = name or f"monster_{next(_numbers)}"
        self.psql(f'CREATE DATABASE "{name}" OWNER "{ROLE}" {options}')
        return name

    def drop_database(self, name: str) -> None:
        """Delete a database, with the connections that are still open."""
        self.psql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def url(
        self, database: str, *, user: str = ROLE, password: str = PASSWORD, host: str = LOOPBACK
    ) -> str:
        """Return the address of a database, with the credentials in it."""
        who = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return f"postgresql://{who}@{host}:{self.port}/{quote(database, safe='')}"

    def use_tls(
        self, identity: Identity, *, client_authority: CertificateAuthority | None = None
    ) -> None:
        """Serve TLS with a certificate, from the next start on.

        Args:
            identity: The server's.
            client_authority: Whose certificates log clients in, and nothing else does any more.
        """
        files = {"ssl_cert_file": identity.cert_file, "ssl_key_file": identity.key_file}
        if client_authority is not None:
            files["ssl_ca_file"] = client_authority.cert_file
            (self._data / "pg_hba.conf").write_text(
                "local all all trust\nhostssl all all all cert\n"
            )
        for setting, source in files.items():
            path = self.folder / source.name
            path.write_bytes(source.read_bytes())
            path.chmod(0o600)
            _give_away(path)
            self.settings[setting] = str(path)
        self.settings["ssl"] = "on"

    def _wait_until_ready(self) -> None:
        process = self._running()
        for _ in range(int(START_S / TICK_S)):
            if self._says_ready(process.pid):
                return
            try:
                process.wait(TICK_S)
            except subprocess.TimeoutExpired:
                continue
            break
        if process.poll() is None:
            self.kill()
        self._process = None
        raise PostgresFailed(f"the server did not start:\n{self.log}")

    def _says_ready(self, pid: int) -> bool:
        """Whether its lock file, which may still be that of a killed one, has its last line."""
        try:
            lines = (self._data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return False
        return len(lines) == 8 and lines[0] == str(pid) and lines[7].strip() == "ready"

    def _family(self) -> Iterator[psutil.Process]:
        """Yield the server's process, then the backends it has by then."""
        parent = psutil.Process(self._running().pid)
        yield parent
        yield from parent.children(recursive=True)

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it is not running"
        return self._process


class PostgresStandby(PostgresServer):
    """A hot standby that follows a running server by streaming; it can be read only.

    Args:
        primary: Whom it follows.
        name: What ``synchronous_standby_names`` of the primary calls it.
        port: Where it listens; without, a free one.
    """

    def __init__(
        self, primary: PostgresServer, name: str = "standby", *, port: int | None = None
    ) -> None:
        self._primary = primary
        self._name = name
        super().__init__(settings={"cluster_name": name}, port=port)

    def _fill(self, data: Path) -> None:
        primary = self._primary
        source = f"host={primary.folder} port={primary.port} user={SUPERUSER}"
        _as_server(
            "pg_basebackup",
            f"--dbname={source} application_name={self._name}",
            "--write-recovery-conf",
            "--checkpoint=fast",
            f"--pgdata={data}",
        )

    def detach(self) -> None:
        """Let it follow no more; return once the primary knows, and goes on without it."""
        self.psql("ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
        while self._primary.psql("SELECT count(*) FROM pg_stat_replication") != "0":
            pass

    def promote(self) -> None:
        """Make it a server of its own, as a failover does; return once it takes writes."""
        self.psql("SELECT pg_promote()")


def both(*servers: PostgresServer) -> Callable[[str], str]:
    """Return the URL of a database on the first of some servers that takes writes, by its name."""
    hosts = ",".join(f"{LOOPBACK}:{server.port}" for server in servers)
    end = "targetServerType=primary&socketTimeout=4"
    return lambda name: f"postgresql://{ROLE}:{PASSWORD}@{hosts}/{name}?{end}"


async def fresh_schema(url: str) -> str:
    """Make an empty schema, which takes a hundredth of the time of a database; return its URL."""
    name = f"schema_{next(_numbers)}"
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"CREATE SCHEMA {name}")
    finally:
        await connection.close()
    return f"{url}?currentSchema={name}"


@cache
def _template() -> Path:
    """Make the data folder of a new server, which each server copies: a tenth of the time."""
    folder = _new_folder()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    password_file = folder / "password"
    password_file.write_text(PASSWORD, encoding="utf-8")
    data = folder / "data"
    _as_server(
        "initdb",
        f"--pgdata={data}",
        f"--username={SUPERUSER}",
        "--auth-local=trust",
        "--auth-host=scram-sha-256",
        f"--pwfile={password_file}",
        "--encoding=UTF8",
        "--locale=C",
        "--no-sync",
        *(_ICU if server_version(binaries()) >= (15,) else []),
    )
    _as_server(
        *("postgres", "--single", "-F", "-D", str(data), "postgres"),
        commands=f"CREATE ROLE \"{ROLE}\" LOGIN PASSWORD '{PASSWORD}'",
    )
    return data


def _as_server(program: str, *arguments: str, commands: str = "") -> None:
    """Run one of the server's programs to its end."""
    done = subprocess.run(
        [*as_server_user(), binaries() / program, *arguments],
        input=commands,
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
        cwd="/",
    )
    if done.returncode != 0:
        raise PostgresFailed(f"{program}: {done.stderr}")


def as_server_user() -> list[str]:
    """Return what has to stand before a command so that the server does not run as root."""
    if os.getuid() != 0:
        return []
    return ["setpriv", f"--reuid={SUPERUSER}", f"--regid={SUPERUSER}", "--init-groups"]


def _new_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="monstermq-postgres-"))
    folder.chmod(0o755)
    _give_away(folder)
    return folder


def _give_away(path: Path) -> None:
    if os.getuid() == 0:
        shutil.chown(path, SUPERUSER, SUPERUSER)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
