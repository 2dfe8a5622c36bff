"""Text of MQTT clients as it stands in Markdown: cut, escaped, and with nothing invisible.

Whoever may publish can write what a model reads. So nothing of it can end a table's cell, become a
link, an image or HTML, or hide in characters that are not shown.
"""

import re

CUT = "…"
"""Stands at the end of a text that was cut."""

# Not the underscore and the asterisk: they change how a text looks, and would make names of topics
# something that nobody can copy.
_ESCAPES = str.maketrans({character: f"\\{character}" for character in "\\|<[`"})
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

# What Python counts as printable and nobody sees (Unicode: default ignorable, and blank): a carrier
# of hidden text.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)

# GitHub's Markdown makes links of addresses that stand alone.
_ADDRESS = re.compile(r"(?P<scheme>\b(?:https?|ftp|mailto|xmpp)):|(?P<www>\bwww)\.", re.IGNORECASE)


def plain(text: str) -> str:
    r"""Return a text of others for a cell of a Markdown table, on one line.

    What Markdown would act on has a backslash before it. What has no shape (line breaks, control
    characters, zero widths, changes of direction, tags) is written out: ``\n``, ``\u{200b}``.
    """
    escaped = _ADDRESS.sub(_inert, text.translate(_ESCAPES))
    if escaped.isprintable() and (escaped.isascii() or not _UNSEEN.search(escaped)):
        return escaped
    return "".join(map(_visible, escaped))


def _inert(address: re.Match[str]) -> str:
    return f"{address['scheme']}\\:" if address["scheme"] else f"{address['www']}\\."


def _visible(character: str) -> str:
    if character.isprintable() and not _UNSEEN.match(character):
        return character
    return _NAMED.get(character) or f"\\u{{{ord(character):x}}}"


def clipped(text: str, limit: int) -> str:
    """Return the text, of no more than ``limit`` characters; its end shows whether it was cut."""
    return text if len(text) <= limit else text[: max(limit - 1, 0)] + CUT
