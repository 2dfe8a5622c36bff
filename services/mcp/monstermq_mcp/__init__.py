"""The MCP server: how AI models, and who works with them, get at live and past data."""
