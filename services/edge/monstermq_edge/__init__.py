"""The edge: MQTT over TCP, TLS and WebSocket on top of the session engine."""
