"""The bus: one port, one adapter per backend."""
