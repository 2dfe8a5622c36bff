"""Which web pages may open a WebSocket: this machine's own, and those that are named."""

import socket
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from monstermq_shared.operation import web_origins as origins
from monstermq_shared.operation.web_origins import OriginPolicy, is_own_address, own_names

HOSTS = """\
127.0.0.1 localhost ads.example
127.0.1.1 Pi.home.lan pi   # as Debian writes it
0.0.0.0 pi.tracker.example
192.0.2.7 other.lan other pi.other
# 127.0.1.1 pi.comment pi
"""


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost",
        "https://localhost:9464",
        "http://LOCALHOST:3000",
        "http://127.0.0.1:9464",
        "http://127.255.1.2",
        "http://[::1]:9464",
        "http://pi:1880",
    ],
)
def test_a_page_of_this_machine_may_come_from_any_port(origin: str) -> None:
    assert OriginPolicy({"localhost", "pi"}).admits(origin)


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "NULL",
        "",
        "*",
        "file://",
        "file:///home/me/page.html",
        "https://evil.example",
        "http://localhost.evil.example",
        "http://evil.example.localhost",
        "http://notlocalhost",
        "http://localhost.",
        "http://localhost@evil.example",
        "http://evil.example:80@localhost",
        "http://localhost, http://evil.example",
        "http://pi.evil.example",
        "ftp://localhost",
        "ws://localhost",
        "javascript://localhost",
        "chrome-extension://localhost",
        "http://128.0.0.1",
        "http://0.0.0.0",
        "http://[::]",
        "http://[::2]",
        "http://[::ffff:192.0.2.1]",
        "http://127.0.0.1.evil.example",
        "http://127.0.0.1:9464.evil.example",
        "http://192.0.2.1",
        "http://224.0.0.1",
        "http://255.255.255.255",
        "http://[2001:db8::1]",
        "http://[ff02::1]",
    ],
)
def test_no_other_page_may_connect(origin: str) -> None:
    assert not OriginPolicy({"localhost", "pi"}).admits(origin)


def test_the_list_opens_to_exactly_what_it_names_and_keeps_out_no_page_of_this_machine() -> None:
    policy = OriginPolicy({"localhost"}, {"https://good.example", "http://good.example:8080"})
    for origin in ("https://good.example", "https://GOOD.example:443", "http://good.example:8080"):
        assert policy.admits(origin)
    for origin in (
        "http://good.example",
        "https://good.example:8443",
        "https://www.good.example",
        "https://good.example.evil.example",
        "https://good.example/",
        "null",
    ):
        assert not policy.admits(origin)
    assert policy.admits("http://localhost:3000")


@pytest.mark.parametrize("origin", ["null", "https://any.example", "file://", "anything"])
def test_a_star_opens_to_any_page(origin: str) -> None:
    assert OriginPolicy(admitted={"*"}).admits(origin)


@pytest.mark.parametrize(
    ("origin", "told"),
    [
        ("https://a.example", "WebSocket.Origins does not admit https://a.example: add it there"),
        ("null", "WebSocket.Origins lets no page in whose Origin is null"),
        ("http://a/<script>", "WebSocket.Origins lets no page in whose Origin is malformed"),
    ],
)
def test_a_refusal_says_which_key_opens_the_door(origin: str, told: str) -> None:
    assert OriginPolicy().refusal(origin).startswith(told)
    assert "'*'" in OriginPolicy().refusal(origin)


def test_an_address_is_own_if_an_interface_has_it() -> None:
    # What the kernel would send from, towards an address that is not ours.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no other interface than loopback")
        own = probe.getsockname()[0]
    assert is_own_address(IPv4Address(own))
    assert OriginPolicy(()).admits(f"http://{own}:9464")
    assert not is_own_address(IPv4Address("192.0.2.1"))
    assert not is_own_address(IPv6Address("2001:db8::1"))


def test_without_a_socket_only_loopback_is_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> socket.socket:
        raise OSError("no such address family")

    monkeypatch.setattr(socket, "socket", refuse)
    assert is_own_address(IPv6Address("::1"))
    assert not is_own_address(IPv6Address("2001:db8::1"))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine called Pi, with a hosts file."""
    hosts = tmp_path / "hosts"
    hosts.write_text(HOSTS, encoding="utf-8")
    monkeypatch.setattr(origins, "_HOSTS_FILE", hosts)
    monkeypatch.setattr(socket, "gethostname", lambda: "Pi")


@pytest.mark.usefixtures("machine")
def test_own_names_are_the_machines_and_those_it_binds_to(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_arguments: object) -> object:
        raise AssertionError("the network was asked")

    for name in ("getaddrinfo", "getfqdn", "gethostbyname", "gethostbyaddr"):
        monkeypatch.setattr(socket, name, ask)
    assert own_names("127.0.0.1", "::", "Broker.lan") == {
        "localhost",
        "pi",
        "pi.home.lan",
        "broker.lan",
    }


@pytest.mark.usefixtures("machine")
def test_without_a_hosts_file_the_host_name_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origins, "_HOSTS_FILE", Path("/nonexistent"))
    assert own_names() == {"localhost", "pi"}
