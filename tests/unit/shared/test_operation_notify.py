"""The service manager is told, if there is one, and nothing breaks if it cannot be."""

import os
import socket
from pathlib import Path

import pytest

from monstermq_shared.operation.notify import READY, STOPPING, notify


def manager(address: str) -> socket.socket:
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    channel.settimeout(30)
    channel.bind(address)
    return channel


def test_states_arrive_at_a_socket_with_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with manager(address) as channel:
        assert notify(READY)
        assert notify(STOPPING)
        assert [channel.recv(100), channel.recv(100)] == [b"READY=1", b"STOPPING=1"]


def test_states_arrive_at_an_abstract_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"monstermq-test-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
    with manager("\0" + name) as channel:
        assert notify(READY)
        assert channel.recv(100) == b"READY=1"


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "@", "x" * 500])
def test_nobody_to_tell_is_no_error(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert not notify(READY)


def test_without_a_service_manager_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify(READY)


def test_a_manager_that_does_not_read_does_not_stop_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with manager(address):
        sent = 0
        while notify(READY):
            sent += 1
            assert sent < 100_000
