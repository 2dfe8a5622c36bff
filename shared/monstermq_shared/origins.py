"""Where a web page comes from, as browsers say it in the Origin header (RFC 6454, 6.1)."""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import NamedTuple, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address

ANY_ORIGIN = "*"
"""In a list of origins: every one."""

OPAQUE_ORIGIN = "null"
"""What browsers send for a page without a place of its own: a file, ``about:blank``, a sandboxed
frame. Every page can make itself such a frame, so admitting it is admitting all."""

ORIGIN_LENGTH_MAX = 320
"""Characters: a host name has at most 253, schemes are short."""

_HOST_LENGTH_MAX = 253  # RFC 1035, 2.3.4, as text
_PORT_MAX = 65_535
_DEFAULT_PORTS = {"http": 80, "https": 443}
_FORM = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<host>[a-z0-9._-]+))"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?",
    re.ASCII,
)
_NUMBERS = re.compile(r"[0-9.]+", re.ASCII)


class Origin(NamedTuple):
    """An origin in one spelling: lower case, no default port, IPv6 compressed and in brackets."""

    scheme: str
    host: str
    port: int | None

    def __str__(self) -> str:
        """Return it as browsers write it."""
        return f"{self.scheme}://{self.host}" + ("" if self.port is None else f":{self.port}")

    @property
    def address(self) -> Address | None:
        """The host, if it is an address and not a name."""
        return parse_address(self.host.removeprefix("[").removesuffix("]"))


def parse_origin(text: str) -> Origin:
    """Read ``scheme://host[:port]``, and nothing that only looks like it.

    Strict, because what passes is compared with what is trusted: no path, no user, no white space,
    no percent sign, no dot at the end of the host, and four whole numbers where there are only
    digits.

    Raises:
        ValueError: It is something else.
    """
    found = _FORM.fullmatch(text.lower()) if text.isascii() else None
    if found is None or len(text) > ORIGIN_LENGTH_MAX:
        raise ValueError("is not an origin: write scheme://host or scheme://host:port")
    scheme: str = found["scheme"]
    port = None if found["port"] is None else int(found["port"])
    if port is not None and port > _PORT_MAX:
        raise ValueError(f"has a port above {_PORT_MAX}")
    return Origin(scheme, _host(found), None if port == _DEFAULT_PORTS.get(scheme) else port)


def parse_address(text: str) -> Address | None:
    """Return the address that a text without a zone spells, None if it spells none."""
    try:
        return IPv6Address(text) if ":" in text else IPv4Address(text)
    except AddressValueError:
        return None


def _host(found: re.Match[str]) -> str:
    literal = found["ipv6"]
    if literal is not None:
        address = parse_address(literal)
        if not isinstance(address, IPv6Address):
            raise ValueError("has brackets around something that is not an IPv6 address")
        return f"[{address}]"
    host = found["host"]
    if len(host) > _HOST_LENGTH_MAX or "" in host.split("."):
        raise ValueError("has a host that is too long, or whose labels are not all there")
    if _NUMBERS.fullmatch(host) and parse_address(host) is None:
        raise ValueError("has a host of digits that is not an IPv4 address")
    return host
