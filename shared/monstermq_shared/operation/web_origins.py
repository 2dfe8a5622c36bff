"""Which web pages may speak to a port of this machine.

Browsers let any page connect to any address, ``localhost`` included, and say in the Origin header
where the page comes from; that header is all that keeps the pages one visits away from the broker
of one's machine. What is admitted are fixed names and addresses of this host. Equality with the
Host header says nothing: a page whose own name has meanwhile been pointed at 127.0.0.1 (DNS
rebinding) has both alike.
"""

import re
import socket
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address
from pathlib import Path

from monstermq_shared.origins import (
    ANY_ORIGIN,
    OPAQUE_ORIGIN,
    Address,
    parse_address,
    parse_origin,
)

LOCALHOST = "localhost"

_LOOPBACK_IPV4 = IPv4Network("127.0.0.0/8")
_LOOPBACK_IPV6 = IPv6Address("::1")
_WEB_SCHEMES = ("http", "https")
_HOSTS_FILE = Path("/etc/hosts")
_HOSTS_SIZE_MAX = 1 << 20
_ANY_PORT = 9  # discard; nothing is sent to it
_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", re.ASCII)


class OriginPolicy:
    """Decides by the Origin header.

    Args:
        own_names: Host names of this machine; its addresses need not be named.
        admitted: Origins of others; ``*`` is any.
    """

    def __init__(
        self, own_names: Iterable[str] = (LOCALHOST,), admitted: Iterable[str] = ()
    ) -> None:
        self._own_names = frozenset(own_names)
        self._admitted = frozenset(admitted)

    def admits(self, origin: str) -> bool:
        """Whether a page that comes from there may connect."""
        if ANY_ORIGIN in self._admitted:
            return True
        try:
            parsed = parse_origin(origin)
        except ValueError:
            return False
        if str(parsed) in self._admitted:
            return True
        if parsed.scheme not in _WEB_SCHEMES:
            return False
        address = parsed.address
        if address is None:
            return parsed.host in self._own_names
        return is_own_address(address)

    def refusal(self, origin: str) -> str:
        """Return what a page is told that the WebSocket port refuses: the key that admits it."""
        try:
            place = str(parse_origin(origin))
        except ValueError:
            place = OPAQUE_ORIGIN if origin == OPAQUE_ORIGIN else ""
        if place in {"", OPAQUE_ORIGIN}:
            where = f"Origin is {place}" if place else "Origin is malformed"
            return f"WebSocket.Origins lets no page in whose {where}; '*' there admits any."
        return f"WebSocket.Origins does not admit {place}: add it there, or '*' for any."


def is_own_address(address: Address) -> bool:
    """Whether it is loopback, or an address one of this machine's interfaces has now.

    Not decided at the start: many machines get their address later, and another one some day.
    """
    if address == _LOOPBACK_IPV6 or address in _LOOPBACK_IPV4:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            # Nothing is sent: the kernel chooses by which address it would send, and towards one
            # of our own that is the address itself. Binding to it would tell less, because
            # net.ipv4.ip_nonlocal_bind allows any.
            probe.connect((str(address), _ANY_PORT))
            return parse_address(probe.getsockname()[0]) == address
    except OSError:  # no route, or no IPv6 at all
        return False


def own_names(*bind_addresses: str) -> frozenset[str]:
    """Return the names this machine has without asking anybody on the network.

    They are localhost, the machine's host name, its full name if the hosts file has it, and the
    names among ``bind_addresses``.
    """
    names = {LOCALHOST, *bind_addresses}
    host = socket.gethostname().lower()
    names.add(host)
    names.update(_full_names(host))
    return frozenset(name for name in map(str.lower, names) if _is_name(name))


def _full_names(host: str) -> set[str]:
    """Return the host name's longer forms that stand beside it in the hosts file.

    Others there are not ours: some point thousands of foreign names at 127.0.0.1 to block them.
    """
    try:
        with _HOSTS_FILE.open("rb") as file:
            text = file.read(_HOSTS_SIZE_MAX).decode("ascii", errors="replace").lower()
    except OSError:
        return set()
    lines = [line.partition("#")[0].split()[1:] for line in text.splitlines()]
    ours = (names for names in lines if host in names)
    return {name for names in ours for name in names if name.startswith(f"{host}.")}


def _is_name(text: str) -> bool:
    return parse_address(text) is None and _NAME.fullmatch(text) is not None
