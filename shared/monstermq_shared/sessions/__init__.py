"""Sessions: the port a connection talks to, and the engines behind it."""
