"""The section ``MCP``, and what it may not say together."""

import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, SecretStr, Strict, WithJsonSchema

from monstermq_shared.config.addresses import is_loopback
from monstermq_shared.config.fields import (
    Address,
    FileName,
    Flag,
    Port,
    Section,
    Text,
    matching,
    suggestion,
)

FORM_OF_SECRETS = "[A-Za-z0-9._~+/=-]{16,1000}"
"""What an Authorization header can carry (RFC 6750, 2.1), and nobody guesses in a short time."""

PROBLEM_OF_SECRETS = (
    "must be 16 to 1000 letters, digits and ._~+/=- without spaces; "
    "this makes a good one: openssl rand -hex 24"
)


def is_token(text: str) -> bool:
    """Whether a text can be a token."""
    return re.fullmatch(FORM_OF_SECRETS, text) is not None


def _check_token(value: SecretStr) -> SecretStr:
    if not is_token(value.get_secret_value()):
        raise ValueError(PROBLEM_OF_SECRETS)
    return value


def _check_host(value: str) -> str:
    return value.lower()


Token = Annotated[
    SecretStr,
    Strict(),
    AfterValidator(_check_token),
    WithJsonSchema({"type": "string", "pattern": f"^{FORM_OF_SECRETS}$", "writeOnly": True}),
]
HostName = Annotated[
    str,
    *matching(
        r"^[0-9A-Za-z_-]+(\.[0-9A-Za-z_-]+)*$",
        "must be a host name such as broker.example.com, without a port",
    ),
    AfterValidator(_check_host),
]


class Mcp(Section):
    """Access for AI models."""

    enabled: Flag = False
    """Run the Model Context Protocol server."""
    port: Port = 3000
    """Its HTTP port; 0 is off."""
    bind_address: Address | None = None
    """The interface it listens on; absent: as the top level's BindAddress."""
    hosts: tuple[HostName, ...] = ()
    """Names it is reached by, beside localhost, this machine's own, and any IP address."""
    archive_group: Text | None = None
    """The group that is asked unless a call names one; absent: MCP, else the first that fits."""
    allow_publish: Flag = False
    """Let those publish that have the write token."""
    token: Token | None = None
    """What a client must show to read; absent: everybody who reaches the port reads."""
    token_file: FileName | None = None
    """Instead of Token: a file that has it, relative to the working directory."""
    write_token: Token | None = None
    """What a client must show to publish; it may read as well."""
    write_token_file: FileName | None = None
    """Instead of WriteToken: a file that has it."""

    @property
    def runs(self) -> bool:
        """Whether there is a server at all."""
        return self.enabled and self.port > 0

    @property
    def asks_for_token(self) -> bool:
        """Whether one must be shown to read."""
        return bool(self.token or self.token_file)


def mcp_problems(mcp: Mcp, groups: list[str]) -> Iterator[str]:
    """Yield what the section may not say together, or not together with the archive groups.

    Args:
        mcp: The section.
        groups: Names of the archive groups that are enabled.
    """
    for key, value, file in (
        ("Token", mcp.token, mcp.token_file),
        ("WriteToken", mcp.write_token, mcp.write_token_file),
    ):
        if value and file:
            yield f"MCP.{key} and MCP.{key}File say the same: write one or the other"
    if mcp.allow_publish and not (mcp.write_token or mcp.write_token_file):
        yield (
            "MCP.AllowPublish needs MCP.WriteToken or MCP.WriteTokenFile, which only those are "
            "given that may publish"
        )
    if mcp.token and mcp.token == mcp.write_token:
        yield "MCP.WriteToken is MCP.Token too: whoever may read could publish; give it another"
    if mcp.archive_group is not None and mcp.archive_group not in groups:
        hint = suggestion(mcp.archive_group[:80], groups) if groups else "; there is none"
        yield f"MCP.ArchiveGroup {mcp.archive_group[:80]} is no enabled archive group{hint}"


def mcp_warnings(mcp: Mcp, bind_address: str) -> Iterator[str]:
    """Yield what is allowed and may still surprise.

    Args:
        mcp: The section.
        bind_address: The top level's.
    """
    address = mcp.bind_address or bind_address
    if mcp.runs and not mcp.asks_for_token and not is_loopback(address):
        yield (
            f"MCP.Token is not set: whoever reaches port {mcp.port} of {address} can read every "
            "topic and its history; set MCP.Token, or MCP.BindAddress: localhost"
        )
    if mcp.write_token and not mcp.allow_publish:
        yield "MCP.WriteToken does nothing while MCP.AllowPublish is false"
