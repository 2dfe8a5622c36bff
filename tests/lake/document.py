"""What the document tells to type, as it stands there, for the tests to run."""

import re
from functools import cache

from tests.support.repository import ROOT

DOCUMENT = "docs/data-lake.md"
SERVERS, TOPIC = "localhost:9092", "monstermq-stream"
"""How the document calls Kafka and the topic of the bus."""

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@cache
def _sections() -> dict[str, str]:
    """Return the text below each heading, down to the next heading of any level."""
    text = (ROOT / DOCUMENT).read_text(encoding="utf-8")
    parts = re.split(r"^#+ (.*)\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def blocks(section: str, language: str) -> list[str]:
    """Return the blocks of code below a heading.

    Args:
        section: The heading, without its signs.
        language: What the block says it is, such as ``sh`` or ``sql``.

    Raises:
        AssertionError: There is none.
    """
    found = [code for of, code in _BLOCK.findall(_sections()[section]) if of == language]
    assert found, f"{DOCUMENT} has no block of {language} below {section}"
    return found


def block(section: str, language: str) -> str:
    """Return the only block of a language below a heading."""
    (only,) = blocks(section, language)
    return only
