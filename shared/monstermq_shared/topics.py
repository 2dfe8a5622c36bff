"""Topic names and topic filters: what MQTT allows, and which filter matches which name."""

from monstermq_shared.errors import InvalidTopic

TOPIC_SIZE_MAX = 65_535
"""Bytes of UTF-8 in the longest topic name or filter [MQTT-4.7.3-3]."""

_SHOWN_MAX = 80
"""Characters of a refused topic that an error message repeats."""

_CONTROL_CHARACTERS = [*range(0x20), *range(0x7F, 0xA0)]
_ESCAPES = {
    code: "".join(f"%{byte:02X}" for byte in chr(code).encode())
    for code in [*map(ord, "%/+#"), *_CONTROL_CHARACTERS]
}


def decode_topic_name(raw: bytes, *, levels_max: int) -> str:
    """Read a topic name as it stood on the wire. A byte order mark is kept [MQTT-1.5.3-3].

    Args:
        raw: The bytes, without the length that precedes them in a packet.
        levels_max: How many levels the configuration allows.

    Raises:
        InvalidTopic: It is not UTF-8 (overlong forms and surrogates are not) [MQTT-1.5.3-1], or
            not a topic name, see ``check_topic_name``.
    """
    if len(raw) > TOPIC_SIZE_MAX:
        raise _too_long(len(raw))
    try:
        topic = raw.decode()
    except UnicodeDecodeError as exc:
        problem = f"byte {exc.start} of the topic name is not UTF-8: {exc.reason}"
        raise InvalidTopic(problem, clause="MQTT-1.5.3-1") from exc
    # What is wrong is worked out only if something is: this is done for every new topic.
    if not topic or "\0" in topic or "#" in topic or "+" in topic or topic.count("/") >= levels_max:
        check_topic_name(topic, levels_max=levels_max)
    return topic


def check_topic_name(topic: str, *, levels_max: int) -> None:
    """Refuse what is not a topic name.

    Args:
        topic: The name to check.
        levels_max: How many levels the configuration allows.

    Raises:
        InvalidTopic: It is empty [MQTT-4.7.3-1], contains a wildcard [MQTT-4.7.1-1] or NUL
            [MQTT-1.5.3-2], is longer than 65,535 bytes [MQTT-4.7.3-3], is not Unicode text
            [MQTT-1.5.3-1], or has too many levels.
    """
    _check_text(topic, levels_max)
    if is_wildcard(topic):
        problem = f"topic name {_shown(topic)} contains a wildcard; only filters may"
        raise InvalidTopic(problem, clause="MQTT-4.7.1-1")


def check_topic_filter(topic_filter: str, *, levels_max: int) -> None:
    """Refuse what is not a topic filter.

    Args:
        topic_filter: The filter to check.
        levels_max: How many levels the configuration allows.

    Raises:
        InvalidTopic: ``#`` is not the last level [MQTT-4.7.1-2], a wildcard does not fill its
            level [MQTT-4.7.1-2] [MQTT-4.7.1-3], or the text is refused as in
            ``check_topic_name``.
    """
    _check_text(topic_filter, levels_max)
    if not is_wildcard(topic_filter):
        return
    levels = topic_filter.split("/")
    last = levels.pop()
    if any("#" in level for level in levels) or ("#" in last and last != "#"):
        problem = (
            f"in filter {_shown(topic_filter)} the wildcard # is not a level of its own at the end"
        )
        raise InvalidTopic(problem, clause="MQTT-4.7.1-2")
    if any("+" in level and level != "+" for level in [*levels, last]):
        problem = (
            f"in filter {_shown(topic_filter)} the wildcard + shares its level with other text"
        )
        raise InvalidTopic(problem, clause="MQTT-4.7.1-3")


def matches(topic_filter: str, topic: str) -> bool:
    """Tell whether a valid filter matches a valid topic name, in time linear in their length.

    ``#`` stands for the parent level and everything below it, ``+`` for exactly one level, which
    may be empty. A filter that begins with a wildcard never matches a topic that begins with
    ``$`` [MQTT-4.7.2-1].
    """
    if topic_filter == topic:
        return True
    if topic.startswith("$") and topic_filter.startswith(("+", "#")):
        return False
    wanted = topic_filter.split("/")
    levels = topic.split("/", len(wanted))  # the levels beyond are of no interest one by one
    if wanted[-1] == "#":
        wanted.pop()
        if len(levels) < len(wanted):
            return False
    elif len(levels) != len(wanted):
        return False
    # Not strict: what lies below the parent of # matches whatever it is.
    for want, level in zip(wanted, levels, strict=False):
        if want not in (level, "+"):
            break
    else:
        return True
    return False


def is_wildcard(topic_filter: str) -> bool:
    """Tell whether a valid filter can match more than the one topic it spells."""
    return "+" in topic_filter or "#" in topic_filter


def is_system_topic(topic: str) -> bool:
    """Tell whether a valid topic, or all that a valid filter matches, is the broker's own.

    That is ``$SYS`` and everything below it, but not ``$SYSTEM``.
    """
    return topic == "$SYS" or topic.startswith("$SYS/")


def memory_size(topic: str) -> int:
    """Return about how many bytes the characters of a topic take in memory, at most."""
    return len(topic) if topic.isascii() else 4 * len(topic)


def escape_level(text: str) -> str:
    """Percent-escape a text, such as a client id, for use as one level of a topic.

    ``%``, ``/``, ``+``, ``#``, NUL and the control characters (C0, DEL, C1) become ``%XX`` for each
    byte of their UTF-8; all else stays. Distinct texts stay distinct. The result has up to three
    times the bytes, so a topic made of it may be too long for MQTT.
    """
    return text.translate(_ESCAPES)


def _check_text(text: str, levels_max: int) -> None:
    """Check what names and filters have in common."""
    if not text:
        raise InvalidTopic("a topic has at least one character", clause="MQTT-4.7.3-1")
    size = len(text) if text.isascii() else _encoded_size(text)
    if size > TOPIC_SIZE_MAX:
        raise _too_long(size)
    if "\0" in text:
        raise InvalidTopic(f"topic {_shown(text)} contains NUL", clause="MQTT-1.5.3-2")
    levels = text.count("/") + 1
    if levels > levels_max:
        raise InvalidTopic(f"topic {_shown(text)} has {levels} levels, the limit is {levels_max}")


def _encoded_size(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError as exc:
        problem = f"topic {_shown(text)} contains half a surrogate pair"
        raise InvalidTopic(problem, clause="MQTT-1.5.3-1") from exc


def _too_long(size: int) -> InvalidTopic:
    problem = f"a topic of {size} bytes is longer than {TOPIC_SIZE_MAX}"
    return InvalidTopic(problem, clause="MQTT-4.7.3-3")


def _shown(text: str) -> str:
    """Quote the text for an error message, cut to a size that fits a log line."""
    return ascii(text) if len(text) <= _SHOWN_MAX else ascii(text[:_SHOWN_MAX]) + "..."


_CLIENT_LEVELS = (["clients"], ["+"], ["#"])
"""The second level, if any, of filters that can match a client's statistics."""


def reaches_client_statistics(topic_filter: str) -> bool:
    """Whether a filter can match ``$SYS/clients/<id>/statistics``."""
    return is_system_topic(topic_filter) and topic_filter.split("/")[1:2] in _CLIENT_LEVELS
