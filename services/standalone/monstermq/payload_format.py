"""How payloads are shown to people; apart, because the command line is read before all else."""

from enum import StrEnum


class PayloadFormat(StrEnum):
    """How: ``auto`` is text where it is text, else hex; ``json`` is folded to one line."""

    AUTO = "auto"
    TEXT = "text"
    JSON = "json"
    HEX = "hex"
    BASE64 = "base64"
