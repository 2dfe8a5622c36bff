"""The MQTT core: bytes in, bytes out, no I/O and no clock."""
