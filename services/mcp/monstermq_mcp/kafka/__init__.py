"""What the MCP server asks of a bus on Kafka: the log, live messages, publishing."""
