"""Opening a port: every address of its host, both kinds of IP, and one wording for what fails."""

import errno
import os
import socket

from monstermq_shared.config.sections import ALL_INTERFACES
from monstermq_shared.errors import StartupError
from monstermq_shared.exit_codes import ExitCode

ALL_IPV6 = "::"
"""As ``BindAddress``: every interface, for IPv4 clients too."""

LOCALHOST = "localhost"
"""As an address to bind to: loopback of both kinds, without looking the name up (RFC 6761, 6.3)."""

_LOOPBACK_IPV4, _LOOPBACK_IPV6 = "127.0.0.1", "::1"
_NO_SUCH_ADDRESS = (
    errno.EADDRNOTAVAIL,
    errno.EAFNOSUPPORT,
)  # the latter without IPv6 in the kernel

PRIVILEGED_BELOW = 1024
"""Ports below this one may be opened by root, or with CAP_NET_BIND_SERVICE."""
PORT_MAX = 65_535


def listen(
    key: str, host: str, number: int, *, backlog: int, shared: bool = False
) -> list[socket.socket]:
    """Listen on every address of ``host``, or on none.

    Args:
        key: The configuration key of the port, for errors: ``TCP``, ``Metrics.Port``.
        host: An address or a host name. ``localhost`` is 127.0.0.1 and, where there is IPv6, ::1.
            Any other name is looked up, which blocks.
        number: The port; 0 takes a free one, of ``localhost`` the same for both.
        backlog: Connections the kernel holds until they are accepted.
        shared: Other processes of this user listen there too, if they say so as well: the kernel
            deals connections out (SO_REUSEPORT).

    Raises:
        StartupError: It is taken, or may not be opened; says what to do, and carries
            ``ExitCode.PORT_IN_USE``.
    """
    opened: list[socket.socket] = []
    try:
        if host.casefold() == LOCALHOST:
            _listen_on_loopback(opened, number, backlog, shared)
        else:
            _listen_on(opened, host, number, backlog, shared)
    except (OSError, UnicodeError) as exc:
        for listener in opened:
            listener.close()
        raise StartupError(
            f"{key}: port {number} on {host} {_why(key, number, exc)}",
            exit_code=ExitCode.PORT_IN_USE,
        ) from exc
    return opened


def _listen_on(
    opened: list[socket.socket], host: str, number: int, backlog: int, shared: bool
) -> None:
    found = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # A name can be listed twice with the same address; a dictionary keeps the order.
    for family, address in {(family, address): None for family, *_, address in found}:
        both = host == ALL_IPV6 and socket.has_dualstack_ipv6()
        opened.append(
            socket.create_server(
                # Sockets take the four parts of an IPv6 address as getaddrinfo gives them.
                (str(address[0]), *address[1:]),
                family=family,
                backlog=backlog,
                reuse_port=shared,
                dualstack_ipv6=both,
            )
        )


def _listen_on_loopback(
    opened: list[socket.socket], number: int, backlog: int, shared: bool
) -> None:
    """Listen on 127.0.0.1, and on ::1 unless this machine has no IPv6, or has it switched off.

    A client takes either for localhost. The hosts file is not asked: it often has only one.
    """
    ipv4 = socket.create_server((_LOOPBACK_IPV4, number), backlog=backlog, reuse_port=shared)
    opened.append(ipv4)
    address = (_LOOPBACK_IPV6, ipv4.getsockname()[1])
    try:
        opened.append(
            socket.create_server(
                address, family=socket.AF_INET6, backlog=backlog, reuse_port=shared
            )
        )
    except OSError as exc:
        if exc.errno not in _NO_SUCH_ADDRESS:
            raise


def url_host(address: str) -> str:
    """Return how an address is written in a URL: ``[::]`` (RFC 3986, 3.2.2)."""
    return f"[{address}]" if ":" in address else address


def client_host(address: str) -> str:
    """Return how a URL of clients on this machine names what listens on an address."""
    return LOCALHOST if address in {ALL_INTERFACES, ALL_IPV6} else url_host(address)


def _why(key: str, number: int, exc: OSError | UnicodeError) -> str:
    bind_address = f"{key.removesuffix('.Port')}.BindAddress" if "." in key else "BindAddress"
    if not isinstance(exc, OSError) or isinstance(exc, socket.gaierror):
        return f"cannot be opened: {bind_address} is neither an address nor a name that is known"
    match exc.errno:
        case errno.EADDRINUSE:
            return f"is used by another process: stop it, or set {_another(key, number)}"
        case errno.EACCES:
            return (
                "may not be opened by this user: ports below 1024 need CAP_NET_BIND_SERVICE "
                f"(docs/operation.md); grant it, or set {_another(key, number)}"
            )
        case errno.EADDRNOTAVAIL | errno.EAFNOSUPPORT:
            return f"cannot be opened: {bind_address} is not an address of this machine"
        case _:
            return f"cannot be opened: {os.strerror(exc.errno) if exc.errno else exc}"


def _another(key: str, number: int) -> str:
    """Return the key, and how the environment sets it, with a port that may be free."""
    if number < PRIVILEGED_BELOW:
        other = number + 8_000  # 443 is 8443, as usual
    else:
        other = number + 1 if number < PORT_MAX else number - 1
    return f"{key} (MONSTERMQ_{key.upper().replace('.', '__')}={other})"
