"""One normative statement of MQTT 3.1.1 as data."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """What a normative statement asks for, and where we stand.

    Attributes:
        behaviour: The statement in one sentence of our own, about what can be observed.
        client: The duty is the client's; what a test can show is how the broker meets a client
            that keeps it, or breaks it.
        deferred: Why no test proves it; ``None`` means at least one must.
        divergence: Where we knowingly do something else; the tests pin what we do.
    """

    behaviour: str
    client: bool = False
    deferred: str | None = None
    divergence: str | None = None
