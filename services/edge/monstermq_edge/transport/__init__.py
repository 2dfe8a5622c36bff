"""Transports: TCP, TLS and WebSocket drive the same connection."""
