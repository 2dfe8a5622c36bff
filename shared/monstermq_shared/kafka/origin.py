"""The mark of what a broker has written to Kafka, by which it knows that again."""

ORIGIN = "monstermq-log"
"""The header: its value is the generation of the log that the message stands in."""


def origin_header(generation: str) -> tuple[str, bytes]:
    """Return the header of what comes out of a log."""
    return (ORIGIN, generation.encode())
