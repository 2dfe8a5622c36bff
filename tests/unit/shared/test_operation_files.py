"""The limit of open files is raised, and out of descriptors clients are still turned away."""

import resource
import subprocess
import sys
from collections.abc import Iterator

import pytest

from monstermq_shared.operation import files
from monstermq_shared.operation.files import raise_file_limit, resident_bytes


@pytest.fixture
def limit() -> Iterator[tuple[int, int]]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_soft_limit_becomes_the_hard_one(limit: tuple[int, int]) -> None:
    _, hard = limit
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    assert raise_file_limit() == (min(hard, files.FILES_MAX), hard)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == raise_file_limit()


def test_a_limit_that_is_high_enough_is_left_alone(
    limit: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "FILES_MAX", 100)
    assert raise_file_limit() == limit


def test_resident_memory_is_that_of_this_process() -> None:
    before = resident_bytes()
    held = bytearray(64 * 1024 * 1024)
    held[::4096] = b"x" * len(held[::4096])
    assert 0 < before < resident_bytes() <= before + 2 * len(held)


EXHAUSTED = """
import asyncio, errno, os, resource, socket
import uvloop

async def main():
    class Served(asyncio.Protocol):
        def connection_made(self, transport):
            transport.write(b"welcome")

    loop = asyncio.get_running_loop()
    server = await loop.create_server(Served, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    clients = [socket.socket() for _ in range(6)]
    for client in clients:
        client.setblocking(False)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    taken = []
    try:
        while True:
            taken.append(os.dup(0))
    except OSError as exc:
        assert exc.errno == errno.EMFILE
    *turned_away, served = clients
    for client in turned_away:
        await loop.sock_connect(client, address)
    assert [await loop.sock_recv(client, 7) for client in turned_away] == [b""] * 5
    for descriptor in taken:
        os.close(descriptor)
    await loop.sock_connect(served, address)
    assert await loop.sock_recv(served, 7) == b"welcome"
    print("turned away, and went on")

uvloop.run(asyncio.wait_for(main(), 20))
"""


def test_out_of_descriptors_clients_are_turned_away_and_later_ones_served() -> None:
    # In a process of its own, since this one needs its descriptors.
    command = [sys.executable, "-c", EXHAUSTED]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "turned away, and went on\n", "")
