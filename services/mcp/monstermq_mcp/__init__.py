"""The MCP and REST server over the stores. It comes with its own issue."""
