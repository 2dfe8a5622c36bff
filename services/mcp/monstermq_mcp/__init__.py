"""The MCP and REST server over the stores. Not in this release."""
