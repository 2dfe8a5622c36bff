"""A broker whose MCP server answers."""

import json
from collections.abc import Mapping
from typing import Any

from tests.support.broker import RunningBroker


class Served(RunningBroker):
    """A broker with an MCP server."""

    def serve(
        self,
        group: Mapping[str, str] | None = None,
        *,
        mcp: Mapping[str, Any] | None = None,
        **keys: Any,
    ) -> None:
        """Start it, and wait until the MCP server answers.

        Args:
            group: What the archive group ``MCP`` has; None: there is none.
            mcp: What the section ``MCP`` has beside its port.
            keys: Other sections.
        """
        groups = [] if group is None else [{"Name": "MCP", **group}]
        self.start(self._configuration(mcp or {}, ArchiveGroups=groups, **keys))

    def refusal(self, **mcp: Any) -> tuple[int, str]:
        """Return the exit status of a start that fails, and what was said."""
        return self.run_to_end(self._configuration(mcp))

    def _configuration(self, mcp: Mapping[str, Any], **keys: Any) -> str:
        return json.dumps({"MCP": {"Enabled": True, "Port": self.mcp_port, **mcp}, **keys})
