"""What the tests need of the machine they run on; where it is missing, they fail and say so."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SYSTEM_FOLDER = "/usr/sbin"
"""Where Debian has mosquitto; on the search path of root only."""


def has_ipv6() -> bool:
    """Whether the kernel has IPv6, and has it switched on: a container's may be off."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(
    not has_ipv6(), reason="the kernel has no IPv6, or it is switched off: ::1 cannot be bound"
)


def program(name: str) -> str:
    """Return the path of a program that ``scripts/install-test-tools`` installs.

    Raises:
        AssertionError: It is not installed.
    """
    folders = os.environ.get("PATH", os.defpath)
    path = shutil.which(name, path=f"{folders}{os.pathsep}{SYSTEM_FOLDER}")
    assert path is not None, f"{name} is missing: run scripts/install-test-tools as root"
    return path


def freeze(pid: int) -> None:
    """Stop a child process where it is (SIGSTOP); return once all its threads stand still."""
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


@contextmanager
def mounted(folder: Path, *steps: list[str]) -> Iterator[None]:
    """Mount something on a folder for as long as the context lasts.

    Args:
        folder: Where.
        steps: The arguments of each call of ``mount``, without the folder.

    Raises:
        AssertionError: This process may not mount.
    """
    try:
        for step in steps:
            done = subprocess.run(
                ["mount", *step, str(folder)], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, (
                f"{done.stderr.strip()}: tests of full and of read-only disks have to be run by "
                "root with CAP_SYS_ADMIN; a container needs --cap-add SYS_ADMIN for that"
            )
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)
