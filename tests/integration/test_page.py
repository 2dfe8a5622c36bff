"""The page at the operation port, its script run by Node.js against the real broker."""

import json
import subprocess
from pathlib import Path

import pytest
from tests.support.broker import RunningBroker
from tests.support.load import Cast
from tests.support.machine import program

pytestmark = pytest.mark.integration

DRIVER = Path(__file__).parent / "node" / "page.js"
BOUND_S = 60.0


def browse(
    broker: RunningBroker,
    topic: str = "t",
    message: str = "",
    *,
    host: str = "localhost",
) -> list[list[str]]:
    """Open the page, let it hear what is retained and then publish; return what it shows."""
    url = f"http://{host}:{broker.metrics_port}/"
    shown = subprocess.run(
        [program("node"), DRIVER, url, "page/#", topic, message, "3"],
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    return [json.loads(line) for line in shown.stdout.splitlines()]


async def retain_two(broker: RunningBroker, cast: Cast) -> None:
    peer = await cast.peer(broker.tcp_port)
    await peer.connect("peer")
    await peer.publish("page/<b>a</b>", b"<script>alert(1)</script>", 1, retain=True)
    await peer.publish("page/binary", b"\xff\x00", 1, retain=True)


@pytest.mark.parametrize("config", ["", "{WebSocket: {Path: /x&y}}"])
async def test_it_shows_what_is_retained_and_what_it_publishes(
    broker: RunningBroker, cast: Cast, config: str
) -> None:
    broker.start(config)
    await retain_two(broker, cast)
    text = "gr\u00fcn " * 40  # more bytes than one of a packet's length tells
    assert browse(broker, "page/mine", text) == [
        ["page/<b>a</b>", "<script>alert(1)</script>", "retained"],
        ["page/binary", "2 bytes: ff 00", "retained"],
        ["page/mine", text, ""],
    ]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_it_connects_to_the_host_it_came_from(
    broker: RunningBroker, cast: Cast, host: str
) -> None:
    broker.start()
    await retain_two(broker, cast)
    assert len(browse(broker, "page/mine", host=host)) == 3


def test_without_websocket_it_says_so(broker: RunningBroker) -> None:
    broker.start("{WS: 0}")
    (said,) = browse(broker)
    assert said == [
        "WebSocket is off: set WS (WS: 9000) in the configuration to listen and publish here."
    ]


def test_under_another_name_that_leads_here_it_is_refused(broker: RunningBroker) -> None:
    """As after DNS rebinding, when Host and Origin have the same name."""
    broker.start()
    (said,) = browse(broker, host="evil.example")
    assert said == [
        "403",
        f"WebSocket.Origins does not admit http://evil.example:{broker.metrics_port}: "
        "add it there, or '*' for any.",
    ]


async def test_that_name_can_be_let_in(broker: RunningBroker, cast: Cast) -> None:
    broker.start(f"WebSocket: {{Origins: ['http://wall.example:{broker.metrics_port}']}}")
    await retain_two(broker, cast)
    assert len(browse(broker, "page/mine", host="wall.example")) == 3
