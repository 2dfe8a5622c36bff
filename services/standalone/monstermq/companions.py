"""What runs beside the broker on the internal bus: the MCP server."""

from collections.abc import Callable
from importlib.metadata import version

from monstermq_edge.companion import Companion, Companions, none
from monstermq_edge.engines.ports import Host
from monstermq_mcp.beside import McpBeside
from monstermq_mcp.counts import Counts
from monstermq_mcp.needs import Needs
from monstermq_shared.config import BrokerConfig


def companions_of(config: BrokerConfig) -> Companions:
    """Return what makes the companions that a configuration asks for."""
    if not config.mcp.runs:
        return none

    def companions(_host: Host, _touch: Callable[[], None]) -> list[Companion]:
        needs = Needs(config=config, version=version("monstermq"))
        return [McpBeside(needs, Counts())]

    return companions
