"""What an operator sees: counters, metrics, health, ``$SYS`` topics, logs and limits."""
