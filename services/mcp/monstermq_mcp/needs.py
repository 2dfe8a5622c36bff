"""What the MCP server stands on."""

from dataclasses import dataclass

from monstermq_shared.config import BrokerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What tools are given.

    Attributes:
        config: The configuration.
        version: Of the product.
    """

    config: BrokerConfig
    version: str
