"""Five rooms with a thermometer each, for something to ask about.

    .venv/bin/python examples/simulated-rooms.py --past 2      # before the broker starts: two days
    .venv/bin/pip install paho-mqtt
    .venv/bin/python examples/simulated-rooms.py               # while it runs: now, until Ctrl-C

What a topic means is retained under its name with /<config>, where searches look for it. The past
is written by a broker in this process, which takes messages with their own times; MQTT has none.
So it needs MonsterMQ's own Python environment, and the configuration and variables of the broker.
"""

import argparse
import asyncio
import json
import math
import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOMS = {
    "kitchen": (21.0, 2.5, "kitchen, ground floor, south side"),
    "living-room": (21.5, 1.0, "living room, ground floor"),
    "bedroom": (18.0, 0.8, "bedroom, first floor, north side"),
    "bathroom": (22.5, 1.5, "bathroom, first floor"),
    "cellar": (14.0, 0.2, "cellar"),
}
"""Degrees in the mean, how much the day changes them, and where it is."""

DAY_S = 86_400
BETWEEN_S = 60
"""Seconds between the messages of a room in the past."""


def topic_of(room: str) -> str:
    """Return where a room's values are published."""
    return f"rooms/{room}/climate"


def climate(room: str, at_s: float) -> bytes:
    """Return what a room's sensor says; it is warmest at three in the afternoon, UTC."""
    mean, swing, _ = ROOMS[room]
    sun = math.cos((at_s / DAY_S - 15 / 24) * 2 * math.pi)
    temperature = mean + swing * sun + random.gauss(0, 0.1)
    humidity = 48 - 2 * (temperature - mean) + random.gauss(0, 0.5)
    return json.dumps(
        {"temperature": round(temperature, 2), "humidity": round(humidity, 1)}
    ).encode()


def descriptions() -> Iterator[tuple[str, bytes]]:
    """Yield (topic, payload) of what is retained of each room."""
    for room, (_, _, place) in ROOMS.items():
        text = f"Room climate: temperature in °C, relative humidity in %; {place}"
        yield (
            f"{topic_of(room)}/<config>",
            json.dumps({"Description": text}, ensure_ascii=False).encode(),
        )


def publish_now(host: str, port: int) -> None:
    """Publish until Ctrl-C."""
    import paho.mqtt.client as mqtt  # noqa: PLC0415 - only here it must be there

    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="simulated-rooms")
    try:
        client.connect(host, port)
    except OSError as exc:
        sys.exit(f"no broker answers at {host}:{port}: {exc}")
    client.loop_start()
    for topic, payload in descriptions():
        client.publish(topic, payload, qos=1, retain=True)
    while True:
        for room in ROOMS:
            client.publish(topic_of(room), climate(room, time.time()), qos=1)
        time.sleep(1)


async def write_past(config: Path | None, days: float) -> int:
    """Publish to a broker here what the rooms would have said; return how many messages."""
    from monstermq_edge.broker import Broker  # noqa: PLC0415 - as all below, only here
    from monstermq_shared.bus.ports import Stamp  # noqa: PLC0415
    from monstermq_shared.config import load_config  # noqa: PLC0415
    from monstermq_shared.errors import ConfigError  # noqa: PLC0415
    from monstermq_shared.records import Record  # noqa: PLC0415

    loaded = load_config(config, os.environ).config
    if loaded.kafka.bus.enabled:
        raise ConfigError(
            "on a Kafka bus the past cannot be written, because Kafka refuses what is older than"
            " Kafka.Bus.LatenessS; run the script without --past, beside the broker"
        )
    broker = Broker(loaded, "simulated rooms")
    await broker.start()
    log = broker.host.bus.messages
    now_s = int(time.time())
    begin_s = now_s - int(days * DAY_S)
    messages = [(begin_s, topic, payload, True) for topic, payload in descriptions()]
    for at_s in range(begin_s, now_s, BETWEEN_S):
        messages += [(at_s, topic_of(room), climate(room, at_s), False) for room in ROOMS]
    run = os.urandom(8)
    for first in range(0, len(messages), 500):
        records = [
            Record(topic, payload, 1, retained, "simulated-rooms", at_s * 1000, 0)
            for at_s, topic, payload, retained in messages[first : first + 500]
        ]
        await log.append(0, records, Stamp(run, first))
    await broker.stop()
    return len(messages)


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="Simulates five rooms with a thermometer each.")
    parser.add_argument("--past", type=float, metavar="DAYS", help="write the history, and end")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the broker's, for --past")
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=1883)
    arguments = parser.parse_args()
    if arguments.past:
        from monstermq_shared.errors import MonsterError  # noqa: PLC0415

        try:
            count = asyncio.run(write_past(arguments.config, arguments.past))
        except MonsterError as exc:
            sys.exit(f"nothing was written: {exc}")
        sys.stdout.write(f"{count} messages of {len(ROOMS)} rooms\n")
        return
    with suppress(KeyboardInterrupt):
        publish_now(arguments.host, arguments.port)


if __name__ == "__main__":
    main()
