"""Text of MQTT clients as it stands in Markdown and in JSON: cut, escaped, and nothing invisible.

Whoever may publish can write what a model reads. So nothing of it can end a table's cell, become a
link, an image or HTML, or hide in characters that are not shown.
"""

import base64

CUT = "…"
"""Stands at the end of a text that was cut."""

# Not the underscore and the asterisk: they change how a text looks, and would make names of topics
# something that nobody can copy.
_ESCAPES = str.maketrans({character: f"\\{character}" for character in "\\|<[`"})
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

# Variation selectors count as printable, and long runs of them carry text that nobody sees.
_SELECTORS = range(0xE0100, 0xE01F0)


def plain(text: str) -> str:
    r"""Return a text of others for a cell of a Markdown table, on one line.

    What Markdown would act on has a backslash before it. What has no shape (line breaks, control
    characters, zero widths, changes of direction, tags) is written out: ``\n``, ``\u{200b}``.
    """
    escaped = text.translate(_ESCAPES)
    if escaped.isprintable() and not any(ord(mark) in _SELECTORS for mark in escaped):
        return escaped
    return "".join(map(_visible, escaped))


def _visible(character: str) -> str:
    if character.isprintable() and ord(character) not in _SELECTORS:
        return character
    return _NAMED.get(character) or f"\\u{{{ord(character):x}}}"


def clipped(text: str, limit: int) -> str:
    """Return the text, of no more than ``limit`` characters; its end shows whether it was cut."""
    return text if len(text) <= limit else text[: max(limit - 1, 0)] + CUT


def payload_text(payload: bytes, *, is_text: bool, limit: int) -> str:
    """Return the beginning of a payload as a text: as it is, or in Base64 if it is binary.

    Args:
        payload: Its bytes, or the first of them.
        is_text: Whether the whole payload is UTF-8 without NUL.
        limit: Bytes to show at most.
    """
    if is_text:
        return payload[:limit].decode(errors="ignore")
    return base64.b64encode(payload[: limit // 4 * 3]).decode()
