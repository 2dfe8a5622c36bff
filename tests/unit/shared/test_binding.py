"""Ports: which addresses they take, and what is said when they cannot be had."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import pytest
from tests.support.broker import LOOPBACK, free_ports
from tests.support.machine import needs_ipv6

from monstermq_edge.network.listeners import Listeners, Port
from monstermq_shared.errors import StartupError
from monstermq_shared.exit_codes import ExitCode
from monstermq_shared.operation.binding import client_host, listen, url_host

WITHIN_S = 30


def refusal(key: str, host: str, number: int) -> str:
    with pytest.raises(StartupError) as caught:
        listen(key, host, number, backlog=1)
    assert caught.value.exit_code == ExitCode.PORT_IN_USE
    return str(caught.value)


def port(number: int, key: str = "TCP") -> Port:
    return Port(
        key=key,
        number=number,
        protocol=asyncio.Protocol,
        tls=None,
        url="mqtt://{host}:{port}",
    )


@pytest.mark.parametrize(
    ("key", "variable"),
    [
        ("TCP", "MONSTERMQ_TCP"),
        ("WSS", "MONSTERMQ_WSS"),
        ("Metrics.Port", "MONSTERMQ_METRICS__PORT"),
    ],
)
def test_a_port_in_use_is_named_with_the_key_and_the_variable_for_another(
    key: str, variable: str
) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        number = taken.getsockname()[1]
        told = refusal(key, LOOPBACK, number)
    assert told.startswith(f"{key}: port {number} on {LOOPBACK} is used by another process")
    other = number + 1 if number < 65_535 else 65_534
    assert told.endswith(f"or set {key} ({variable}={other})")


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_an_address_of_another_machine_is_refused_with_its_key(host: str) -> None:
    assert "BindAddress is not an address of this machine" in refusal("TCP", host, 0)
    assert "Metrics.BindAddress is not an address of this" in refusal("Metrics.Port", host, 0)


@pytest.mark.parametrize("host", ["no such host", "::zz", "x" * 200])
def test_a_host_nobody_knows_is_refused(host: str) -> None:
    assert "BindAddress is neither an address nor a name" in refusal("TCP", host, 0)


def test_an_address_of_a_kind_the_kernel_does_not_have_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_arguments: object, **_settings: object) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr("socket.create_server", refuse)
    assert "BindAddress is not an address of this machine" in refusal("TCP", "::1", 0)


def test_a_port_below_1024_says_which_right_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_settings: object) -> socket.socket:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("socket.create_server", refuse)
    told = refusal("WSS", LOOPBACK, 443)
    assert "CAP_NET_BIND_SERVICE (docs/operation.md)" in told
    assert told.endswith("or set WSS (MONSTERMQ_WSS=8443)")


@needs_ipv6
def test_two_colons_take_both_kinds_of_address() -> None:
    (listener,) = listen("TCP", "::", 0, backlog=5)
    with closing(listener):
        number = listener.getsockname()[1]
        for host in (LOOPBACK, "::1"):
            socket.create_connection((host, number), timeout=WITHIN_S).close()


@needs_ipv6
def test_another_address_takes_its_own_kind_alone() -> None:
    (listener,) = listen("TCP", "::1", 0, backlog=5)
    with closing(listener):
        number = listener.getsockname()[1]
        socket.create_connection(("::1", number), timeout=WITHIN_S).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((LOOPBACK, number), timeout=WITHIN_S)


@needs_ipv6
@pytest.mark.parametrize("name", ["localhost", "LocalHost"])
def test_localhost_is_loopback_of_both_kinds_on_one_port(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(*_arguments: object, **_settings: object) -> list[object]:
        raise AssertionError("the name was looked up")

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", look_up)
        listeners = listen("TCP", name, 0, backlog=5)
    with contextlib.ExitStack() as opened:
        for listener in listeners:
            opened.enter_context(listener)
        addresses = [listener.getsockname()[:2] for listener in listeners]
        number = addresses[0][1]
        assert addresses == [(LOOPBACK, number), ("::1", number)]
        for host in (LOOPBACK, "::1"):
            socket.create_connection((host, number), timeout=WITHIN_S).close()


@pytest.mark.parametrize("without", [errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT])
def test_localhost_is_127_0_0_1_where_there_is_no_ipv6(
    monkeypatch: pytest.MonkeyPatch, without: int
) -> None:
    create = socket.create_server

    def create_ipv4(address: Any, *, family: int = socket.AF_INET, **kw: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(without, "no IPv6 here")
        return create(address, family=family, **kw)

    monkeypatch.setattr(socket, "create_server", create_ipv4)
    (listener,) = listen("TCP", "localhost", 0, backlog=5)
    with closing(listener):
        assert listener.getsockname()[0] == LOOPBACK


@needs_ipv6
@pytest.mark.parametrize(("host", "family"), [(LOOPBACK, socket.AF_INET), ("::1", socket.AF_INET6)])
def test_a_port_that_another_program_has_on_one_loopback_is_in_use(
    host: str, family: socket.AddressFamily
) -> None:
    """Otherwise half of the clients that go to localhost would end up there."""
    (number,) = free_ports(1)
    with socket.create_server((host, number), family=family):
        told = refusal("TCP", "localhost", number)
    assert told.startswith(f"TCP: port {number} on localhost is used by another process")
    for listener in listen("TCP", "localhost", number, backlog=1):  # nothing was left open
        listener.close()


@pytest.mark.parametrize("host", [LOOPBACK, "localhost"])
def test_a_port_can_be_shared_by_those_alone_who_say_so(host: str) -> None:
    (number,) = free_ports(1)
    with contextlib.ExitStack() as opened:
        for _ in range(2):
            for listener in listen("TCP", host, number, backlog=1, shared=True):
                opened.enter_context(listener)
        assert "is used by another process" in refusal("TCP", host, number)
    for listener in listen("TCP", host, number, backlog=1):
        listener.close()


def test_an_ipv6_address_stands_in_brackets_in_a_url() -> None:
    assert [url_host(host) for host in ("::", "127.0.0.1", "host")] == ["[::]", "127.0.0.1", "host"]


def test_clients_of_this_machine_reach_every_interface_by_localhost() -> None:
    bound = ("0.0.0.0", "::", "::1", "127.0.0.1", "host")
    reached = ["localhost", "localhost", "[::1]", "127.0.0.1", "host"]
    assert list(map(client_host, bound)) == reached


@pytest.fixture
async def opened() -> AsyncIterator[list[Listeners]]:
    """Listeners to close at the end."""
    opened: list[Listeners] = []
    yield opened
    for listeners in opened:
        await listeners.close()


@needs_ipv6
async def test_all_ports_are_opened_and_their_urls_told(opened: list[Listeners]) -> None:
    first, second = free_ports(2)
    listeners = Listeners("::", [port(first), port(second, "WS")], handshake_s=1)
    opened.append(listeners)
    await listeners.open()
    assert listeners.urls() == [f"mqtt://[::]:{first}", f"mqtt://[::]:{second}"]
    for number in (first, second):
        for host in (LOOPBACK, "::1"):
            _, writer = await asyncio.open_connection(host, number)
            writer.close()


async def test_if_one_port_is_taken_none_is_open(opened: list[Listeners]) -> None:
    first, taken = free_ports(2)
    with socket.create_server((LOOPBACK, taken)):
        second = port(taken, "WS")
        listeners = Listeners(LOOPBACK, [port(first), second], handshake_s=1)
        opened.append(listeners)
        with pytest.raises(StartupError, match="WS: port"):
            await listeners.open()
    socket.create_server((LOOPBACK, first)).close()
    await listeners.open()
    assert listeners.urls()[0] == f"mqtt://localhost:{first}"
