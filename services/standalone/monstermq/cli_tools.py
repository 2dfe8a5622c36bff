"""The command lines of ``tail`` and ``replay``."""

import math
from argparse import ArgumentTypeError
from collections.abc import Sequence

from monstermq.invocations import Replay, Tail
from monstermq.moments import begin_of, moment_of, positions_of
from monstermq.payload_format import PayloadFormat
from monstermq_shared.errors import ConfigError
from monstermq_shared.operation.command_line import CommandLine, file_name, whole_number

TOOLS_HELP = """\
  tail [FILTER]      on a Kafka bus: the records of the log as they come; else by MQTT, what the
                     running broker delivers. With --from they begin in the past; with --to
                     they end, and with --limit N after so many
      --from T       a time, now, -10m (s, m, h, d, w ago), a position such as 3:17, or
                     beginning
      --to T         a time, -1m, or now; tail goes on until a time that is still to come
      --archive NAME the past from an archive group instead
      --control      control records, too
      --payload HOW  auto (default), text, json (on one line), hex, base64
      --qos N        by MQTT: subscribe with QoS 0 (default: what is too fast is dropped), 1, 2
  replay FILTER --from T [--to T] [--archive NAME]
  replay FILE        send past messages again to the running broker, in their own rhythm: from
                     the log, an archive group, or a file that tail --json has written
      --speed X      so many times faster; --as-fast-as-possible
      --into URL     to another broker: mqtt://host:1883, mqtts://user:password@host:8883
      --topic-prefix P     before every topic, such as replay/
      --dry-run      only show what would be sent
      --qos N, --retain yes|no   instead of what was recorded
      --archive-again      archives keep it like other messages; they pass over a replay else
      --with-replays       also what was itself sent by a replay
      --continue P,... go on in the log where a call has stopped, as that has told
      --skip N       the same in a file or archive group: leave the first N out
      --patience S   seconds for which a broker that has gone is tried again (60)
"""

_TIMES = frozenset({"-from", "--from", "-to", "--to"})
_NUMBER_MAX = 10**15
_SPEED_MAX = 1_000_000.0
_PATIENCE_MAX = 86_400.0


def parse_tail(arguments: Sequence[str]) -> Tail:
    """Read the arguments behind ``tail``.

    Raises:
        ConfigError: They are wrong.
    """
    parser = _parser()
    parser.add_argument("filter", metavar="FILTER", nargs="?", default="#")
    parser.option("control", action="store_true")
    parser.option("payload", type=_payload_format, metavar="HOW")
    parser.option("limit", type=_count, metavar="N")
    parser.option("qos", type=_qos, metavar="N")
    parsed = parser.parse(_with_values(arguments))
    if parsed.json and parsed.payload is not None:
        raise ConfigError("--payload is for people: with --json a payload is as it was recorded")
    return Tail(
        config=parsed.config,
        topic_filter=parsed.filter,
        begin=getattr(parsed, "from"),
        until_ms=None if parsed.to is None else parsed.to.time_ms,
        control=parsed.control,
        payload_format=parsed.payload or PayloadFormat.AUTO,
        archive=parsed.archive,
        limit=parsed.limit,
        qos=parsed.qos,
        as_json=parsed.json,
    )


def parse_replay(arguments: Sequence[str]) -> Replay:
    """Read the arguments behind ``replay``.

    Raises:
        ConfigError: They are wrong.
    """
    parser = _parser()
    parser.add_argument("what", metavar="FILTER or FILE")
    parser.option("speed", type=_speed, metavar="X")
    parser.option("as-fast-as-possible", action="store_true")
    parser.option("into", metavar="URL")
    parser.option("topic-prefix", metavar="P", default="")
    parser.option("dry-run", action="store_true")
    parser.option("qos", type=_qos, metavar="N")
    parser.option("retain", type=_yes_or_no, metavar="yes|no")
    parser.option("archive-again", action="store_true")
    parser.option("with-replays", action="store_true")
    parser.option("skip", type=_count_or_zero, metavar="N", default=0)
    parser.option("continue", type=positions_of, metavar="P,...")
    parser.option("patience", type=_patience, metavar="S", default=60.0)
    parsed = vars(parser.parse(_with_values(arguments)))
    speed = 1.0 if parsed["speed"] is None else parsed["speed"]
    if parsed["as-fast-as-possible"]:
        if parsed["speed"] is not None:
            raise ConfigError("--speed and --as-fast-as-possible exclude each other")
        speed = None
    return Replay(
        config=parsed["config"],
        what=parsed["what"],
        begin=parsed["from"],
        until_ms=None if parsed["to"] is None else parsed["to"].time_ms,
        archive=parsed["archive"],
        into=parsed["into"],
        topic_prefix=parsed["topic-prefix"],
        speed=speed,
        dry_run=parsed["dry-run"],
        qos=parsed["qos"],
        retain=parsed["retain"],
        archive_again=parsed["archive-again"],
        with_replays=parsed["with-replays"],
        skip=parsed["skip"],
        positions=parsed["continue"],
        patience_s=parsed["patience"],
        as_json=parsed["json"],
    )


def _parser() -> CommandLine:
    parser = CommandLine("monstermq")
    parser.option("config", type=file_name, metavar="FILE")
    parser.option("json", action="store_true")
    parser.option("from", type=begin_of, metavar="T")
    parser.option("to", type=moment_of, metavar="T")
    parser.option("archive", metavar="NAME")
    return parser


def _with_values(arguments: Sequence[str]) -> list[str]:
    """Join --from and -10m, which argparse would take for an option."""
    joined: list[str] = []
    rest = iter(arguments)
    for word in rest:
        value = next(rest, None) if word in _TIMES else None
        joined.append(word if value is None else f"{word}={value}")
    return joined


def _payload_format(text: str) -> PayloadFormat:
    try:
        return PayloadFormat(text)
    except ValueError as exc:
        raise ArgumentTypeError(f"{text[:80]!r} is none of {', '.join(PayloadFormat)}") from exc


def _count(text: str) -> int:
    return whole_number(text, 1, _NUMBER_MAX)


def _count_or_zero(text: str) -> int:
    return whole_number(text, 0, _NUMBER_MAX)


def _qos(text: str) -> int:
    if text not in {"0", "1", "2"}:
        raise ArgumentTypeError(f"{text[:80]!r} is not 0, 1 or 2")
    return int(text)


def _yes_or_no(text: str) -> bool:
    if text not in {"yes", "no"}:
        raise ArgumentTypeError(f"{text[:80]!r} is not yes or no")
    return text == "yes"


def _speed(text: str) -> float:
    return _real(text, _SPEED_MAX)


def _patience(text: str) -> float:
    return _real(text, _PATIENCE_MAX)


def _real(text: str, highest: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= highest:
        raise ArgumentTypeError(f"{text[:80]!r} is not a number above 0, up to {highest:g}")
    return number
